"""The noise levels of a run in every unit: the host's own number, sigma, t, timestep, step. Loads no torch."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.hosts.sigma_steps import check_level, step_of_rounded
from cfglab.schedules import as_schedule
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

SAME = 1e-4
"""Levels that differ by less than this part of a step are the same level, computed in another precision."""
UNITS = ("sigma", "t", "timestep", "level", "progress", "step")


@dataclass(frozen=True)
class Levels:
    """The noise levels of a run: one Step per interval, and conversions between units.

    Attributes:
        name: The name of the path or model.
        level: What the host's own number is, such as "timestep" or "t, 0 at noise".
        hosts: The host's own number at each step, and at the end of the run: n + 1 for n steps.
        steps: The n steps, with `sigma`, `next_sigma`, `alpha`, `timestep` and `host_sigma` (the host's number).
        prediction: What the network of this path predicts.
        scaled: True if the host's sample is what the network sees; False if it is x0 + sigma e.
        negated: True if the host's velocity is x0 - e, of the opposite sign.

    Examples:
        >>> from cfglab import levels
        >>> [(step.host_sigma, round(step.sigma, 3)) for step in levels("repa", 4).steps]
        [(1.0, inf), (0.75, 3.0), (0.5, 1.0), (0.25, 0.333)]
    """

    name: str
    level: str
    hosts: tuple[float, ...]
    steps: tuple[Step, ...]
    sigma_of: Callable[[float], float] = field(repr=False)
    alpha_of: Callable[[float], float] = field(repr=False)
    prediction: Space = "epsilon"
    scaled: bool = True
    negated: bool = False

    def at(self, level: float, *, ending: bool = False, rounding: float = 0.0) -> Step:
        """The Step of a call of the network.

        Its index is that of the last step that starts at `level` or at more noise, so that calls between two levels
        belong to the step around them.

        Args:
            level: The host's own number at which the network is evaluated.
            ending: The call is at the end of its step, as the second one of Heun's method.
            rounding: The relative error of `level` where it is of half precision: a level of the run that is as near
                is meant, and is the level of the Step.

        Returns:
            The step, with sigma and alpha at `level`.

        Raises:
            InputError: The level is not a number, or far outside the run's.
        """
        check_level(self.level, level, self.hosts)
        if (near := step_of_rounded(level, self.hosts, rounding, ending=ending)) is not None:
            return self.evaluated(*near)
        sign = 1.0 if self.hosts[-1] > self.hosts[0] else -1.0
        keys, key = [sign * host for host in self.hosts], sign * level
        index = max(0, bisect_right(keys, key, 0, len(self.steps)) - 1)
        gap = SAME * (keys[index + 1] - keys[index])
        if not ending and index + 1 < len(self.steps) and keys[index + 1] - key <= gap:
            index += 1
        if ending and index > 0 and key - keys[index] <= gap:
            index -= 1
        return self.evaluated(index, level)

    def evaluated(self, index: int, level: float) -> Step:
        """A step with the network evaluated at some level.

        Args:
            index: The index of the step.
            level: The host's own number.

        Returns:
            The step, with sigma and alpha at `level`.
        """
        step = self.steps[index]
        if step.host_sigma == level:
            return step
        sigma, time = self.sigma_of(level), None if step.timestep is None else level
        return Step(step.index, step.count, time, sigma, step.next_sigma, self.alpha_of(sigma), level)

    def network_input(self, x: "Tensor", step: Step) -> "Tensor":
        """What the network sees of the host's sample.

        Args:
            x: The host's sample, (n, ...).
            step: A step of this run, from `at`.

        Returns:
            The sample as the network sees it, (n, ...), in the dtype of `x`.
        """
        return x if self.scaled or step.alpha is None else x * step.alpha

    def window(self, unit: str, low: float, high: float) -> "LevelWindow":
        """The steps inside a window that is stated in one unit.

        Args:
            unit: sigma (low < sigma <= high, as in 2404.07724), t, timestep or level (both ends included), progress or
                step (the end excluded).
            low: The lower end.
            high: The upper end, above `low`.

        Returns:
            The window in every unit.

        Raises:
            InputError: The unit does not exist, the ends are not in order, or no step is inside.

        Examples:
            >>> from cfglab import levels
            >>> levels("repa", 50).window("t", 0, 0.7).text(1.8)
            'constant(1.8).inside(steps=(15, 50))'
        """
        if unit not in UNITS:
            raise InputError(f"unit {shown(unit)}: there are {', '.join(UNITS)};{nearest(unit, UNITS) or ' name one.'}")
        if math.isnan(low) or math.isnan(high):
            raise InputError(f"{unit} {low:g} to {high:g}: the ends of a window are numbers; write {unit}=0.3..5.")
        if not low < high:
            raise InputError(f"{unit} {low:g} to {high:g}: a window goes upwards; write {unit}={high:g}..{low:g}.")
        values = [measured(step, unit) for step in self.steps]
        if None in values:
            raise InputError(f"{unit}: {self.name} has no timesteps; name another unit.")
        tolerance = 1e-9
        if unit == "sigma":
            inside = [value is not None and low < value <= high for value in values]
        elif unit in ("progress", "step"):
            inside = [value is not None and low <= value < high for value in values]
        else:
            inside = [value is not None and low - tolerance <= value <= high + tolerance for value in values]
        if not any(inside):
            raise InputError(
                f"{unit} {low:g} to {high:g}: no step of {len(values)} is inside; widen it, or more steps."
            )
        first = inside.index(True)
        return LevelWindow(self, f"{unit} {low:g} to {high:g}", first, first + sum(inside))

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("step", "progress", "timestep", self.level, "sigma", "t", "alpha", "log SNR")]
        rows += [tuple(map(level_cell, _measures(step))) for step in self.steps]
        if self.level in ("timestep", "sigma"):  # a column of its own
            rows = [(*row[:3], *row[4:]) for row in rows]
        if all(step.timestep is None for step in self.steps):
            rows = [(*row[:2], *row[3:]) for row in rows]
        return "\n".join(aligned(rows))


@dataclass(frozen=True)
class LevelWindow:
    """The steps `start` to `stop` - 1 of a run, in every unit.

    Attributes:
        levels: The levels of the run.
        stated: The window as it was stated.
        start: The first step inside.
        stop: The first step behind the window.
    """

    levels: Levels
    stated: str
    start: int
    stop: int

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps inside."""
        return self.levels.steps[self.start : self.stop]

    def text(self, schedule: Any) -> str:
        """The text of a schedule inside this window.

        Args:
            schedule: A value that `as_schedule` accepts.

        Returns:
            The text, with the window in steps, which is exact on these levels.

        Raises:
            InputError: The value is not a schedule.
        """
        return str(as_schedule(schedule).inside(steps=(self.start, self.stop)))

    def __str__(self) -> str:
        first, last, count = self.steps[0], self.steps[-1], len(self.levels.steps)
        lines = [
            f"{self.stated} of {self.levels.name} with {count} steps:",
            f"  steps     {self.start} to {self.stop - 1} ({len(self.steps)} of {count}), "
            f"progress {self.start / count:.4g} to {self.stop / count:.4g}",
        ]
        if first.timestep is not None and last.timestep is not None:
            lines.append(f"  timesteps {first.timestep:g} to {last.timestep:g}")
        if self.levels.level != "timestep":
            lines.append(f"  {self.levels.level}: {level_cell(first.host_sigma)} to {level_cell(last.host_sigma)}")
        lines += [
            f"  sigma     {level_cell(first.sigma)} to {level_cell(last.sigma)}, t = sigma / (1 + sigma) "
            f"{level_cell(measured(first, 't'))} to {level_cell(measured(last, 't'))}",
            f"  schedule  constant(w).inside(steps=({self.start}, {self.stop}))",
        ]
        return "\n".join(lines)


def measured(step: Step, unit: str) -> float | None:
    """A step's level in one unit; t is that of a linear flow with the same sigma.

    Args:
        step: The step.
        unit: One of UNITS.

    Returns:
        The number; None if it is not known.
    """
    match unit:
        case "progress":
            return step.progress
        case "step":
            return float(step.index)
        case "timestep":
            return step.timestep
        case "level":
            return step.host_sigma
        case "t":
            sigma = math.inf if step.sigma is None else step.sigma
            return 1.0 if math.isinf(sigma) else sigma / (1 + sigma)
    return step.sigma


def log_snr(step: Step) -> float:
    """The logarithm of the signal-to-noise ratio at a step, -2 log sigma.

    Args:
        step: The step; without sigma it has no noise.

    Returns:
        A number, -inf at pure noise and inf without noise.
    """
    sigma = step.sigma or 0.0
    return -2 * math.log(sigma) if 0 < sigma < math.inf else -math.inf if sigma else math.inf


def _measures(step: Step) -> tuple[object, ...]:
    level = (step.index, step.progress, step.timestep, step.host_sigma, step.sigma or 0.0)
    return *level, measured(step, "t"), step.alpha, log_snr(step)


def level_cell(value: object) -> str:
    """A number of a table of levels: whole as it is, others with four digits, nothing for None.

    Args:
        value: The number.

    Returns:
        The text.
    """
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of text, each column as wide as its widest cell.

    Args:
        rows: The rows, all of one length.

    Returns:
        A line per row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
