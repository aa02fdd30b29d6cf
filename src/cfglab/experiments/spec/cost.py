"""The cost of an experiment, counted from its document: to expand a grid of a million settings takes a while."""

from dataclasses import dataclass
from math import prod

from cfglab.experiments.spec.document import Document
from cfglab.experiments.spec.prompts import read_prompts, read_seeds
from cfglab.pipelines.loading.samplers import TWICE

LARGE = 100_000
SECONDS_A_ROW = 0.006  # `scenes` on two idle cores, see the README


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
    grids = [
        prod(len(values) if isinstance(values, list) else 1 for values in group.axes.values())
        for group in document.groups
    ]
    prompts = [document.prompts] if isinstance(document.prompts, str) else document.prompts
    settings = 1 + len(document.settings) + sum(grids)
    images = settings * len(read_prompts(prompts)) * len(read_seeds(document.seeds))
    calls = 2 if document.sampler in TWICE else 1
    return Cost(images, 2 * calls * document.steps * images)
