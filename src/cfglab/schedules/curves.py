"""Several schedules in common axes, in a notebook: `curves([...])`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfglab.errors import InputError
from cfglab.schedules.coercion import as_schedule
from cfglab.schedules.figure import bundle_of
from cfglab.schedules.schedule import Schedule
from cfglab.step import steps as steps_of

MOST = 24
"""The largest number of curves in one pair of axes."""


@dataclass(frozen=True)
class Curves:
    """Schedules that a notebook shows in common axes; made by `curves`.

    Attributes:
        schedules: The schedules, in the order of the legend.
        steps: The number of steps; None for 50, or the length of the shortest list of scales.
        sigmas: The noise levels (noise over signal), or None.
    """

    schedules: tuple[Schedule, ...]
    steps: int | None = None
    sigmas: tuple[float, ...] | None = None

    def __str__(self) -> str:
        return "\n".join(map(str, self.schedules))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        return bundle_of(str(self), self.schedules, self.steps, self.sigmas, include, exclude)


def curves(schedules: Iterable[Any], steps: int | None = None, sigmas: Sequence[float] | None = None) -> Curves:
    """Schedules that a notebook shows in common axes.

    Args:
        schedules: 1 to 24 values that `as_schedule` accepts.
        steps: The number of steps, 1 or more; None for 50, or the length of the shortest list of scales.
        sigmas: The noise levels (noise over signal), falling, as many as steps or one more. If they are given, the
            curves are also shown over sigma. None for those of Stable Diffusion 1.x where a schedule reads sigma.

    Returns:
        The curves, an object that draws itself in a notebook; `str` lists the schedules.

    Raises:
        InputError: There is no schedule or more than 24, one is not valid, or `steps` or `sigmas` is not valid.

    Examples:
        >>> from cfglab import curves
        >>> print(curves([7.5, "cosine(max=7.5, min=1)"], steps=20))
        7.5
        cosine(max=7.5, min=1)
    """
    if isinstance(schedules, str | Mapping | Schedule) or not isinstance(schedules, Iterable):
        schedules = [schedules]
    values = tuple(as_schedule(value) for value in schedules)
    if not 1 <= len(values) <= MOST:
        raise InputError(f"{len(values)} curves: common axes hold 1 to {MOST}; give so many.")
    if sigmas is not None:
        sigmas = tuple(float(sigma) for sigma in sigmas)
        steps = steps or max(1, len(sigmas) - (sigmas[-1:] == (0.0,)))
    if steps is not None:
        steps_of(steps, sigmas)
    return Curves(values, steps, sigmas)
