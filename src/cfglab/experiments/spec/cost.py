"""The cost of an experiment, counted from its document: to expand a grid of a million settings takes a while."""

from dataclasses import dataclass
from math import prod
from typing import Any

from cfglab.experiments.spec.document import BaselineDocument, Document, GroupDocument, SettingDocument
from cfglab.experiments.spec.prompts import read_seeds
from cfglab.pipelines.loading.samplers import TWICE

LARGE = 100_000
SECONDS_A_ROW = 0.006  # `scenes` on two idle cores, see the README

_Part = BaselineDocument | SettingDocument | GroupDocument


@dataclass(frozen=True)
class Cost:
    """The cost of an experiment.

    Attributes:
        images: images; equal images of several settings are counted for each.
        rows: denoiser rows of plain guidance: two for each image and denoiser call, none shared. Transforms that need
            more predictions cost more.
    """

    images: int
    rows: int

    @property
    def large(self) -> bool:
        """Whether to ask before starting: there are more images than a store and its report are made for."""
        return self.images > LARGE

    def __str__(self) -> str:
        hours = self.rows * SECONDS_A_ROW / 3600
        time = f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:,.1f} hours"
        return (
            f"{self.images:,} images, for plain guidance in up to {self.rows:,} denoiser rows, {time} at "
            f"{SECONDS_A_ROW * 1000:.0f} ms a row, which is what scenes takes on two cores"
        )


def cost_of(document: Document) -> Cost:
    """Return the cost of the experiment that a document describes, without expanding its grid.

    Args:
        document: a checked document.

    Raises:
        InputError: if the prompts or seeds are not valid.
    """
    settings = 1 + len(document.settings) + sum(map(_points, document.groups))
    noises = len(document.prompt_list()) * len(read_seeds(document.seeds))
    images = settings * noises
    calls = 2 if document.sampler in TWICE else 1
    parts: list[_Part] = [document.baseline, *document.settings, *document.groups]
    tried = sum(map(_candidate_steps, parts))
    return Cost(images, round(2 * calls * (document.steps * images + tried * noises)))


def _candidate_steps(part: _Part) -> float:
    """The steps of the candidates (`best_of`) of the settings of one part, for one prompt and seed."""
    group = part if isinstance(part, GroupDocument) else None
    tried = [number for number in _values(part.best_of, group) if number > 1]
    share = len(tried) / len(_values(part.best_of, group))
    early = _values(part.early, group)
    points = _points(group) if group else 1
    return points * share * (sum(tried) / len(tried)) * (sum(early) / len(early)) if tried else 0.0


def _points(group: GroupDocument) -> int:
    """The settings of a group."""
    return prod(len(values) if isinstance(values, list) else 1 for values in group.axes.values())


def _values(value: Any, group: GroupDocument | None) -> list[float]:
    """A number, or those of the axis that a template names; 1 for what is refused later."""
    values = group.axes.get(value.strip("{}"), [value]) if isinstance(value, str) and group else [value]
    return [number for number in values if isinstance(number, int | float)] or [1.0]
