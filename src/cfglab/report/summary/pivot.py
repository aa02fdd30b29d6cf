"""What the images can be laid out by: every axis that the settings sweep, of any number, beside prompt and seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cfglab.experiments.spec.document import label, text
from cfglab.experiments.spec.experiment import Setting

TAKEN = ("setting", "group", "prompt", "seed")


@dataclass(frozen=True, slots=True)
class Swept:
    """One axis: its name and its values as text, numbers in their order, others as they come."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pivot:
    """The axes of the settings. `at` holds, for each setting, its place on each axis; -1 where it has none there.

    The first axis is `setting` itself, the second `group` where there are several.
    """

    axes: tuple[Swept, ...]
    at: tuple[tuple[int, ...], ...]
    rows: str
    columns: str


def pivot(settings: Sequence[Setting], prompts: int) -> Pivot:
    """The axes of an experiment, the baseline first among its settings and on no axis, and what to show at first."""
    others = settings[1:]
    groups = list(dict.fromkeys(setting.group for setting in others))
    fields = _labelled(others)
    names = list(dict.fromkeys(name for found in fields for name in found))
    named = {"setting": [setting.name for setting in others]}
    if len(groups) > 1:
        named["group"] = [setting.group for setting in others]
    places = {name: _places(list(values)) for name, values in named.items()}
    shown = {"setting": tuple(setting.title or setting.name for setting in others)}
    shown |= {name: tuple(places[name]) for name in named if name != "setting"}
    for name in names:
        places[name] = _places(_ordered([found[name] for found in fields if name in found]))
        if len(places[name]) > 1 and name not in (*named, *TAKEN):
            named[name] = [found.get(name, "") for found in fields]
            shown[name] = tuple(places[name])
    axes = tuple(Swept(name, shown[name]) for name in named)
    at = [tuple(-1 for _ in axes)]
    at += [tuple(places[axis.name].get(named[axis.name][i], -1) for axis in axes) for i in range(len(others))]
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
    return [{name: labels[it.group, name][text(value)] for name, value in it.axes.items()} for it in settings]


def _first_look(axes: Sequence[Swept], at: Sequence[tuple[int, ...]], prompts: int) -> tuple[str, str]:
    """(rows, columns): the longest axis across, and down what divides it best."""
    swept_axes = sorted(
        (axis for axis in axes if axis.name not in ("setting", "group")), key=lambda it: -len(it.values)
    )
    pictures = "prompt" if prompts > 1 else "seed"
    if not swept_axes:
        return pictures, "setting"
    column = [axis.name for axis in axes].index(swept_axes[0].name)
    names = [axis.name for axis in axes]
    if "group" in names and len({it[names.index("group")] for it in at if it[column] >= 0}) > 1:
        return "group", swept_axes[0].name
    return (swept_axes[1].name if len(swept_axes) > 1 else pictures), swept_axes[0].name


def _places(values: Sequence[str]) -> dict[str, int]:
    return {value: place for place, value in enumerate(dict.fromkeys(values))}


def _ordered(values: Sequence[str]) -> list[str]:
    try:
        return sorted(values, key=float)
    except ValueError:
        return list(values)
