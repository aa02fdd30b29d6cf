"""Scales by part of a run, as video programs have them: skipped steps, and phases of noise."""

from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cfglab.errors import NoNoiseLevel
from cfglab.schedules.fields import Real, Scales, bounded
from cfglab.schedules.schedule import Schedule
from cfglab.step import Step

Ratio = Annotated[Real, bounded(lambda value: 0 <= value <= 1, "it is between 0 and 1; write ratio=0.5.")]


def _falling(levels: tuple[float, ...]) -> tuple[float, ...]:
    if min(levels) < 0 or any(high <= low for high, low in pairwise(levels)):
        raise ValueError("noise levels are 0 or more and fall, the first phase ends first; write sigma=(7, 1.5).")
    return levels


Levels = Annotated[Scales, AfterValidator(_falling)]


class CFGSkip(Schedule):
    """w in a share of the steps, off in the others: `--cfg_skip_mode` and `--cfg_apply_ratio` of musubi-tuner.

    **A mode names the part of the run that is skipped**: `early` guides the last steps, `late` the first ones, `middle`
    the first and the last ones, `early_late` the middle. int(N ratio) steps are guided. `alternate` adds the ratio at
    every step and guides where the sum reaches 1, so at 0.5 it guides every second step, the second one first; the
    number of its guided steps may differ by one from the other modes.

    Attributes:
        w: The scale of the guided steps.
        mode: "early", "late", "middle", "early_late" or "alternate".
        ratio: The share of the steps that are guided, 0 to 1.

    Examples:
        >>> from cfglab import CFGSkip
        >>> CFGSkip(w=5, mode="late", ratio=0.5).values(4)
        [5.0, 5.0, 1.0, 1.0]
        >>> CFGSkip(w=5, mode="alternate", ratio=0.5).values(4)
        [1.0, 5.0, 1.0, 5.0]
    """

    kind: Literal["cfg_skip"] = Field("cfg_skip", repr=False)
    w: Real
    mode: Literal["early", "late", "middle", "early_late", "alternate"]
    ratio: Ratio

    def is_on(self, step: Step) -> bool:
        guided = int(step.count * self.ratio)
        skipped = step.count - guided
        match self.mode:
            case "early":
                return step.index >= skipped
            case "late":
                return step.index < guided
            case "middle":
                return not (step.count - skipped) // 2 <= step.index < (step.count - skipped) // 2 + skipped
            case "early_late":
                return skipped // 2 <= step.index < skipped // 2 + guided
        return _alternation(self.ratio, step.count)[step.index]

    def _w(self, step: Step) -> float:  # noqa: ARG002
        return self.w


@lru_cache(maxsize=64)
def _alternation(ratio: float, count: int) -> tuple[bool, ...]:
    """Where `alternate` guides, added up in the program's order, so that its roundings are the same."""
    total, guided = 0.0, list[bool]()
    for _ in range(count):
        total += ratio
        guided.append(total >= 1.0)
        if guided[-1]:
            total -= 1.0
    return tuple(guided)


class Phases(Schedule):
    """A scale for each phase of a run, where phases end at noise levels: scale i as long as sigma >= sigma[i].

    For models with an expert for high and one for low noise (Wan 2.2), and for accelerator LoRAs after some guided
    steps. A program that writes the switch as a flow time t from 0 to 1000 means sigma = t / (1000 - t): 875 is 7, 900
    is 9. At w = 1 the unconditional rows are not run.

    Attributes:
        scales: The scales, the first phase first; one more than noise levels.
        sigma: The noise levels at which phases end, falling, in noise over signal.

    Examples:
        >>> from cfglab import Phases
        >>> Phases(scales=[3.5, 2, 1], sigma=[7, 1]).values(4, sigmas=[100, 7, 1.5, 0.2, 0])
        [3.5, 3.5, 2.0, 1.0]
    """

    kind: Literal["phases"] = Field("phases", repr=False)
    scales: Scales
    sigma: Levels

    @model_validator(mode="after")
    def _one_scale_a_phase(self) -> Self:
        if len(self.scales) != len(self.sigma) + 1:
            raise ValueError(
                f"phases with {len(self.scales)} scales and {len(self.sigma)} noise levels: a level ends a phase, so "
                "there is one scale more; write phases(scales=(3.5, 1), sigma=(7,))."
            )
        return self

    def reads_sigma(self) -> bool:
        return True

    def _w(self, step: Step) -> float:
        if step.sigma is None:
            raise NoNoiseLevel(
                f"{self} at a step without sigma: phases end at noise over signal; give sigmas=, one a step."
            )
        return self.scales[sum(step.sigma < level for level in self.sigma)]

    def span(self) -> tuple[float, float]:
        """(smallest scale, largest scale)."""
        return (min(self.scales), max(self.scales))
