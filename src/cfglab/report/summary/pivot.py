"""What the images can be laid out by: every axis that the settings sweep, of any number, beside prompt and seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cfglab.experiments.spec.document import label, text
from cfglab.experiments.spec.setting import Setting

TAKEN = ("setting", "group", "prompt", "seed")


@dataclass(frozen=True, slots=True)
class Swept:
    """One axis.

    Attributes:
        name: its name.
        values: its values as text; numbers are sorted.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pivot:
    """The axes of the settings; the first is `setting` itself, the second `group` where there are several.

    Attributes:
        axes: the axes.
        at: for each setting its index on each axis; -1 where it is not on the axis.
        rows: the axis that the page shows down at first.
        columns: the axis that the page shows across at first.
    """

    axes: tuple[Swept, ...]
    at: tuple[tuple[int, ...], ...]
    rows: str
    columns: str


def pivot(settings: Sequence[Setting], prompts: int) -> Pivot:
    """Return the axes of an experiment and what the page shows at first.

    Args:
        settings: all settings, the baseline first; it is on no axis.
        prompts: the number of prompts.
    """
    compared = settings[1:]
    groups = list(dict.fromkeys(setting.group for setting in compared))
    fields = _labelled(compared)
    names = list(dict.fromkeys(name for labels in fields for name in labels))
    named = {"setting": [setting.name for setting in compared]}
    if len(groups) > 1:
        named["group"] = [setting.group for setting in compared]
    index_of = {name: _places(list(values)) for name, values in named.items()}
    shown = {"setting": tuple(setting.title or setting.name for setting in compared)}
    shown |= {name: tuple(index_of[name]) for name in named if name != "setting"}
    for name in names:
        index_of[name] = _places(_ordered([labels[name] for labels in fields if name in labels]))
        if len(index_of[name]) > 1 and name not in (*named, *TAKEN):
            named[name] = [labels.get(name, "") for labels in fields]
            shown[name] = tuple(index_of[name])
    axes = tuple(Swept(name, shown[name]) for name in named)
    at = [tuple(-1 for _ in axes)]
    at += [tuple(index_of[axis.name].get(named[axis.name][i], -1) for axis in axes) for i in range(len(compared))]
    return Pivot(axes, tuple(at), *_first_look(axes, at[1:], prompts))


def _labelled(settings: Sequence[Setting]) -> list[dict[str, str]]:
    """The axis values of each setting as text; within a group 1 and 1.0 differ where an axis has both."""
    labels: dict[tuple[str, str], dict[str, str]] = {}
    for setting in settings:
        for name, value in setting.axes.items():
            labels.setdefault((setting.group, name), {})[text(value)] = label(value)
    for texts in labels.values():
        counts = Counter(texts.values())
        texts |= {exact: exact for exact, short in texts.items() if counts[short] > 1}
    return [
        {name: labels[setting.group, name][text(value)] for name, value in setting.axes.items()} for setting in settings
    ]


def _first_look(axes: Sequence[Swept], at: Sequence[tuple[int, ...]], prompts: int) -> tuple[str, str]:
    """(rows, columns): the longest axis across, and down what divides it best."""
    swept_axes = sorted(
        (axis for axis in axes if axis.name not in ("setting", "group")), key=lambda axis: -len(axis.values)
    )
    images_axis = "prompt" if prompts > 1 else "seed"
    if not swept_axes:
        return images_axis, "setting"
    column = [axis.name for axis in axes].index(swept_axes[0].name)
    names = [axis.name for axis in axes]
    if "group" in names and len({row[names.index("group")] for row in at if row[column] >= 0}) > 1:
        return "group", swept_axes[0].name
    swept_with = [row for row in at if row[column] >= 0]
    crossed = (axis.name for axis in swept_axes[1:] if any(row[names.index(axis.name)] >= 0 for row in swept_with))
    return next(crossed, images_axis), swept_axes[0].name


def _places(values: Sequence[str]) -> dict[str, int]:
    return {value: index for index, value in enumerate(dict.fromkeys(values))}


def _ordered(values: Sequence[str]) -> list[str]:
    try:
        return sorted(values, key=float)
    except ValueError:
        return list(values)
