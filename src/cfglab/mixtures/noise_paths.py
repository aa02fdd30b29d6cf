"""From data to noise and back: `x = a * x0 + n * epsilon` on three paths, the levels of a run, one seed a sample.

| path | a | n | with s = n / a, noise over signal |
|---|---|---|---|
| ve, variance exploding | 1 | s | EDM's, arXiv:2206.00364 |
| vp, variance preserving | 1 / sqrt(1 + s²) | s / sqrt(1 + s²) | DDPM's, arXiv:2006.11239 |
| flow, rectified flow | 1 / (1 + s) | s / (1 + s) = t | arXiv:2209.03003 |

Loads torch only for random numbers.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from cfglab.errors import InputError
from cfglab.limits import LARGEST_SEED
from cfglab.step import Step, steps

if TYPE_CHECKING:
    from torch import Tensor

Path = Literal["ve", "vp", "flow"]


def alpha(path: Path, sigma: float) -> float:
    """The factor of the signal on a noise path.

    Args:
        path: The path: "ve", "vp" or "flow".
        sigma: Noise over signal, 0 or more.

    Returns:
        alpha, 0 to 1.

    Raises:
        InputError: The path is unknown, or "ve" at infinite sigma.
    """
    match path:
        case "ve":
            if math.isinf(sigma):
                raise InputError(
                    "sigma inf on the path 've': its noise only grows; start at a finite sigma such as 80."
                )
            return 1.0
        case "vp":
            return 1 / math.hypot(1.0, sigma)
        case "flow":
            return 1 / (1 + sigma)
    raise InputError(f"path {path!r}: there are ve, vp, flow; name one of them.")


def noise_of(step: Step) -> tuple[float, float]:
    """The factors of signal and noise of a step.

    Args:
        step: A step with sigma and alpha.

    Returns:
        (a, n) of `x = a x0 + n epsilon`.

    Raises:
        InputError: The step has no sigma or alpha.
    """
    if step.sigma is None or step.alpha is None:
        raise InputError(
            f"step {step.index} without sigma and alpha: an exact prediction depends on both; build the steps with "
            "noise_steps(sigmas, path)."
        )
    return step.alpha, 1.0 if math.isinf(step.sigma) else step.alpha * step.sigma


def noise_steps(sigmas: Sequence[float], path: Path = "ve") -> list[Step]:
    """The n steps of a run on a path, each with its alpha.

    Args:
        sigmas: n + 1 levels (noise over signal), falling.
        path: The noise path. On "flow", `host_sigma` is t, else sigma.

    Returns:
        n steps.

    Raises:
        InputError: The levels are not those of a run.
    """
    if len(sigmas) < 2:
        raise InputError(f"{len(sigmas)} levels: a run of n steps has n + 1, the last being its end; add 0.")
    bare = steps(len(sigmas) - 1, sigmas)
    return [_on_path(step, path) for step in bare]


def _on_path(step: Step, path: Path) -> Step:
    sigma = float(step.sigma or 0.0)
    a = alpha(path, sigma)
    host = sigma if path != "flow" else 1.0 - a
    return Step(step.index, step.count, 1000 * host if path == "flow" else None, sigma, step.next_sigma, a, host)


def karras(count: int, largest: float = 80.0, smallest: float = 0.002, rho: float = 7.0) -> list[float]:
    """Levels that are equally spaced in sigma^(1/rho), then 0. One step goes from the largest level to 0.

    Args:
        count: The number of steps, 1 or more.
        largest: The first level, finite.
        smallest: The last level before 0, above 0.
        rho: The exponent, above 0.

    Returns:
        count + 1 levels (noise over signal), falling.

    Raises:
        InputError: There are no steps, or the levels do not fall.

    Reference:
        arXiv:2206.00364, equation 5.

    Examples:
        >>> karras(2)
        [80.0, 0.0020000000000000005, 0.0]
    """
    if count < 1 or not 0 < smallest < largest < math.inf or not rho > 0:
        raise InputError(
            f"{count} steps from {largest} to {smallest} with rho {rho}: one step or more, falling between finite "
            "levels above 0; write karras(32)."
        )
    root_start, root_end = largest ** (1 / rho), smallest ** (1 / rho)
    return [*((root_start + i / max(count - 1, 1) * (root_end - root_start)) ** rho for i in range(count)), 0.0]


def flow_levels(count: int, shift: float = 1.0) -> list[float]:
    """Levels t / (1 - t) of a rectified flow, from pure noise (t = 1, infinite) to 0, evenly in t.

    Args:
        count: The number of steps, 1 or more.
        shift: The factor of every level, above 0; above 1 spends more steps at high noise.

    Returns:
        count + 1 levels (noise over signal), falling.

    Raises:
        InputError: `count` or `shift` is out of range.

    Reference:
        arXiv:2403.03206, equation 23.

    Examples:
        >>> flow_levels(2)
        [inf, 1.0, 0.0]
    """
    if count < 1 or not shift > 0:
        raise InputError(f"{count} steps with shift {shift}: one step or more, and a shift above 0; write 32.")
    return [math.inf if i == 0 else shift * (count - i) / i for i in range(count)] + [0.0]


def random_numbers(seeds: Sequence[int], uniform: int, *normal: int) -> "tuple[Tensor, ...]":
    """Random numbers from a generator of each seed, so that a sample is the same in every batch.

    Each seed gives first its uniform numbers, then its normal ones.

    Args:
        seeds: One per sample, 0 or more.
        uniform: The number of uniform values per sample; 0 for none.
        normal: The sizes of the normal tensors.

    Returns:
        (n, uniform) if that is above 0, then (n, m) for each m in `normal`; float64.

    Raises:
        InputError: There is no seed, or one is not a whole number of 0 or more.
    """
    import torch

    if not len(seeds) or any(isinstance(s, bool) or not 0 <= s <= LARGEST_SEED for s in seeds):
        raise InputError("seeds: one whole number of 0 or more a sample, and at least one; write range(1000).")
    generator = torch.Generator()
    rows: list[tuple[Tensor, ...]] = []
    for seed in seeds:
        generator.manual_seed(int(seed))
        uniforms = [torch.rand(uniform, generator=generator, dtype=torch.float64)] if uniform else []
        rows.append((*uniforms, *(torch.randn(size, generator=generator, dtype=torch.float64) for size in normal)))
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))
