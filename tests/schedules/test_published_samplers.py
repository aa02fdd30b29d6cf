"""CFG++ as a schedule against its own algorithm: exact where the class says so, refused or different elsewhere."""

import itertools

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.schedules import CFGPlusPlus, Constant
from cfglab.step import Step, steps


class Linear:
    """A denoiser that is linear in x, at every level another one; float64."""

    def __init__(self, seed, levels, size=6):
        random = np.random.default_rng(seed)
        self.a = random.normal(size=(levels, 2, size, size)) / size
        self.b = random.normal(size=(levels, 2, size))

    def noise(self, x, i):
        """The unconditional and the conditional noise at step i."""
        return [self.a[i, k] @ x + self.b[i, k] for k in (0, 1)]


def stable_diffusion_alphas(n):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.append(np.cumprod(1 - betas)[np.linspace(999, 0, n).round().astype(int)], 1.0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_the_schedule_is_cfg_plus_plus_to_machine_precision(n, lam, eta):
    """DDIM in the paper's variables: denoise with u + lam (c - u), renoise with u; against plain guidance with w."""
    alphas = stable_diffusion_alphas(n)
    w = CFGPlusPlus(lam=lam, eta=eta).values(n, list(np.sqrt((1 - alphas) / alphas)))
    model, random = Linear(n, n), np.random.default_rng(3)
    published = plain = random.normal(size=6)
    for i in range(n):
        a, after = alphas[i], alphas[i + 1]
        spread = eta * np.sqrt((1 - after) / (1 - a) * (1 - a / after))
        keep, z = np.sqrt(max(0.0, 1 - after - spread**2)), random.normal(size=6)
        u, c = model.noise(published, i)
        x0 = (published - np.sqrt(1 - a) * (u + lam * (c - u))) / np.sqrt(a)
        published = np.sqrt(after) * x0 + keep * u + spread * z
        u, c = model.noise(plain, i)
        guided = u + w[i] * (c - u)
        x0 = (plain - np.sqrt(1 - a) * guided) / np.sqrt(a)
        plain = np.sqrt(after) * x0 + keep * guided + spread * z
    np.testing.assert_allclose(plain, published, rtol=0, atol=1e-12 * np.abs(published).max())


def test_flow_matching_euler_from_pure_noise():
    """x = (1 - t) x0 + t noise: the first level is infinite as noise over signal, and w is lam there."""
    times = np.linspace(1, 0, 21)
    w = CFGPlusPlus(lam=0.7).values(20, [t / (1 - t) if t < 1 else np.inf for t in times])
    assert w[0] == w[-1] == 0.7
    model = Linear(5, 20)
    published = plain = np.random.default_rng(1).normal(size=6)
    for i, (t, after) in enumerate(itertools.pairwise(times)):
        u, c = model.noise(published, i)  # velocities here: x0 = x - t v, noise = x + (1 - t) v
        published = (1 - after) * (published - t * (u + 0.7 * (c - u))) + after * (published + (1 - t) * u)
        u, c = model.noise(plain, i)
        plain = plain + (after - t) * (u + w[i] * (c - u))
    np.testing.assert_allclose(plain, published, rtol=0, atol=1e-12 * np.abs(published).max())


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
HOSTS = {
    "DDIMScheduler": (dict(SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1), 0.0),
    "DDIMScheduler eta 1": (dict(SD, clip_sample=False, set_alpha_to_one=True, steps_offset=1), 1.0),
    "DDPMScheduler": (dict(SD, clip_sample=False), 1.0),
    "EulerDiscreteScheduler": (SD, 0.0),
    "EulerAncestralDiscreteScheduler": (SD, 1.0),
    "FlowMatchEulerDiscreteScheduler": ({"shift": 3.0}, 0.0),
    "LMSDiscreteScheduler": (SD, None),
    "HeunDiscreteScheduler": (SD, None),
}


@pytest.mark.parametrize("name", HOSTS)
def test_on_the_samplers_of_diffusers(name):
    """The algorithm on the sampler's own levels, read from it, in float64; the sampler steps plain guidance with w.

    In units where x = x0 + sigma noise every exact sampler is x0 + sigma_down * noise + sigma_up * z."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    from cfglab.denoising.step_reader import read_steps

    config, eta = HOSTS[name]
    scheduler = getattr(diffusers, name.split()[0])(**config)
    scheduler.set_timesteps(12)
    run, schedule, flow = read_steps(scheduler), CFGPlusPlus(lam=0.6, eta=eta or 0.0), "Flow" in name
    if "Heun" in name:
        with pytest.raises(InputError, match=r"a second evaluation does not; sample with ddim or euler\.$"):
            [schedule(step) for step in run]
        return
    start = torch.randn(1, 6, 1, 1, generator=torch.manual_seed(0), dtype=torch.float64)
    host, model = start * float(getattr(scheduler, "init_noise_sigma", 1)), Linear(2, len(run))
    unit = "LMS" in name or ("Euler" in name and not flow)  # these keep x with alpha = 1
    published, noises = host.clone(), torch.Generator().manual_seed(9)
    given = torch.Generator().manual_seed(9)
    for i, (t, step) in enumerate(zip(scheduler.timesteps, run, strict=True)):
        alpha = 1.0 if unit else (1 + step.sigma**2) ** -0.5
        after = 1.0 if unit else 1 / (1 + step.next_sigma) if flow else (1 + step.next_sigma**2) ** -0.5
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(host, t)  # Euler and LMS ask for the call
        ratio = step.next_sigma / step.sigma
        down = step.next_sigma * (1 - (eta or 0) ** 2 * (1 - ratio**2)) ** 0.5
        up = max(0.0, step.next_sigma**2 - down**2) ** 0.5

        u, c = (torch.from_numpy(p).view(1, 6, 1, 1) for p in model.noise(host.flatten().numpy(), i))
        guided = u + schedule(step) * (c - u)
        options = {"eta": eta} if "DDIM" in name else {}
        options |= {} if flow or "LMS" in name else {"generator": given}
        host = scheduler.step(guided, t, host, **options).prev_sample

        u, c = (torch.from_numpy(p).view(1, 6, 1, 1) for p in model.noise(published.flatten().numpy(), i))
        if flow:  # predictions are velocities, levels are times: the first is 1, which is infinite as noise over signal
            x0 = published - step.host_sigma * (u + 0.6 * (c - u))
            noise = published + (1 - step.host_sigma) * u
        else:
            x0, noise = published / alpha - step.sigma * (u + 0.6 * (c - u)), u
        z = torch.randn(noise.shape, generator=noises, dtype=torch.float64) if eta else torch.zeros_like(noise)
        published = after * (x0 + down * noise + up * z)
    apart = float((host - published).abs().max() / published.abs().max())
    if eta is None:
        assert apart > 1e-3  # LMS reuses earlier predictions: an approximation, and measurably so
    else:
        assert apart < 2e-5


def test_published_numbers_of_the_law():
    """With Stable Diffusion's 50 Euler levels and lam 0.6 w is a hump around 7, and grows with the number of steps."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    levels = np.sqrt(1 / np.cumprod(1 - betas) - 1)
    w = {}
    for n in (25, 50):
        sigmas = [*np.interp(np.linspace(999, 0, n), np.arange(1000), levels), 0.0]
        w[n] = CFGPlusPlus(lam=0.6).values(n, sigmas)
    assert [w[50][i] for i in (0, 25, 40, 49)] == pytest.approx([5.2, 9.2, 6.8, 0.6], abs=0.06)
    assert sum(w[50]) / 50 == pytest.approx(7.0, abs=0.06)
    assert sum(w[50]) / 50 > 1.8 * sum(w[25]) / 25


def test_what_cfg_plus_plus_needs():
    schedule = CFGPlusPlus(lam=0.6)
    assert schedule.reads_sigma()
    with pytest.raises(InputError, match=r"at a step without sigma: .* give sigmas=, one a step\.$"):
        schedule.values(5)
    with pytest.raises(InputError, match=r"at step 3 from sigma 2 to 2: CFG\+\+ is a schedule only where the noise"):
        schedule(Step(3, 9, sigma=2.0, next_sigma=2.0))
    with pytest.raises(InputError, match="noise falls within the step"):
        schedule(Step(3, 9, sigma=0.0, next_sigma=0.0))
    for word in (lambda s: s.reversed(), lambda s: s.warmed_up(2), lambda s: s.then(3, at=2).reversed()):
        with pytest.raises(InputError, match="another step's sigma is not known"):
            word(schedule)
    sigmas = [14.0, 5.0, 1.6, 0.5]
    inside = schedule.inside(sigma=(1, 9))
    assert inside.values(4, sigmas) == [1.0, *schedule.values(4, sigmas)[1:3], 1.0]
    assert Constant(3).then(schedule, at=2).values(4, sigmas)[2:] == schedule.values(4, sigmas)[2:]
    assert [step.next_sigma for step in steps(4, sigmas)] == [5.0, 1.6, 0.5, 0.0]
