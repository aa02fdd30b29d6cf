"""What a group of settings sweeps: one numeric axis, stated by the settings or else found in their guidance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from cfglab.experiments.spec.setting import Setting

SHADES = 33
"""Colours of the sequential map that the page declares, dark to bright, named `--v0` to `--v32`."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One field that differs over a group's settings: its name, its value in each of them, and the marked value."""

    name: str
    values: tuple[float, ...]

    @property
    def marked(self) -> float:
        """The value that plots mark: 1 where it is swept (for k the plain cosine), else the middle one."""
        ordered = sorted(self.values)
        return 1.0 if 1.0 in ordered else ordered[(len(ordered) - 1) // 2]

    @property
    def logarithmic(self) -> bool:
        """Whether values spread over so many sizes that a logarithmic scale is the readable one."""
        return min(self.values) > 0 and max(self.values) >= 8 * min(self.values)

    def shades(self) -> tuple[int, ...]:
        """The place of each value in the sequential colour map, 0 to SHADES - 1."""
        positions = [log(value) for value in self.values] if self.logarithmic else list(self.values)
        low, high = min(positions), max(positions)
        return tuple(round((position - low) / ((high - low) or 1) * (SHADES - 1)) for position in positions)


def axis_of(settings: Sequence[Setting]) -> Axis | None:
    """The one numeric axis of a group; None for fewer than two settings, several axes, or anything else that varies."""
    if len(settings) < 2:
        return None
    stated = [setting.axes for setting in settings]
    if varying := _varying(stated):
        return _single(stated, varying)
    leaves = [dict(_leaves(setting.guidance.model_dump(mode="json"))) for setting in settings]
    return _single(leaves, _varying(leaves))


def _varying(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for field in fields for name in field})
    return [name for name in names if len({repr(field.get(name)) for field in fields}) > 1]


def _single(fields: Sequence[Mapping[str, Any]], varying: list[str]) -> Axis | None:
    if len(varying) != 1:
        return None
    values = [field.get(varying[0]) for field in fields]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    return Axis(varying[0].rsplit(".", 1)[-1], tuple(float(value) for value in values if value is not None))


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, f"{path}.{key}")
    else:
        yield path, node
