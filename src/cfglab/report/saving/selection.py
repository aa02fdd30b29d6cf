"""Which images stand where in a grid of a run: rows and columns by axes, prompts or seeds, everything else fixed."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cfglab.errors import InputError
from cfglab.experiments.spec.document import label
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.arrays import ResultArrays
from cfglab.report.summary.pivot import pivot
from cfglab.schedules.fields import shown

NONE = "none"
"""The name of no axis: one row, one column."""
TILES = 4_000
"""Images of one grid, and of all frames of an animation."""

_NAMED = 4
"""Settings that a note names."""


@dataclass(frozen=True)
class Tile:
    """One place of a grid: the image relative to the run folder, or why there is none."""

    image: str | None
    fault: str = ""


@dataclass(frozen=True)
class ImageGrid:
    """A grid of images.

    Attributes:
        rows: the label of each row; one empty label if there is no axis.
        columns: the label of each column.
        tiles: the tiles, row by row.
        note: what all images have in common, for the foot of the grid.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]
    note: str


class Selection:
    """The axes of a run, and the cells that a choice of them shows.

    Args:
        results: the results of the run.
    """

    def __init__(self, results: ResultArrays) -> None:
        self._results = results
        experiment = results.experiment
        self._prompts, self._seeds = len(experiment.prompts), len(experiment.seeds)
        axes = pivot(experiment.settings, self._prompts)
        settings = experiment.settings
        self._values: dict[str, tuple[str, ...]] = {"setting": _titles(experiment)}
        self._index: dict[str, list[int]] = {"setting": list(range(len(settings)))}
        for number, axis in enumerate(axes.axes):
            if axis.name != "setting":
                self._values[axis.name] = axis.values
                self._index[axis.name] = [place[number] for place in axes.at]
        self._of_settings = tuple(self._values)
        self._values["prompt"] = tuple(experiment.prompts)
        self._values["seed"] = tuple(map(str, experiment.seeds))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes."""
        return tuple(self._values)

    def values(self, axis: str) -> tuple[str, ...]:
        """Return the values of an axis as text. Raises InputError if there is no such axis."""
        if axis not in self._values:
            raise InputError(f"axis {shown(axis)}: the run has the axes {', '.join(self._values)}; choose among them.")
        return self._values[axis]

    def pins(self, at: Mapping[str, str | float]) -> dict[str, int]:
        """Return the index of each value that is fixed.

        Args:
            at: axis -> value, as text or a number; a prompt may be shortened to a part that no other prompt has.

        Raises:
            InputError: if the run has no such axis or value.
        """
        pins = {}
        for axis, given in at.items():
            value = given if isinstance(given, str) else label(given)
            values = self.values(axis)
            matches = [index for index, text in enumerate(values) if text == value] or [
                index for index, text in enumerate(values) if axis == "prompt" and value in text
            ]
            if not matches:
                listed = ", ".join(shown(text)[1:-1] for text in values[:8]) + (", …" if len(values) > 8 else "")
                raise InputError(f"{axis}={shown(value)[1:-1]}: the values of this axis are {listed}; choose one.")
            if len(matches) > 1:
                raise InputError(f"prompt {shown(value)}: {len(matches)} prompts hold this text; write more of one.")
            pins[axis] = matches[0]
        return pins

    def first_look(self, pins: Mapping[str, int]) -> tuple[str, str]:
        """Return the axes of rows and of columns that are shown where none is named.

        Args:
            pins: axis -> index of the value that is fixed; settings without these values do not count.
        """
        settings = self._results.experiment.settings
        fixed = {axis: index for axis, index in pins.items() if axis in self._of_settings}
        shown = [
            setting
            for number, setting in enumerate(settings)
            if number and all(self._index[axis][number] == index for axis, index in fixed.items())
        ]
        axes = pivot((settings[0], *shown), self._prompts)
        return axes.rows, axes.columns

    def grid(self, rows: str, columns: str, pins: Mapping[str, int]) -> ImageGrid:
        """Return the images of two axes; what is neither an axis nor pinned is fixed at its first value.

        If an axis is of the settings, the baseline stands before its values; if both are, before the columns.

        Args:
            rows: the axis from top to bottom, or "none".
            columns: the axis from left to right, or "none".
            pins: axis -> index of the value that is fixed.

        Raises:
            InputError: if an axis is used twice, or nothing is left to show.
        """
        used = [axis for axis in (rows, columns) if axis != NONE]
        for axis in used:
            self.values(axis)
        if twice := next((axis for axis in used if used.count(axis) > 1 or axis in pins), None):
            raise InputError(f"axis {shown(twice)}: is used twice; give rows, columns and fixed values different axes.")
        settings, fixed = self._candidates(used, pins)
        row_places, column_places = self._places(rows, settings), self._places(columns, settings)
        of_settings = [axis for axis in used if axis in self._of_settings]
        if not settings or not row_places or not column_places:
            raise InputError("no setting of this run has all these values; fix fewer of them.")
        if of_settings and "setting" not in used and 0 not in settings:
            (column_places if columns in of_settings else row_places).insert(0, -1)
        places = [[{rows: row, columns: column} for column in column_places] for row in row_places]
        tiles = tuple(tuple(self._tile(settings, fixed, place) for place in line) for line in places)
        visible = {self._setting_at(settings, place) for line in places for place in line}
        return ImageGrid(
            tuple(self._label(rows, place) for place in row_places),
            tuple(self._label(columns, place) for place in column_places),
            tiles,
            " · ".join(filter(None, (self._note(fixed, used), self._hidden(visible, fixed, used, pins)))),
        )

    def _candidates(self, used: Sequence[str], pins: Mapping[str, int]) -> tuple[list[int], dict[str, int]]:
        """The settings that may be shown, and the value of every axis that is fixed."""
        fixed = dict(pins)
        settings = self._index["setting"]
        if not any(axis in self._of_settings for axis in (*used, *pins)):
            return settings[:1], {"setting": 0, "prompt": 0, "seed": 0} | fixed
        for axis in self._of_settings:
            if axis in pins:
                settings = [setting for setting in settings if self._index[axis][setting] == pins[axis]]
        if any(axis in self._of_settings for axis in used) and "setting" not in used:
            for axis in used:
                if axis in self._of_settings:
                    settings = [setting for setting in settings if self._index[axis][setting] >= 0]
        if "setting" not in used and "setting" not in pins:
            for axis in self._of_settings[1:]:
                places = [self._index[axis][setting] for setting in settings if self._index[axis][setting] >= 0]
                if axis not in used and axis not in pins and len(set(places)) > 1:
                    fixed[axis] = places[0]
                    settings = [setting for setting in settings if self._index[axis][setting] in (places[0], -1)]
        for axis in ("prompt", "seed"):
            if axis not in used and axis not in pins:
                fixed[axis] = 0
        return settings, fixed

    def _places(self, axis: str, settings: Sequence[int]) -> list[int]:
        if axis == NONE:
            return [0]
        if axis in self._of_settings:
            present = {self._index[axis][setting] for setting in settings}
            return [place for place in range(len(self._values[axis])) if place in present]
        return list(range(len(self._values[axis])))

    def _setting_at(self, settings: Sequence[int], place: Mapping[str, int]) -> int | None:
        """The setting that a place shows; None if there is none."""
        of_settings = {axis: index for axis, index in place.items() if axis in self._of_settings}
        if -1 in of_settings.values():
            return 0
        matching = (
            setting
            for setting in settings
            if all(self._index[axis][setting] == index for axis, index in of_settings.items())
        )
        return next(matching, None)

    def _hidden(
        self, visible: AbstractSet[int | None], fixed: Mapping[str, int], used: Sequence[str], pins: Mapping[str, int]
    ) -> str:
        """The settings that have the fixed values, or none on those axes, and no place in the grid."""
        if "setting" in (*fixed, *used):
            return ""
        chosen = {axis: (index,) if axis in pins else (index, -1) for axis, index in fixed.items()}
        hidden = [
            name
            for setting, name in enumerate(self._values["setting"])
            if setting
            and setting not in visible
            and all(
                self._index[axis][setting] in places for axis, places in chosen.items() if axis in self._of_settings
            )
        ]
        more = f" and {len(hidden) - _NAMED} more" if len(hidden) > _NAMED else ""
        return f"not shown: {', '.join(hidden[:_NAMED])}{more}" if hidden else ""

    def _tile(self, settings: Sequence[int], fixed: Mapping[str, int], place: Mapping[str, int]) -> Tile:
        setting = self._setting_at(settings, place)
        if setting is None:
            return Tile(None)
        prompt, seed = (place.get(axis, fixed.get(axis, 0)) for axis in ("prompt", "seed"))
        position = self._results.position(setting, prompt, seed)
        if image := self._results.images[position]:
            return Tile(image)
        return Tile(None, "failed" if position in self._results.errors else "missing")

    def _label(self, axis: str, place: int) -> str:
        if axis == NONE:
            return ""
        if place < 0:
            return f"baseline: {self._values['setting'][0]}"
        value = self._values[axis][place]
        if axis in ("setting", "prompt"):
            return value
        return f"{axis} {value}" if axis in ("group", "seed") else f"{axis} = {value}"

    def _note(self, fixed: Mapping[str, int], used: Sequence[str]) -> str:
        axes = [axis for axis in self._values if axis in fixed and axis not in used]
        return " · ".join(self._label(axis, fixed[axis]) for axis in axes)


def _titles(experiment: Experiment) -> tuple[str, ...]:
    return tuple(setting.title or setting.name for setting in experiment.settings)
