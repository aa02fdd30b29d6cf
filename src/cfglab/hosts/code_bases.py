"""The noise levels of published code bases, by the name of the code. Loads no torch.

| path | what the network sees | sigma (noise over signal) of the host's level |
|---|---|---|
| VP (2006.11239, 2102.09672) | sqrt(a) x0 + sqrt(1 - a) e | sqrt((1 - a) / a), a = the product of 1 - beta |
| EDM | x0 + s e, scaled by the wrapper | s (2206.00364) |
| linear flow | (1 - t) x0 + t e | t / (1 - t) (2209.03003, 2403.03206) |
| trigonometric (GVP) | cos(pi t / 2) x0 + sin(pi t / 2) e | tan(pi t / 2) (2401.08740) |

A program that counts time from noise to data (SiT, LightningDiT) has t' = 1 - t, and its velocity has the other sign.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.hosts.levels import Levels
from cfglab.limits import STEPS
from cfglab.mixtures.noise_paths import karras
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

TRAINED = 1000
"""Training timesteps of the VP models."""


def path_levels(path: str, steps: int) -> Levels:
    """The noise levels of a published code base.

    Args:
        path: A name in PATHS.
        steps: The number of steps, 2 or more.

    Returns:
        The levels.

    Raises:
        InputError: There is no such path, or the number of steps is out of range.
    """
    if path not in PATHS:
        hint = nearest(path, PATHS) or " name one, a model folder, or scenes."
        raise InputError(f"path {shown(path)}: there are {', '.join(PATHS)};{hint}")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= STEPS:
        raise InputError(f"{shown(steps)} steps: a run has 2 to {STEPS:,} here, a whole number; write 50.")
    return PATHS[path](path, steps)


def _made(
    name: str,
    level: str,
    hosts: Sequence[float],
    sigma_of: Callable[[float], float],
    alpha_of: Callable[[float], float],
    prediction: Space = "epsilon",
    *,
    timestep: Callable[[float], float] | None = None,
    scaled: bool = True,
    negated: bool = False,
) -> Levels:
    count, sigmas = len(hosts) - 1, [*map(sigma_of, hosts[:-1]), 0.0]
    run = [
        Step(
            index,
            count,
            None if timestep is None else timestep(hosts[index]),
            sigmas[index],
            sigmas[index + 1],
            alpha_of(sigmas[index]),
            hosts[index],
        )
        for index in range(count)
    ]
    return Levels(name, level, tuple(hosts), tuple(run), sigma_of, alpha_of, prediction, scaled, negated)


def vp_alpha(sigma: float) -> float:
    """The factor of the signal of a variance-preserving path at sigma, 0 at pure noise."""
    return 1 / math.hypot(1.0, sigma)


def flow_alpha(sigma: float) -> float:
    """The factor of the signal of a linear flow at sigma, 0 at pure noise."""
    return 1 / (1 + sigma)


def linear_betas(first: float, last: float, power: float = 1.0) -> list[float]:
    """TRAINED betas, evenly spaced in beta^(1/power): 1 is DDPM's linear, 2 Stable Diffusion's scaled-linear schedule.

    Reference:
        arXiv:2006.11239, section 4.
    """
    a, b = first ** (1 / power), last ** (1 / power)
    return [(a + (b - a) * index / (TRAINED - 1)) ** power for index in range(TRAINED)]


def cosine_betas() -> list[float]:
    """TRAINED betas of the cosine schedule, each at most 0.999.

    Reference:
        arXiv:2102.09672, eq. 17.
    """

    def kept(part: float) -> float:
        return math.cos((part + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(0.999, 1 - kept((index + 1) / TRAINED) / kept(index / TRAINED)) for index in range(TRAINED)]


def discrete_sigmas(betas: Sequence[float]) -> list[float]:
    """Noise over signal at every training timestep."""
    kept, sigmas = 1.0, []
    for beta in betas:
        kept *= 1 - beta
        sigmas.append(math.sqrt((1 - kept) / kept))
    return sigmas


def _between(sigmas: Sequence[float], timestep: float) -> float:
    """Noise over signal at a timestep, between two of them evenly in log sigma."""
    place = min(max(timestep, 0.0), len(sigmas) - 1.0)
    below = min(int(place), len(sigmas) - 2)
    part = place - below
    return math.exp((1 - part) * math.log(sigmas[below]) + part * math.log(sigmas[below + 1]))


def _timestep_of(sigmas: Sequence[float], sigma: float) -> float:
    """The inverse of `_between`."""
    below = min(max(bisect_right(sigmas, sigma) - 1, 0), len(sigmas) - 2)
    part = (math.log(sigma) - math.log(sigmas[below])) / (math.log(sigmas[below + 1]) - math.log(sigmas[below]))
    return below + min(max(part, 0.0), 1.0)


def _spaced(betas: Callable[[], list[float]]) -> Callable[[str, int], Levels]:
    """DDPM with fewer steps: evenly spaced training timesteps, the first and the last among them (2102.09672)."""

    def make(name: str, steps: int) -> Levels:
        if steps > TRAINED:
            raise InputError(f"{steps} steps: {name} has {TRAINED} training timesteps; write {TRAINED} or fewer.")
        sigmas, stride, place, used = discrete_sigmas(betas()), (TRAINED - 1) / (steps - 1), 0.0, []
        for _ in range(steps):
            used.append(float(round(place)))
            place += stride
        hosts = [*used[::-1], -1.0]
        return _made(name, "timestep", hosts, partial(_between, sigmas), vp_alpha, timestep=_same)

    return make


def _compvis(name: str, steps: int) -> Levels:
    """k-diffusion around Stable Diffusion: sigmas at evenly spaced timesteps (`get_sigmas`)."""
    sigmas = discrete_sigmas(linear_betas(0.00085, 0.012, 2.0))
    times = [(TRAINED - 1) * (1 - index / (steps - 1)) for index in range(steps)]
    hosts = [*(_between(sigmas, time) for time in times), 0.0]
    return _made(
        name,
        "sigma",
        hosts,
        _same,
        vp_alpha,
        "x0",
        timestep=partial(_timestep_of, sigmas),
        scaled=False,
    )


def _edm(name: str, steps: int) -> Levels:
    return _made(name, "sigma", karras(steps), _same, _edm_alpha, "x0", scaled=False)


def _edm_alpha(sigma: float) -> float:
    return 1 / math.hypot(0.5, sigma)


def _same(level: float) -> float:
    return level


def _of_data_time(sigma_of: Callable[[float], float], level: float) -> float:
    """Noise over signal at a time that rises from noise to data."""
    return sigma_of(1 - level)


def _flow_sigma(level: float) -> float:
    return math.inf if level >= 1 else max(level, 0.0) / (1 - level)


def _gvp_sigma(level: float) -> float:
    return math.inf if level >= 1 else math.tan(max(level, 0.0) * math.pi / 2)


def _times(last: float = 0.0) -> Callable[[str, int], Levels]:
    """A linear flow whose t falls from 1 to 0; with `last`, evenly to there, and one step from there to 0."""

    def make(name: str, steps: int) -> Levels:
        even = steps - 1 if last else steps
        hosts = [1 + (last - 1) * index / even for index in range(even + 1)]
        return _made(name, "t", [*hosts, 0.0] if last else hosts, _flow_sigma, flow_alpha, "flow")

    return make


def _data_times(
    sigma_of: Callable[[float], float], alpha_of: Callable[[float], float], shift: float = 1.0
) -> Callable[[str, int], Levels]:
    """A flow whose own time rises from noise (0) to data (1), and whose velocity is x0 - e."""

    def make(name: str, steps: int) -> Levels:
        even = [index / steps for index in range(steps + 1)]
        hosts = [shift * time / (1 + (shift - 1) * time) for time in even]
        return _made(
            name,
            "t, 0 at noise",
            hosts,
            partial(_of_data_time, sigma_of),
            alpha_of,
            "flow" if sigma_of is _flow_sigma else "model",
            negated=True,
        )

    return make


PATHS: dict[str, Callable[[str, int], Levels]] = {
    "dit": _spaced(lambda: linear_betas(1e-4, 0.02)),
    "adm": _spaced(lambda: linear_betas(1e-4, 0.02)),
    "iddpm-cosine": _spaced(cosine_betas),
    "sd": _compvis,
    "edm": _edm,
    "edm2": _edm,
    "flow": _times(),
    "repa": _times(),
    "repa-sde": _times(0.04),
    "sit": _data_times(_flow_sigma, flow_alpha),
    "sit-gvp": _data_times(_gvp_sigma, vp_alpha),
    "lightningdit": _data_times(_flow_sigma, flow_alpha, 0.3),
}
"""Code bases by name -> how their levels are made. REPA's are those of iREPA too."""
