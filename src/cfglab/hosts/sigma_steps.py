"""The steps of a run that is known by its list of sigmas, and the Step of a call by the sigma it is made at.

| path | host's x | host's sigma | what the network sees | alpha |
|---|---|---|---|---|
| ve | x0 + s epsilon | s | x | 1 |
| vp | x0 + s epsilon | s | alpha x | 1 / sqrt(d² + s²), d = sigma_data |
| flow | (1 - t) x0 + t epsilon | t | x | 1 - t |
| flow, unit "sigma" | x0 + s epsilon | s | alpha x | 1 / (1 + s) |

s is noise over signal; for a flow t / (1 - t). EPS, V and EDM models of k-diffusion and ComfyUI are `vp`; Flux, SD 3,
Wan and Qwen-Image are `flow`. Loads no torch.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from cfglab.errors import InputError
from cfglab.mixtures.noise_paths import Path
from cfglab.step import Step, noise_levels, steps

if TYPE_CHECKING:
    from torch import Tensor

Unit = Literal["sigma", "t"]
ROUNDING = 1e-5
"""The relative error of a sigma that a sampler computed: exp(log(sigma)) in float32 still counts as on the grid."""


class SigmaSteps:
    """The steps of one run, from the sigmas between which the sampler moves.

    Attributes:
        steps: One Step per interval, with `sigma`, `next_sigma`, `alpha` and `host_sigma` at its start.
        path: The noise path.
        unit: What the host's numbers are: noise over signal, or the time t of a flow.

    Args:
        sigmas: The host's own noise levels, falling, n + 1 for n steps; the last one is the end of the run.
        path: "ve", "vp" or "flow".
        unit: "sigma" or "t"; None is "t" for a flow and "sigma" otherwise.
        sigma_data: The standard deviation of the data on the path "vp": 1, EDM models have 0.5.
        timestep: Turns a host's sigma into the network's timestep, for schedules that read it.

    Raises:
        InputError: The levels are not those of a run on this path.

    Examples:
        >>> from cfglab.hosts import SigmaSteps
        >>> run = SigmaSteps([1.0, 0.75, 0.0], "flow")
        >>> [(step.sigma, step.alpha) for step in run.steps]
        [(inf, 0.0), (3.0, 0.25)]
        >>> run.at(0.8).index, run.at(0.75).index, run.at(0.2).index
        (0, 1, 1)
    """

    def __init__(
        self,
        sigmas: Sequence[float],
        path: Path = "vp",
        unit: Unit | None = None,
        *,
        sigma_data: float = 1.0,
        timestep: Callable[[float], float] | None = None,
    ) -> None:
        if path not in ("ve", "vp", "flow"):
            raise InputError(f"path {path!r}: there are ve, vp, flow; name one of them.")
        self.path, self.unit = path, unit or ("t" if path == "flow" else "sigma")
        self._sigma_data, self._timestep = sigma_data, timestep
        self._hosts = noise_levels(sigmas)
        if len(self._hosts) < 2:
            raise InputError(
                f"{len(self._hosts)} sigmas: a run of n steps has n + 1, the last being its end; add the end, often 0."
            )
        if self.unit == "t" and not 0 <= self._hosts[0] <= 1:
            raise InputError(f"t {self._hosts[0]:g}: the time of a flow is between 0 and 1; give noise levels as t.")
        bare = steps(len(self._hosts) - 1, [self.noise_over_signal(host) for host in self._hosts])
        self.steps = [self._evaluated(step, host) for step, host in zip(bare, self._hosts, strict=False)]
        self._rising = [-host for host in self._hosts[:-1]]

    def at(self, sigma: float, *, ending: bool = False, rounding: float = 0.0) -> Step:
        """The Step of a call of the denoiser.

        Its index is that of the last interval that starts at `sigma` or above, so that all calls of a step share it,
        also where a sampler evaluates between two levels (DPM++ SDE, DPM-Solver-2). A level above the first one belongs
        to step 0.

        Args:
            sigma: The host's own noise level at which the network is evaluated, 0 or more.
            ending: The call is at the end of its interval, as the second one of Heun's method: the index is that of the
                last interval that starts above `sigma`.
            rounding: The relative error of `sigma` where it is of half precision: a level of the run that is as near
                is meant, and is the level of the Step.

        Returns:
            The step, with sigma and alpha at `sigma` and the end of its interval as `next_sigma`.

        Raises:
            InputError: The level is negative or not a number.
        """
        if not sigma >= 0:
            raise InputError(
                f"sigma {sigma}: a noise level is a number, 0 or more; give what the sampler evaluates at."
            )
        if (near := step_of_rounded(sigma, self._hosts, rounding, ending=ending)) is not None:
            return self.evaluated(*near)
        edge = sigma * (1 + ROUNDING if ending else 1 - ROUNDING)
        return self.evaluated(max(0, bisect_right(self._rising, -edge) - 1), sigma)

    def evaluated(self, index: int, sigma: float) -> Step:
        """A step with the network evaluated at some level.

        Args:
            index: The index of the step.
            sigma: The host's own noise level, 0 or more.

        Returns:
            The step, with sigma and alpha at `sigma`.
        """
        step = self.steps[index]
        return step if step.host_sigma == sigma else self._evaluated(step, sigma)

    def noise_over_signal(self, sigma: float) -> float:
        """The noise over signal of one of the host's levels: itself, or t / (1 - t), infinite at t = 1.

        Args:
            sigma: The host's own noise level.

        Returns:
            The noise over signal, 0 or more.
        """
        if self.unit == "sigma":
            return sigma
        return math.inf if sigma >= 1 else sigma / (1 - sigma)

    def alpha(self, sigma: float) -> float:
        """The factor of the signal in what the network sees.

        Args:
            sigma: Noise over signal, 0 or more.

        Returns:
            The factor, 0 at pure noise.
        """
        match self.path:
            case "ve":
                return 1.0
            case "vp":
                return 1 / math.hypot(self._sigma_data, sigma)
            case "flow":
                return 1 / (1 + sigma)

    def network_input(self, x: "Tensor", step: Step) -> "Tensor":
        """What the network sees of the host's sample: `latents` of `Guide.combine`.

        Args:
            x: The host's sample, (n, ...).
            step: A step of this run, from `at`.

        Returns:
            The scaled sample, (n, ...), in the dtype of `x`.
        """
        return x if self.unit == "t" or step.alpha is None else x * step.alpha

    def _evaluated(self, step: Step, host: float) -> Step:
        """The step with the model evaluated at `host`."""
        sigma = self.noise_over_signal(host)
        time = None if self._timestep is None else self._timestep(host)
        return Step(step.index, step.count, time, sigma, step.next_sigma, self.alpha(sigma), host)


def step_of_rounded(
    level: float, levels: Sequence[float], rounding: float, *, ending: bool
) -> tuple[int, float] | None:
    """The step of a call at a number of half precision, and the level of the run that it stands for.

    Args:
        level: The number.
        levels: The levels of the run, n + 1.
        rounding: The relative error of the number; one of single precision or better is not read here.
        ending: The call is at the end of its step.

    Returns:
        The index of the step and the nearest level; None where none is as near as the error, or the number has none.
    """
    if rounding <= ROUNDING:
        return None
    distance, place = min((abs(own - level), place) for place, own in enumerate(levels))
    if distance > rounding * abs(level):
        return None
    return max(0, place - (ending or place == len(levels) - 1)), levels[place]


def check_level(name: str, level: float, levels: Sequence[float]) -> None:
    """Raise InputError for a level that is no number, or half of a run's range or more outside of it.

    Args:
        name: What the level is, for the message.
        level: The level.
        levels: The levels of the run, n + 1.
    """
    if level != level:
        raise InputError(f"{name} {level}: a level is a number; give what the sampler evaluates at.")
    low, high = min(levels), max(levels)
    if not low - (high - low) / 2 <= level <= high + (high - low) / 2:
        raise InputError(
            f"{name} {level:g}: this run goes from {levels[0]:g} to {levels[-1]:g}; give the sampler's own numbers in "
            "the unit of levels=."
        )
