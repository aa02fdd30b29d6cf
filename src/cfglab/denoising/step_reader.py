"""The Step of each denoiser call, read off a diffusers scheduler by counting calls. Duck-typed: loads no torch."""

import math
from collections.abc import Callable
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.step import Step


class StepReader:
    """Counts denoiser calls and gives the Step of each. A new `scheduler.timesteps` object begins a new run.

    Only counting is right for every sampler: `step_index` is missing or None on many, a timestep occurs twice in the
    list of two-call samplers, and the timestep argument is not always a timestep.

    Args:
        scheduler: A diffusers scheduler.
        one_run: True if the loop is not started again. Equal timesteps that are set during the run then belong to it,
            and others are refused.
        whole_trajectory: As in `read_steps`.
        repeats: Whether the loop runs the same timesteps again: the parts of a long video.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> scheduler = DDIMScheduler()
        >>> scheduler.set_timesteps(4)
        >>> reader = StepReader(scheduler)
        >>> [reader.next().progress for _ in range(4)]
        [0.0, 0.25, 0.5, 0.75]
    """

    def __init__(
        self, scheduler: Any, *, one_run: bool = False, whole_trajectory: bool = False, repeats: bool = False
    ) -> None:
        self.scheduler = scheduler
        self._one_run, self._whole_trajectory, self._repeats = one_run, whole_trajectory, repeats
        self.call = -1
        """0 at the first denoiser call of a run."""
        self._timesteps: Any = None
        self._steps: list[Step] = []

    def next(self, timestep: Callable[[], float | None] | None = None, length: int | None = None) -> Step:
        """The Step of this call; counts the call.

        Args:
            timestep: Returns the timestep that the denoiser receives; None if it is not known.
            length: The number of timesteps of the run; None if it is not known. With both, a run that starts late is
                detected even if the scheduler does not record it.

        Returns:
            The Step.

        Raises:
            InputError: The call is past the end of the run, or the timesteps changed during it.
        """
        step = self.peek(timestep, length)
        self.call += 1
        return step

    def peek(self, timestep: Callable[[], float | None] | None = None, length: int | None = None) -> Step:
        """The Step that `next()` will return; does not count.

        Args:
            timestep: As in `next`.
            length: As in `next`.

        Returns:
            The Step.

        Raises:
            InputError: As in `next`.
        """
        if self.scheduler.timesteps is not self._timesteps and not self._set_again():
            begin, end = run_of(self.scheduler, timestep, length)
            self._timesteps = self.scheduler.timesteps  # kept, so that its id is not used again
            self._steps = read_steps(self.scheduler, begin, end, whole_trajectory=self._whole_trajectory)
            self.call = -1
        if self._repeats and self.remaining == 0:
            self.call = -1
        if self.call + 1 >= len(self._steps):
            advice = (
                "this pipeline calls its denoiser more often than once a step; pass its profile=Profile(layout=...)."
                if self._one_run
                else "call scheduler.set_timesteps(...) before each run."
            )
            raise InputError(
                f"denoiser call {self.call + 2} of a run of {len(self._steps)} calls: the step cannot be known; "
                f"{advice}"
            )
        return self._steps[self.call + 1]

    @property
    def remaining(self) -> int:
        """The number of denoiser calls left in the run, as far as it is known."""
        return len(self._steps) - self.call - 1

    def _set_again(self) -> bool:
        """Whether new timesteps belong to the run under way. Raises InputError if they differ from its own."""
        if not self._one_run or self.call < 0 or self.remaining == 0:
            return False
        if self._timesteps.tolist() != self.scheduler.timesteps.tolist():
            raise InputError(
                f"scheduler.timesteps set to others after call {self.call + 1} of {len(self._steps)}: another pipeline "
                "or a callback uses this scheduler; give it a scheduler of its own, copy.deepcopy(pipe.scheduler)."
            )
        self._timesteps = self.scheduler.timesteps
        return True


def run_of(scheduler: Any, timestep: Callable[[], float | None] | None, length: int | None) -> tuple[int, int]:
    """The indices in `scheduler.timesteps` at which a run begins and ends.

    `begin_index` gives the beginning. Schedulers without one (DDIM, DDPM, PNDM) do not record it. There it is the index
    of the first timestep; if the denoiser gets another number (a fraction of it), `length` gives it.

    Args:
        scheduler: A diffusers scheduler after `set_timesteps`.
        timestep: Returns the timestep that the denoiser receives; None if it is not known.
        length: The number of timesteps of the run; None if it is not known.

    Returns:
        The first index, and the end (exclusive).
    """
    count = len(scheduler.timesteps)
    begin = getattr(scheduler, "begin_index", None)
    missing = count - length if length is not None and 0 < length <= count else 0
    if begin is None:
        denoiser_timestep = timestep() if timestep is not None else None
        times = scheduler.timesteps.tolist()
        scaled = denoiser_timestep is None or (denoiser_timestep <= 1 < max(times))
        positions = (
            []
            if scaled or denoiser_timestep is None
            else [i for i, t in enumerate(times) if _is_close(t, denoiser_timestep)]
        )
        begin = missing if missing in positions or not positions else positions[0]
    return begin, min(count, begin + length) if missing and length is not None else count


def read_steps(
    scheduler: Any, begin: int | None = None, end: int | None = None, *, whole_trajectory: bool = False
) -> list[Step]:
    """The Step of every denoiser call of the run that `scheduler.set_timesteps` prepared.

    Both calls of a two-call sampler (Heun, KDPM2, the SDE solver) share the index.

    Args:
        scheduler: A diffusers scheduler after `set_timesteps`.
        begin: The index in `scheduler.timesteps` at which the run starts; None for the scheduler's `begin_index`
            (img2img), or 0.
        end: The index at which the run ends, exclusive; None for all timesteps.
        whole_trajectory: True counts `index` and `count` over all timesteps of the scheduler; False over the run.

    Returns:
        One Step per call. `sigma` is noise over signal where the model is evaluated, `next_sigma` that at the end of
        the interval. A sampler that is not known gets None for both.
    """
    timesteps = [float(t) for t in scheduler.timesteps.tolist()]
    if begin is None:
        begin = getattr(scheduler, "begin_index", None) or 0
    calls = range(begin, len(timesteps) if end is None else end)
    indices = [_interval(scheduler, call) for call in range(len(timesteps))]
    first_index, count = (
        (0, indices[-1] + 1) if whole_trajectory else (indices[begin], indices[calls[-1]] + 1 - indices[begin])
    )
    sampler_sigmas = getattr(scheduler, "sigmas", None)
    if sampler_sigmas is not None and len(sampler_sigmas) > len(timesteps):
        levels = _from_sigmas(scheduler, [float(s) for s in sampler_sigmas.tolist()], len(timesteps))
    elif hasattr(scheduler, "alphas_cumprod"):
        levels = _from_alphas(scheduler, timesteps, indices)
    else:
        levels = [(None, None, None)] * len(timesteps)
    steps = []
    for call in calls:
        sampler_sigma, sigma, next_sigma = levels[call]
        alpha = None if sigma is None else alpha_of(scheduler, sigma)
        steps.append(Step(indices[call] - first_index, count, timesteps[call], sigma, next_sigma, alpha, sampler_sigma))
    return steps


def prediction_of(scheduler: Any) -> Space:
    """The parameterization of a model that a scheduler drives.

    Args:
        scheduler: A diffusers scheduler.

    Returns:
        "epsilon", "x0", "v" or "flow"; "edm" of the preconditioning of EDM (2206.00364), but "v" if its sign is the
        opposite one and `sigma_data` is 1, where that is v; "model" if it is another one.

    Examples:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> prediction_of(FlowMatchEulerDiscreteScheduler())
        'flow'
    """
    if _is_flow(scheduler):
        return "flow"
    if _get(scheduler, "sigma_data") is not None:
        kind, unit = _get(scheduler, "prediction_type"), float(_get(scheduler, "sigma_data")) == 1
        return "edm" if kind == "epsilon" else "v" if kind == "v_prediction" and unit else "model"
    kinds: dict[str, Space] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v", "flow_prediction": "flow"}
    return kinds.get(str(_get(scheduler, "prediction_type")), "model")


def is_inverted(scheduler: Any) -> bool:
    """Whether a flow's levels rise from 0, noise, to 1, the image, as those of Mochi and OmniGen do.

    Args:
        scheduler: A diffusers scheduler.

    Returns:
        True if so; the network then predicts the velocity from the noise to the image.

    Examples:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> is_inverted(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
        True
    """
    return bool(_get(scheduler, "invert_sigmas"))


def _interval(scheduler: Any, call: int) -> int:
    if getattr(scheduler, "order", 1) == 2:
        return call // 2
    if hasattr(scheduler, "prk_timesteps"):  # PNDM: Runge-Kutta start of four calls a step, or a repeated first step
        start = len(scheduler.prk_timesteps)
        if start:
            return call // 4 if call < start else start // 4 + call - start
        return max(0, call - 1) if len(scheduler.plms_timesteps) > scheduler.num_inference_steps else call
    return call


def _from_sigmas(
    scheduler: Any, sampler_sigmas: list[float], calls: int
) -> list[tuple[float | None, float | None, float | None]]:
    two, inverted = getattr(scheduler, "order", 1) == 2, is_inverted(scheduler)
    flow = _is_flow(scheduler) and _get(scheduler, "sigma_data") is None  # Cosmos 2 counts noise over signal
    levels: list[tuple[float | None, float | None, float | None]] = []
    for call in range(calls):
        sampler_sigma = (
            _second_evaluation(scheduler, sampler_sigmas, call) if two and call % 2 else sampler_sigmas[call]
        )
        interval_end = sampler_sigmas[call + 1]  # two-call samplers list each end of an interval twice
        start, end = (1 - sampler_sigma, 1 - interval_end) if inverted else (sampler_sigma, interval_end)
        levels.append((sampler_sigma, _over_signal(start, flow), _over_signal(end, flow)))
    return levels


def _second_evaluation(scheduler: Any, sampler_sigmas: list[float], call: int) -> float:
    if hasattr(scheduler, "sigmas_up"):  # KDPM2 ancestral: stored at the start of the interval
        return float(scheduler.sigmas_interpol[call - 1])
    if hasattr(scheduler, "sigmas_interpol"):  # KDPM2: stored at its end
        return float(scheduler.sigmas_interpol[call])
    if hasattr(scheduler, "mid_point_sigma"):  # SDE solver: half way in log sigma
        return math.sqrt(sampler_sigmas[call - 1] * sampler_sigmas[call])
    return sampler_sigmas[call]  # Heun: at the end of the interval


def _from_alphas(
    scheduler: Any, timesteps: list[float], indices: list[int]
) -> list[tuple[float | None, float | None, float | None]]:
    signal = scheduler.alphas_cumprod.tolist()
    last_index = len(signal) - 1

    def sigma(t: float) -> float:
        signal_power = signal[min(last_index, max(0, round(t)))]
        return math.inf if signal_power <= 0 else math.sqrt((1 - signal_power) / signal_power)

    starts = {index: t for t, index in zip(reversed(timesteps), reversed(indices), strict=True)}
    final_power = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    end = math.sqrt((1 - final_power) / final_power)
    ends = {index: sigma(starts[index + 1]) if index + 1 in starts else end for index in starts}
    return [(sigma(t), sigma(t), ends[index]) for t, index in zip(timesteps, indices, strict=True)]


def _over_signal(sampler_sigma: float, flow: bool) -> float:
    if not flow:
        return sampler_sigma
    return math.inf if sampler_sigma >= 1 else sampler_sigma / (1 - sampler_sigma)


def alpha_of(scheduler: Any, sigma: float) -> float:
    """The signal's factor in what a network is given at a noise level.

    Args:
        scheduler: A diffusers scheduler.
        sigma: Noise over signal.

    Returns:
        1 / (1 + sigma) of a flow, else 1 / sqrt(d^2 + sigma^2), d being 1 or `sigma_data`.
    """
    if _is_flow(scheduler):
        return 1 / (1 + sigma)
    data = _get(scheduler, "sigma_data")
    return 1 / math.hypot(1.0 if data is None else float(data), sigma)


def _is_flow(scheduler: Any) -> bool:
    return bool(
        "FlowMatch" in type(scheduler).__name__
        or _get(scheduler, "use_flow_sigmas")
        or _get(scheduler, "prediction_type") == "flow_prediction"
    )


def _is_close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * max(1.0, abs(a))


def _get(scheduler: Any, name: str) -> Any:
    return getattr(scheduler.config, name, None)
