"""guided() around the denoisers of other code bases: their own samplers and their own guidance as oracles."""

import copy
import itertools
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cfglab as cl
from cfglab.denoising.intercepted import NAME
from cfglab.errors import InputError
from cfglab.mixtures.noise_paths import karras
from tests.hosts.code_base import Network, dpmpp_2m, euler, functions_of, heun, sample

SIGMAS = karras(8, 80.0, 0.02)
CLASSES = torch.tensor([1, 2, 3])
NONE = torch.tensor([10])
EXACT: dict[str, float] = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def network() -> Network:
    return Network().double()


def edm(network: Network) -> Callable[..., Tensor]:
    """D(x, sigma) as k-diffusion and EDM wrap a network that predicts the noise."""

    def denoise(x: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        return x - level * network(x / (level**2 + 1).sqrt(), sigma, y)

    return denoise


def shifted(x: Tensor, level: Tensor, c: Tensor) -> Tensor:  # noqa: ARG001
    """A denoiser without a network."""
    return x + c


def plain(denoise: Callable[..., Tensor], w: float) -> Callable[..., Tensor]:
    """k-diffusion's CFGDenoiser: both in one batch, uncond + (cond - uncond) * scale."""

    def both(x: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        labels = torch.cat([NONE.expand(len(x)), y])
        uncond, cond = denoise(torch.cat([x, x]), torch.cat([sigma, sigma]), y=labels).chunk(2)
        return uncond + (cond - uncond) * w

    return both


@pytest.mark.parametrize("sampler", [euler, heun, dpmpp_2m])
def test_plain_guidance_is_that_of_k_diffusion_in_every_sampler(network: Network, sampler: Any) -> None:
    x = sample() * 80
    mine = cl.guided(edm(network), 3, uncond={"y": NONE}, levels=SIGMAS, two_calls=sampler is heun)
    wanted = sampler(plain(edm(network), 3.0), x, SIGMAS, y=CLASSES)
    torch.testing.assert_close(sampler(mine, x, SIGMAS, y=CLASSES), wanted, **EXACT)
    assert {record.step.index for record in mine.trace.steps} == set(range(8))


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpmpp_2m", "sample_lms"])
def test_plain_guidance_in_the_samplers_of_k_diffusion_itself(network: Network, name: str) -> None:
    helpers = ("to_d", "linear_multistep_coeff", name)
    from scipy import integrate

    utils = SimpleNamespace(append_dims=lambda x, dims: x[(..., *[None] * (dims - x.ndim))])
    known = {"trange": lambda count, **_: range(count), "utils": utils, "integrate": integrate}
    *_, run = functions_of("K_DIFFUSION", "k_diffusion/sampling.py", *helpers, **known)
    mine = cl.guided(edm(network), 3, uncond={"y": NONE}, levels=SIGMAS, two_calls=name == "sample_heun")
    sigmas, x = torch.tensor(SIGMAS, dtype=torch.float64), sample() * 80
    wanted = run(plain(edm(network), 3.0), x, sigmas, extra_args={"y": CLASSES})
    torch.testing.assert_close(run(mine, x, sigmas, extra_args={"y": CLASSES}), wanted, **EXACT)


def edm2_sampler(net: Any, gnet: Any, noise: Tensor, labels: Tensor, guidance: float, count: int) -> Tensor:
    """Algorithm 1 of 2206.00364 without churn; guidance as 2406.02507 has it, lerp(D_guide, D, w)."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return gnet(x, t, labels).lerp(net(x, t, labels), guidance) if guidance != 1 else net(x, t, labels)

    grid = torch.tensor(karras(count), dtype=torch.float64)
    x = noise * grid[0]
    for index, (now, after) in enumerate(itertools.pairwise(grid)):
        slope = (x - denoise(x, now)) / now
        ahead = x + (after - now) * slope
        if index < count - 1:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
        x = x + (after - now) * slope
    return x


def test_a_second_network_as_edm2_guides_by_it(network: Network) -> None:
    weak = Network().double()
    weak.last.data *= 0.5
    mine = cl.guided(edm(network), 2.1, uncond=edm(weak), levels=cl.levels("edm2", 8), two_calls=True)
    wanted = edm2_sampler(edm(network), edm(weak), sample(), CLASSES, 2.1, 8)
    torch.testing.assert_close(edm2_sampler(mine, None, sample(), CLASSES, 1, 8), wanted, **EXACT)


def test_a_second_network_in_edm2s_own_sampler(network: Network) -> None:
    (run,) = functions_of("EDM2", "generate_images.py", "edm_sampler")
    weak = Network().double()
    weak.last.data *= 0.5
    options = {"num_steps": 8, "dtype": torch.float64, "labels": CLASSES}
    wanted = run(edm(network), sample(), gnet=edm(weak), guidance=2.1, **options)
    mine = cl.guided(edm(network), 2.1, uncond=edm(weak), levels=cl.levels("edm2", 8), two_calls=True)
    torch.testing.assert_close(run(mine, sample(), guidance=1, **options), wanted, **EXACT)


def forward_with_cfg(network: Network, x: Tensor, t: Tensor, y: Tensor, scale: float, channels: int) -> Tensor:
    """DiT's own: the first half of x twice, classes then none, guidance on the leading channels."""
    half = x[: len(x) // 2]
    output = network(torch.cat([half, half]), t, y)
    first, rest = output[:, :channels], output[:, channels:]
    cond, uncond = first.chunk(2)
    mixed = uncond + scale * (cond - uncond)
    return torch.cat([torch.cat([mixed, mixed]), rest], dim=1)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_first_channels_only_as_dit_does(channels: int) -> None:
    network = Network(4, 8).double()
    mine = cl.guided(
        network, 4, uncond={"y": NONE}, levels=cl.levels("dit", 5), prediction="epsilon", channels=channels
    )
    x, labels = sample(), torch.cat([CLASSES, NONE.expand(3)])
    for time in (999, 749, 500, 250, 0):
        t = torch.full((3,), time)
        wanted = forward_with_cfg(network, torch.cat([x, x]), torch.cat([t, t]), labels, 4.0, channels)
        torch.testing.assert_close(mine(x, t, CLASSES), wanted[:3], **EXACT)


def test_the_first_channels_only_as_dits_own_method_does() -> None:
    network = Network(4, 8).double()
    (method,) = functions_of("DIT", "models.py", "forward_with_cfg")
    mine = cl.guided(network, 4, uncond={"y": NONE}, levels=cl.levels("dit", 250), channels=3)
    x, t = sample(), torch.full((3,), 999)
    labels = torch.cat([CLASSES, NONE.expand(3)])
    wanted = method(network, torch.cat([x, x]), torch.cat([t, t]), labels, 4.0)
    torch.testing.assert_close(mine(x, t, y=CLASSES), wanted[:3], **EXACT)


def repa_sampler(velocity: Any, x: Tensor, y: Tensor, count: int, w: float, low: float, high: float) -> Tensor:
    """REPA's Euler sampler with an interval of its t."""
    grid = torch.linspace(1, 0, count + 1, dtype=torch.float64)
    for now, after in itertools.pairwise(grid):
        t = now.expand(len(x))
        cond = velocity(x, t, y=y)[0]
        if w > 1 and low <= now <= high:
            uncond = velocity(x, t, y=NONE.expand(len(x)))[0]
            cond = uncond + w * (cond - uncond)
        x = x + (after - now) * cond
    return x


def tuple_velocity(network: Network) -> Callable[..., Any]:
    return lambda x, t, y: (network(x, t, y), None)


def test_repas_interval_in_its_own_unit_and_in_sigma(network: Network) -> None:
    levels = cl.levels("repa", 20)
    wanted = repa_sampler(tuple_velocity(network), sample(), CLASSES, 20, 1.8, 0.0, 0.7)
    for text in (levels.window("level", 0.0, 0.7).text("1.8"), f"constant(1.8).inside(sigma=(0, {0.7 / 0.3 + 1e-9}))"):
        mine = cl.guided(tuple_velocity(network), text, uncond={"y": NONE}, levels=levels)
        torch.testing.assert_close(repa_sampler(mine, sample(), CLASSES, 20, 1.0, 0, 1), wanted, **EXACT)


def test_repas_interval_in_its_own_sampler(network: Network) -> None:
    (run,) = functions_of("REPA", "samplers.py", "euler_sampler")

    def model(x: Tensor, t: Tensor, y: Tensor) -> Any:
        return network(x, t, y.clamp(max=10)), None  # its null class is 1000

    levels = cl.levels("repa", 20)
    wanted = run(model, sample(), CLASSES, num_steps=20, cfg_scale=1.8, guidance_high=0.7)
    mine = cl.guided(model, levels.window("level", 0, 0.7).text("1.8"), uncond={"y": NONE}, levels=levels)
    torch.testing.assert_close(run(mine, sample(), CLASSES, num_steps=20), wanted, **EXACT)


def test_a_velocity_of_the_other_sign_gives_a_transform_the_same_flow(network: Network) -> None:
    """SiT's time and velocity run the other way than REPA's: the same network, the same guided samples."""
    text = "3 | apg(eta=0.2, norm_threshold=2, momentum=-0.5)"
    repa = cl.guided(network, text, uncond={"y": NONE}, levels=cl.levels("repa", 8))

    def reversed_velocity(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return -network(x, 1 - t, y)

    sit = cl.guided(reversed_velocity, text, uncond={"y": NONE}, levels=cl.levels("sit", 8))
    x, other = sample(), sample()
    for index in range(8):
        t = torch.full((3,), 1 - index / 8, dtype=torch.float64)
        x = x - repa(x, t, y=CLASSES) / 8
        other = other + sit(other, 1 - t, y=CLASSES) / 8
    torch.testing.assert_close(other, x, rtol=1e-6, atol=1e-6)


def test_a_transform_acts_in_x0_whatever_the_code_base_predicts(network: Network) -> None:
    """The same network as D(x, sigma) of k-diffusion and as noise at DDPM's timesteps: one guidance, equal results."""
    text, levels = "5 | rescale(strength=0.7, space=x0)", cl.levels("dit", 10)

    def noise(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        sigma = torch.tensor([levels.at(float(t[0])).sigma], dtype=torch.float64).expand(len(x))
        return network(x, sigma, y)

    bare = cl.guided(noise, text, uncond={"y": NONE}, levels=levels)
    sigmas = [float(step.sigma or 0) for step in levels.steps] + [0.0]
    wrapped = cl.guided(edm(network), text, uncond={"y": NONE}, levels=sigmas)
    for step in levels.steps:
        alpha, sigma = float(step.alpha or 0), float(step.sigma or 0)
        x = sample()
        guided_noise = bare(x, torch.full((3,), float(step.timestep or 0)), y=CLASSES)
        D = wrapped(x / alpha, torch.full((3,), sigma, dtype=torch.float64), y=CLASSES)
        torch.testing.assert_close(x / alpha - sigma * guided_noise, D, rtol=1e-6, atol=1e-6 * sigma)


# -- rows


def test_rows_that_a_step_does_not_need_are_not_run(network: Network) -> None:
    mine = cl.guided(network, "constant(3).inside(steps=(2, 5))", uncond={"y": NONE}, levels=cl.levels("repa", 8))
    for index in range(8):
        mine(sample(), torch.full((3,), 1 - index / 8), y=CLASSES)
    assert network.rows == 3 * (8 + 3)
    assert [record.rows_run for record in mine.trace.steps] == [3, 3, 6, 6, 6, 3, 3, 3]


def test_equal_rows_run_once(network: Network) -> None:
    x, labels = sample(1).expand(4, -1, -1, -1), torch.tensor([1, 1, 2, 10])
    mine = cl.guided(network, ["3", "5", "3", "3"], uncond={"y": NONE}, levels=cl.levels("repa", 4))
    output = mine(x, torch.ones(4), y=labels)
    assert network.rows == 3  # none, class 1, class 2
    cond, uncond = network(x, torch.ones(4), labels), network(x, torch.ones(4), NONE.expand(4))
    w = torch.tensor([3.0, 5, 3, 3], dtype=torch.float64).reshape(4, 1, 1, 1)
    torch.testing.assert_close(output, uncond + w * (cond - uncond), **EXACT)


def test_arguments_that_do_not_fit_into_one_batch_run_apart() -> None:
    calls: list[int] = []

    def denoise(x: Tensor, t: Tensor, text: Tensor | None, flag: bool = False) -> Tensor:
        calls.append(len(x))
        assert flag
        return x * t.reshape(-1, 1, 1, 1) + (0.0 if text is None else text.sum((1, 2)).reshape(-1, 1, 1, 1))

    levels = cl.levels("repa", 4)
    x, text = sample(), torch.ones(3, 7, 2, dtype=torch.float64)
    for uncond in (None, torch.zeros(3, 9, 2, dtype=torch.float64)):
        mine = cl.guided(denoise, 2, uncond={"text": uncond}, levels=levels)
        torch.testing.assert_close(mine(x, torch.ones(3), text=text, flag=True), x + 2 * 14.0, **EXACT)
    assert calls == [3, 3, 3, 3]


def conditioned(x: Tensor, t: Any, cond: Any) -> Tensor:
    """x plus the mean of an image's conditioning, which a code base may have in many forms."""
    match cond:
        case {"context": context}:
            return conditioned(x, t, context)
        case [context, *_] | (context, *_) if isinstance(context, Tensor):
            return conditioned(x, t, context)
        case list() | np.ndarray():
            values = torch.tensor([float(len(part)) if isinstance(part, str) else float(part) for part in cond])
            return x + values.to(x).reshape(-1, 1, 1, 1)
    return x + cond.reshape(len(cond), -1).mean(1).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("cond", "uncond"),
    [
        ({"context": torch.tensor([1.0, 2.0, 4.0])}, {"context": torch.zeros(1)}),
        ({"context": [torch.tensor([1.0, 2.0, 4.0]), 7]}, {"context": [torch.zeros(3), 7]}),
        ((torch.tensor([[1.0], [2.0], [4.0]]), None), (torch.zeros(1, 1), None)),
        (["a", "of", "four"], ["", "", ""]),
        (np.array([1.0, 2.0, 4.0]), np.zeros(3)),
    ],
)
@pytest.mark.parametrize("guidance", [3, ["3", "1", "constant(2).inside(steps=(1, 2))"]])
def test_conditioning_may_be_a_tree_of_tensors_or_hold_what_cannot_be_cut(
    cond: Any, uncond: Any, guidance: Any
) -> None:
    """Images with equal noise too: they differ in their conditioning alone."""
    x = sample(1).expand(3, -1, -1, -1)
    mine = cl.guided(conditioned, guidance, uncond={"cond": uncond}, levels=SIGMAS)
    scales = torch.tensor([3.0, 3, 3] if guidance == 3 else [3.0, 1, 1], dtype=x.dtype)
    wanted = x + (scales * torch.tensor([1.0, 2.0, 4.0])).reshape(3, 1, 1, 1)
    torch.testing.assert_close(mine(x, SIGMAS[0], cond=cond), wanted, **EXACT)
    record = mine.trace.steps[-1]
    cuttable = not isinstance(cond, list | np.ndarray)
    assert record.rows_run == (4 if cuttable else 6)  # three with their conditioning, one without
    assert record.rows_run + record.rows_saved == 6


def test_names_beside_a_tensor_belong_to_their_images() -> None:
    def denoise(x: Tensor, _t: Any, cond: Tensor, names: list[str]) -> Tensor:
        lengths = torch.tensor([float(len(name)) for name in names]).to(x)
        return x + (cond * lengths).reshape(-1, 1, 1, 1)

    x = sample(1).expand(2, -1, -1, -1)
    mine = cl.guided(denoise, 3, uncond={"cond": torch.zeros(1)}, levels=SIGMAS)
    output = mine(x, SIGMAS[0], cond=torch.ones(2), names=["a", "four"])
    torch.testing.assert_close(output, x + 3 * torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1), **EXACT)


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_a_tensor_of_another_length_is_the_same_for_every_row(length: int) -> None:
    """Also one of as many rows as both halves have."""

    def denoise(x: Tensor, _t: Any, cond: Tensor, table: Tensor) -> Tensor:
        assert len(table) == length
        return x + (cond * table.sum()).reshape(-1, 1, 1, 1)

    x, table = sample(2), torch.arange(1.0, length + 1)
    mine = cl.guided(denoise, ["3", "1"], uncond={"cond": torch.zeros(1)}, levels=SIGMAS)
    wanted = x + (torch.tensor([3.0, 1.0]) * table.sum()).reshape(2, 1, 1, 1)
    torch.testing.assert_close(mine(x, SIGMAS[0], cond=torch.ones(2), table=table), wanted, **EXACT)
    assert mine.trace.steps[-1].rows_run == 3


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,), (3, 1)])
def test_a_level_has_the_dimensions_that_the_denoiser_takes(shape: tuple[int, ...]) -> None:
    def denoise(x: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        assert sigma.ndim == len(shape)
        return x * (sigma.reshape(-1, 1) if sigma.ndim == 1 else sigma) + y

    x, y = torch.ones(3, 2), torch.tensor([[1.0], [2.0], [4.0]])
    mine = cl.guided(denoise, 3, uncond={"y": torch.zeros(1, 1)}, levels=SIGMAS)
    torch.testing.assert_close(mine(x, torch.full(shape, 2.0), y=y), 2 * x + 3 * y)


def test_arguments_have_the_names_that_the_denoiser_has_for_them() -> None:
    def denoise(z: Tensor, sigma: Any, level: Tensor, x: Tensor) -> Tensor:
        return z * sigma + (level + x).reshape(-1, 1, 1, 1)

    mine = cl.guided(denoise, 3, uncond={"x": torch.zeros(1), "level": torch.zeros(1)}, levels=[2.0, 1.0, 0.0])
    z, one = sample(2), torch.ones(2)
    for args, names in (
        ((z, 2.0), {"level": one, "x": one}),
        ((z,), {"sigma": 2.0, "level": one, "x": one}),
        ((), {"x": one, "sigma": 2.0, "z": z, "level": one}),
        ((z, 2.0, one), {"x": one}),
        ((z, 2.0, one, one), {}),
    ):
        torch.testing.assert_close(mine(*args, **names), 2 * z + 6, **EXACT)
    compiled = cl.guided(torch.compile(Network().double(), backend="eager"), 3, uncond={"y": NONE}, levels=SIGMAS)
    wanted = cl.guided(Network().double(), 3, uncond={"y": NONE}, levels=SIGMAS)
    level = torch.full((3,), SIGMAS[0])
    torch.testing.assert_close(compiled(sample(), level, CLASSES), wanted(sample(), level, y=CLASSES), **EXACT)
    with pytest.raises(InputError, match="1 of a sample and a noise level: denoise takes z and sigma"):
        mine(z, level=one, x=one)


@pytest.mark.parametrize("number", [float, np.float32, np.int64, torch.tensor])
def test_a_list_of_numbers_of_any_library_is_a_scale_for_each_step(number: Any) -> None:
    mine = cl.guided(conditioned, [number(3), number(5)], uncond={"cond": torch.zeros(1)}, levels=[2.0, 1.0, 0.0])
    x = sample(2)
    torch.testing.assert_close(mine(x, 2.0, cond=torch.ones(2)), x + 3, **EXACT)
    torch.testing.assert_close(mine(x, 1.0, cond=torch.ones(2)), x + 5, **EXACT)


def test_each_image_has_a_memory_of_its_own_and_a_run_begins_anew(network: Network) -> None:
    text, levels = "4 | apg(norm_threshold=1, momentum=-0.7)", cl.levels("repa", 4)

    def run(mine: Any, x: Tensor, y: Tensor) -> Tensor:
        for index in range(4):
            x = x - mine(x, torch.full((len(x),), 1 - index / 4), y=y) / 4
        return x

    mine = cl.guided(network, text, uncond={"y": NONE}, levels=levels)
    first = run(mine, sample(), CLASSES)
    torch.testing.assert_close(run(mine, sample(), CLASSES), first, rtol=0, atol=0)
    alone = [run(mine, sample()[i : i + 1], CLASSES[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), first, **EXACT)
    assert {record.run for record in mine.trace.steps} == {0, 1, 2, 3, 4}
    mine(sample(), torch.ones(3), y=CLASSES)
    mine(sample(), torch.full((3,), 0.75), y=CLASSES)
    mine.restart()
    mine(sample(), torch.full((3,), 0.5), y=CLASSES)
    assert [record.run for record in mine.trace.steps][-3:] == [5, 5, 6]


@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_runs_begin_anew_too(network: Network, count: int) -> None:
    sigmas = [*karras(8, 80.0, 0.02)[:count], 0.0]
    mine = cl.guided(edm(network), "4 | apg(momentum=-0.7)", uncond={"y": NONE}, levels=sigmas)
    first, second = (euler(mine, sample() * 80, sigmas, y=CLASSES) for _ in range(2))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert [record.run for record in mine.trace.steps] == [0] * count + [1] * count


def test_a_run_that_starts_late_begins_anew_each_time(network: Network) -> None:
    mine = cl.guided(network, "4 | apg(momentum=-0.7)", uncond={"y": NONE}, levels=cl.levels("repa", 8))
    for _ in range(2):
        for index in (4, 5, 6, 7):
            mine(sample(), torch.full((3,), 1 - index / 8), y=CLASSES)
    assert [record.run for record in mine.trace.steps] == [0] * 4 + [1] * 4


def test_the_second_call_of_heun_belongs_to_its_step(network: Network) -> None:
    text = "constant(3).inside(steps=(1, 3))"
    mine = cl.guided(edm(network), text, uncond={"y": NONE}, levels=SIGMAS, two_calls=True)
    heun(mine, sample() * 80, SIGMAS, y=CLASSES)
    indices = [record.step.index for record in mine.trace.steps]
    assert indices == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    assert [record.rows_run for record in mine.trace.steps] == [6 if index in (1, 2) else 3 for index in indices]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("path", "count"), [("flow", 50), ("repa", 250), ("edm2", 32), ("sd", 28), ("dit", 50)])
def test_levels_in_half_precision_are_those_of_the_run(path: str, count: int, dtype: torch.dtype) -> None:
    levels = cl.levels(path, count)
    for reader, given in ((levels, levels.hosts), (SIGMAS, SIGMAS)):
        mine = cl.guided(shifted, 2, uncond={"c": torch.zeros(1, 1)}, levels=reader)
        for level in given[:-1]:
            mine(torch.zeros(1, 1), torch.tensor([level], dtype=dtype), c=torch.ones(1, 1))
        steps = [record.step for record in mine.trace.steps]
        assert [step.index for step in steps] == list(range(len(given) - 1))
        assert [step.host_sigma for step in steps] == list(given[:-1])  # exact, so sigma and alpha are


def edm_sampler(denoise: Any, x: Tensor, levels: Any, churn: float, y: Tensor) -> Tensor:
    """EDM's sampler, algorithm 2 of 2206.00364: noise is added before a step, then Heun's two calls."""
    for here, after in itertools.pairwise(levels.hosts):
        hat = here * (1 + min(churn / len(levels.steps), math.sqrt(2) - 1))
        x = x + math.sqrt(hat**2 - here**2)
        d = (x - denoise(x, torch.full((len(x),), hat, dtype=x.dtype), y=y)) / hat
        there = x + (after - hat) * d
        if after:
            d = (d + (there - denoise(there, torch.full((len(x),), after, dtype=x.dtype), y=y)) / after) / 2
        x = x + (after - hat) * d
    return x


@pytest.mark.parametrize(("count", "churn"), [(18, 0), (18, 10), (18, 40), (256, 40)])
def test_churn_leaves_every_call_in_its_step(network: Network, count: int, churn: float) -> None:
    levels = cl.levels("edm2", count)
    mine = cl.guided(edm(network), "4 | apg()", uncond={"y": NONE}, levels=levels, two_calls=True)
    first, second = (edm_sampler(mine, sample() * 80, levels, churn, CLASSES) for _ in range(2))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    indices = [record.step.index for record in mine.trace.steps]
    assert indices == 2 * sorted([*range(count), *range(count - 1)])
    assert {record.run for record in mine.trace.steps} == {0, 1}


@pytest.mark.parametrize("two_calls", [False, True])
def test_nothing_of_a_run_that_stopped_is_left(network: Network, two_calls: bool) -> None:
    levels, sampler = cl.levels("edm2", 6), heun if two_calls else euler
    fails = [False]

    def denoise(x: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        if fails[0]:
            raise ZeroDivisionError
        return edm(network)(x, sigma, y)

    def made() -> Any:
        return cl.guided(denoise, "4 | apg(momentum=-0.7)", uncond={"y": NONE}, levels=levels, two_calls=two_calls)

    mine, x = made(), sample() * 80
    wanted = sampler(made(), x, levels.hosts, y=CLASSES)
    mine(x / 3, torch.full((3,), 80.0, dtype=torch.float64), y=CLASSES)  # a trial
    torch.testing.assert_close(sampler(mine, x, levels.hosts, y=CLASSES), wanted, rtol=0, atol=0)
    mine(x / 3, torch.full((3,), 80.0, dtype=torch.float64), y=CLASSES)
    fails[0] = True
    with pytest.raises(ZeroDivisionError):
        mine(x, torch.full((3,), levels.hosts[1], dtype=torch.float64), y=CLASSES)
    fails[0] = False
    torch.testing.assert_close(sampler(mine, x, levels.hosts, y=CLASSES), wanted, rtol=0, atol=0)


def test_two_last_steps_alone_begin_anew_each_time(network: Network) -> None:
    mine = cl.guided(network, "4 | apg(momentum=-0.7)", uncond={"y": NONE}, levels=cl.levels("repa", 8))
    for _ in range(3):
        for index in (6, 7):
            mine(sample(), torch.full((3,), 1 - index / 8), y=CLASSES)
    assert [record.run for record in mine.trace.steps] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("repa", [1000.0], "t 1000: this run goes from 1 to 0; give the sampler's own numbers in the unit of levels="),
        ("dit", [-600.0], "timestep -600: this run goes from 999 to"),
        ("dit", [1 - i / 10 for i in range(9)], r"noise levels 1, …, 0\.2 are all in step 8 of 10, from 111 on"),
    ],
)
def test_levels_in_another_unit_are_refused(path: str, given: list[float], words: str) -> None:
    mine = cl.guided(shifted, 2, uncond={"c": torch.zeros(1, 1)}, levels=cl.levels(path, 10))
    *before, last = given
    for level in before:
        mine(torch.zeros(1, 1), level, c=torch.ones(1, 1))
    with pytest.raises(InputError, match=words):
        mine(torch.zeros(1, 1), last, c=torch.ones(1, 1))


def test_a_guided_network_has_what_samplers_read_of_it(network: Network) -> None:
    network.register_buffer("sigma_min", torch.tensor(0.002))
    for denoise in (network, network.forward):
        mine = cl.guided(denoise, 3, uncond={"y": NONE}, levels=SIGMAS)
        assert mine.sigma_min is network.sigma_min
        assert next(mine.parameters()) is next(network.parameters())
        assert not hasattr(mine, "sigma_max")
    assert copy.copy(mine)._denoise == network.forward


# -- perturbed passes


class Attentive(torch.nn.Module):
    """One self-attention layer in the parts that diffusers names."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.mid_block = torch.nn.Module()
        self.mid_block.attention = attention = torch.nn.Module()
        for name in ("to_q", "to_k", "to_v", "to_out"):
            layer = torch.nn.Linear(4, 4, bias=False)
            layer.weight.data = torch.randn(4, 4, generator=generator)
            setattr(attention, name, layer)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        part: Any = self.mid_block.attention
        tokens = x.flatten(2).transpose(1, 2) + y[:, None, :]
        weights = torch.softmax(part.to_q(tokens) @ part.to_k(tokens).transpose(1, 2) / 2, -1)
        mixed = part.to_out(weights @ part.to_v(tokens))
        return mixed.transpose(1, 2).reshape(x.shape) + t.reshape(-1, 1, 1, 1)


def test_a_perturbed_pass_where_the_network_is_given() -> None:
    network, x = Attentive().double(), sample()
    y, none = torch.randn(3, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    levels, t = cl.levels("repa", 4), torch.ones(3, dtype=torch.float64)
    cond, uncond = network(x, t, y), network(x, t, none.expand(3, 4))
    part: Any = network.mid_block.attention
    tokens = x.flatten(2).transpose(1, 2) + y[:, None, :]
    perturbed = part.to_out(part.to_v(tokens)).transpose(1, 2).reshape(x.shape) + 1
    wanted = uncond + 4 * (cond - uncond) + 2 * (cond - perturbed)
    for denoise, module in ((network, "self"), (lambda x, t, y: network(x, t, y), network)):
        mine = cl.guided(denoise, "4 | pag(s=2, layers=mid)", uncond={"y": none}, levels=levels, module=module)
        torch.testing.assert_close(mine(x, t, y=y), wanted, rtol=1e-6, atol=1e-6)
    assert mine.trace.steps[-1].rows_run == 9


def test_calls_of_other_threads_wait_for_a_pass_that_changes_the_network() -> None:
    network, x = Attentive().double(), sample()
    y, none, t = torch.randn(3, 4).double(), torch.zeros(1, 4).double(), torch.ones(3).double()
    wanted, got = network(x, t, y), []
    others = [threading.Thread(target=lambda: got.append(network(x, t, y))) for _ in range(4)]
    part: Any = network.mid_block.attention

    def denoise(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if part.to_out._forward_pre_hooks:  # the perturbed pass has changed the network
            for thread in others:
                thread.start()
            others[0].join(0.2)
        return network(x, t, y)

    levels = cl.levels("repa", 4)
    mine = cl.guided(denoise, "4 | pag(s=2, layers=mid)", uncond={"y": none}, levels=levels, module=network)
    mine(x, t, y=y)
    for thread in others:
        thread.join()
    assert len(got) == 4
    for answer in got:
        torch.testing.assert_close(answer, wanted, rtol=0, atol=0)
    before = NAME in network.__dict__
    del mine
    assert (before, NAME in network.__dict__) == (True, False)


def test_layers_are_looked_for_at_the_first_step_of_a_run() -> None:
    network, levels, t = Attentive().double(), cl.levels("repa", 4), torch.ones(3, dtype=torch.float64)
    for text, said in (("4 | pag(layers=7, start=0.9)", "layer '7'"), ("4 | skip_layers(layers=7)", "no layer '7'")):
        mine = cl.guided(network, text, uncond={"y": torch.zeros(1, 4).double()}, levels=levels, module="self")
        with pytest.raises(InputError, match=said):
            mine(sample(), t, y=torch.randn(3, 4, dtype=torch.float64))


def test_swg_crops_what_a_network_is_given_and_needs_the_network_itself() -> None:
    network, x = Attentive().double(), torch.randn(3, 4, 4, 6, dtype=torch.float64)
    y, none = torch.randn(3, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)
    levels, t = cl.levels("repa", 4), torch.ones(3, dtype=torch.float64)
    cond, uncond = network(x, t, y), network(x, t, none.expand(3, 4))
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    for top in (0, 1):  # crops of 3 x 4
        for left in (0, 2):
            window = (..., slice(top, top + 3), slice(left, left + 4))
            total[window] += network(x[window], t, y)
            count[window] += 1
    wanted = uncond + 4 * (cond - uncond) + 0.5 * (count > 1) * (cond - total / count)
    text = "4 | swg(s=0.5, crop=0.7)"
    mine = cl.guided(network, text, uncond={"y": none}, levels=levels, module="self")
    torch.testing.assert_close(mine(x, t, y=y), wanted, rtol=1e-6, atol=1e-6)
    assert mine.trace.steps[-1].rows_run == 6 + 4 * 3
    with pytest.raises(InputError, match=r"CroppedSample\), which calls the network itself; give module='self'"):
        cl.guided(lambda x, t, y: network(x, t, y), text, uncond={"y": none}, levels=levels, module=network)


def test_autoguidance_by_a_registered_network(network: Network) -> None:
    from cfglab.guidance.perturbations.weak_models import register_weak_model

    weak = Network().double()
    weak.last.data *= 0.25
    register_weak_model("weak_for_guided", weak)
    text = "1 | autoguidance(w=2, model=weak_for_guided)"
    mine = cl.guided(network, text, uncond={"y": NONE}, levels=cl.levels("repa", 4), module="self")
    x, t = sample(), torch.ones(3)
    strong, poor = network(x, t, CLASSES), weak(x, t, CLASSES)
    torch.testing.assert_close(mine(x, t, y=CLASSES), strong + (strong - poor), rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match=r"WeakModelPass\), which calls the network itself; give module='self'"):
        cl.guided(lambda x, t, y: network(x, t, y), text, uncond={"y": NONE}, levels=SIGMAS, module=network)


# -- what cannot be done


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        *(
            (f"7 | {text}", "which changes layers of the network; give it as module=network, or module='self'")
            for text in (
                "pag()",
                "seg()",
                "tpg()",
                "pladis()",
                "s2()",
                "skip_layers(layers=7)",
                "autoguidance(w=2, skip=mid)",
            )
        ),
        ("7 | swg(s=1)", "which calls the network itself; give module='self'"),
        ("7 | sg()", "ShiftedTimestep.*which is not possible there; leave it out, or use guide"),
        ("7 | perp_neg(prompt='x')", "further prompt"),
        ("7 | sag()", "perturbed pass"),
        ("7 | no_such()", "no_such"),
        ([], "1 to 10000 scales"),
    ],
)
def test_a_guidance_that_cannot_run_here_is_refused_before_anything_runs(
    network: Network, guidance: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        cl.guided(network, guidance, uncond={"y": NONE}, levels=SIGMAS)
    assert "\n" not in str(caught.value)
    assert network.rows == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda mine: mine(sample(), torch.tensor([1.0, 2.0, 1.0]), y=CLASSES), "one finite level"),
        (lambda mine: mine(sample(), math.nan, y=CLASSES), "one finite level"),
        (lambda mine: mine(sample(2), 1.0, y=CLASSES[:2]), "3 guidances for 2 images"),
    ],
)
def test_a_call_that_cannot_be_read_is_one_line(network: Network, call: Any, words: str) -> None:
    mine = cl.guided(network, [3, "5 | apg()", 3], uncond={"y": NONE}, levels=SIGMAS)
    with pytest.raises(InputError, match=words):
        call(mine)


def test_a_denoiser_without_names_or_with_another_output_is_one_line() -> None:
    mine = cl.guided(lambda *args: args[0], 3, uncond={"y": NONE}, levels=SIGMAS)
    with pytest.raises(InputError, match="give the conditioning by name"):
        mine(sample(), 1.0, CLASSES)
    for output in ({"sample": 1}, torch.zeros(2)):
        mine = cl.guided(lambda _x, _sigma, output=output, **_: output, 3, uncond={"y": NONE}, levels=SIGMAS)
        with pytest.raises(InputError, match="one row a row"):
            mine(sample(), 1.0, y=CLASSES)
    with pytest.raises(InputError, match="uncond as a dict"):
        cl.guided(lambda x, _: x, 3, uncond=[NONE], levels=SIGMAS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 or more leading channels"):
        cl.guided(lambda x, _: x, 3, uncond={}, levels=SIGMAS, channels=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uncond": {}}, "both predictions would be equal"),
        ({"uncond": {"labels": NONE}}, "labels.*has no such argument, it takes y"),
        ({"levels": "edm"}, r"levels\('edm', 32\)"),
        ({"levels": 28}, "falling noise levels of a run are needed"),
        ({"levels": None}, "falling noise levels of a run are needed"),
        ({"prediction": "v_prediction"}, "write v"),
        ({"model": "sample"}, "write x0"),
        ({"model": "epsilom"}, "did you mean epsilon"),
        ({"channels": 2.5}, "whole number"),
        ({"channels": "3"}, "whole number"),
        ({"module": "net"}, "torch.nn.Module"),
    ],
)
def test_an_argument_of_another_kind_is_one_line(network: Network, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        cl.guided(network, 3, **{"uncond": {"y": NONE}, "levels": SIGMAS} | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "level", "y", "words"),
    [
        (sample().numpy(), 1.0, CLASSES, "torch tensor"),
        (torch.ones(3), 1.0, CLASSES, "one more dimension"),
        (torch.ones(0, 4, 4, 4), 1.0, CLASSES[:0], "one row for each image"),
        (sample(), np.ones(3), CLASSES, "a number or a tensor"),
        (sample(), None, CLASSES, "a number or a tensor"),
        (sample(), 1.0, CLASSES, r"shape \(2,\) for 3 images"),
    ],
)
def test_a_sample_a_level_or_labels_of_another_kind_are_one_line(
    network: Network, x: Any, level: Any, y: Tensor, words: str
) -> None:
    mine = cl.guided(network, 3, uncond={"y": NONE.expand(2) if "images" in words else NONE}, levels=SIGMAS)
    with pytest.raises(InputError, match=words) as caught:
        mine(x, level, y=y)
    assert "\n" not in str(caught.value)
