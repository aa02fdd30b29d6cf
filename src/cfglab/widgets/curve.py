"""A schedule as a curve that is dragged by its knots; the schedule and the curve follow each other."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from cfglab.errors import InputError
from cfglab.schedules import Constant, Linear, Schedule, Table, as_schedule
from cfglab.schedules.figure import curve, steps_shown
from cfglab.svg import theme

FOLDER = Path(__file__).parent
MOST = 40
"""The largest number of knots."""
STEPS = 1000
"""The largest number of steps."""


class KnotError(InputError, traitlets.TraitError):
    """Knots that make no curve. As a TraitError it lets traitlets restore the knots before, also for a browser's."""


class Curve(anywidget.AnyWidget):
    """A schedule that is drawn and dragged in a notebook.

    Drag a knot, or move it with the arrow keys; a double click adds one, Delete removes it. `schedule` is the result at
    every moment, and setting it redraws the curve. Between knots w is a line: two knots give a Linear or a Constant
    schedule, more give a Table with one w per step.

    Args:
        schedule: Any value that `as_schedule` accepts.
        steps: The number of steps, 1 to 1000; None for 50, or the length of a list of scales.
        low: The lowest w of the axis; None for 0, or less where the schedule needs it.
        high: The highest w of the axis; None for 1.25 times the largest w, at least 10.

    Attributes:
        schedule: The schedule. `observe(function, "schedule")` is told of each change.
        knots: The knots as (fraction of the run, w), from 0 to 1.
        steps: The number of steps.
        text: The schedule as text.

    Raises:
        InputError: The schedule is not valid, it depends on values that only a run has, or `steps` is out of range.

    Examples:
        >>> from cfglab import widgets
        >>> slider = widgets.Curve("linear(max=8, min=4)", steps=20)
        >>> slider.knots = [(0, 7.5), (1, 1)]
        >>> print(slider.schedule)
        linear(max=7.5, min=1)
    """

    _esm = FOLDER / "curve.js"
    _css = theme(".cfglab-curve") + (FOLDER / "curve.css").read_text(encoding="utf-8")

    knots: traitlets.List[Any] = traitlets.List(trait=traitlets.Any()).tag(sync=True)
    steps = traitlets.Int(50).tag(sync=True)
    low = traitlets.Float(0.0).tag(sync=True)
    high = traitlets.Float(10.0).tag(sync=True)
    curve: traitlets.List[Any] = traitlets.List(trait=traitlets.Any()).tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    schedule = traitlets.Any()

    def __init__(
        self, schedule: Any = 7.5, steps: int | None = None, low: float | None = None, high: float | None = None
    ) -> None:
        value = as_schedule(schedule)
        count = steps_shown([value]) if steps is None else steps
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= STEPS:
            raise InputError(f"{count!r} steps: a curve has 1 to {STEPS}; write 50.")
        self._settling = True
        values = _values(value, count)
        super().__init__(
            steps=count,
            low=min(0.0, *values) if low is None else float(low),
            high=max(10.0, 1.25 * max(values)) if high is None else float(high),
        )
        if not self.low < self.high:
            raise InputError(f"low {self.low:g} and high {self.high:g}: the axis rises; give low below high.")
        self._settling = False
        self.schedule = value

    @traitlets.validate("schedule")
    def _check_schedule(self, proposal: Any) -> Schedule:
        value = as_schedule(proposal["value"])
        _values(value, self.steps)
        return value

    @traitlets.validate("knots")
    def _check_knots(self, proposal: Any) -> list[list[float]]:
        """Knots may come from a browser: numbers in order, or nothing changes."""
        knots = [[float(number) for number in knot] for knot in proposal["value"]]
        places = [knot[0] for knot in knots if len(knot) == 2]
        finite = all(math.isfinite(number) for knot in knots for number in knot)
        if not 2 <= len(knots) <= MOST or len(places) != len(knots) or not finite:
            raise KnotError(f"{len(knots)} knots: a curve has 2 to {MOST}, each (fraction of the run, w), finite.")
        if places[0] != 0 or places[-1] != 1 or any(a >= b for a, b in pairwise(places)):
            raise KnotError(f"knots at {places[0]:g} to {places[-1]:g}: they rise from 0 to 1; sort them.")
        return knots

    @traitlets.observe("schedule")
    def _follow_schedule(self, change: Any) -> None:
        if self._settling:
            return
        values = _values(change["new"], self.steps)
        self._settling = True
        try:
            with self.hold_sync():
                self.knots = _knots_of(values)
                self.curve = values
                self.text = str(change["new"])
                self.low, self.high = min(self.low, *values), max(self.high, *values)
        finally:
            self._settling = False

    @traitlets.observe("knots", "steps")
    def _follow_knots(self, _change: Any) -> None:
        if self._settling:
            return
        self._settling = True
        try:
            with self.hold_sync():
                self.schedule = schedule_of(self.knots, self.steps)
                self.curve = _values(self.schedule, self.steps)
                self.text = str(self.schedule)
        finally:
            self._settling = False


def schedule_of(knots: Sequence[Sequence[float]], steps: int) -> Schedule:
    """The schedule of a line through knots.

    Args:
        knots: At least two (fraction of the run, w), the fractions rising from 0 to 1.
        steps: The number of steps, 1 or more.

    Returns:
        A Constant or a Linear schedule for two knots, a Table for more.

    Examples:
        >>> print(schedule_of([(0, 1), (1, 7.5)], 50))
        linear(max=7.5, min=1).inverted()
        >>> print(schedule_of([(0, 8), (0.5, 4), (1, 4)], 4))
        1x8+1x6+2x4
    """
    values = [round(float(w), 4) for _, w in knots]
    if len(set(values)) == 1:
        return Constant(values[0])
    if len(knots) == 2:
        first, last = values
        line = Linear(max=max(values), min=min(values))
        return line if first > last else line.inverted()
    return Table([round(_at(knots, index / steps), 4) for index in range(steps)])


def _at(knots: Sequence[Sequence[float]], place: float) -> float:
    for (left, low), (right, high) in pairwise(knots):
        if place <= right:
            return low + (high - low) * (place - left) / (right - left)
    return float(knots[-1][1])


def _values(schedule: Schedule, steps: int) -> list[float]:
    return [1.0 if value is None else value for value in curve(schedule, steps)]


def _knots_of(values: Sequence[float]) -> list[list[float]]:
    """Few knots on a curve: two for a line, else at both ends and where the line between knots is farthest off."""
    steps = len(values)
    slope = values[1] - values[0] if steps > 1 else 0.0
    if all(abs(after - before - slope) < 1e-9 for before, after in pairwise(values)):
        return [[0.0, values[0]], [1.0, round(values[0] + steps * slope, 9)]]
    places = [index / steps for index in range(steps)]
    knots = [[0.0, values[0]], [1.0, values[-1]]]
    span = max(values) - min(values)
    while len(knots) < 9:
        errors = [abs(_at(knots, place) - value) for place, value in zip(places, values, strict=True)]
        worst = max(range(steps), key=errors.__getitem__)
        if errors[worst] <= 0.02 * span or places[worst] in [place for place, _ in knots]:
            break
        knots = sorted([*knots, [places[worst], values[worst]]])
    return knots
