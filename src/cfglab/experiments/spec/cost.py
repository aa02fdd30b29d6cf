"""What an experiment costs, counted from its document: writing out a grid of a million settings takes a while."""

from dataclasses import dataclass
from math import prod

from cfglab.experiments.spec.document import Document
from cfglab.experiments.spec.prompts import read_prompts, read_seeds
from cfglab.pipelines.loading.samplers import TWICE

LARGE = 100_000
SECONDS_A_ROW = 0.006  # `scenes` on two idle cores, see the README


@dataclass(frozen=True)
class Cost:
    """Images, equal ones counted once for each setting, and denoiser rows: those of plain guidance, two an image and
    call of the denoiser, none shared. Transforms that ask for further predictions take more."""

    pictures: int
    rows: int

    @property
    def large(self) -> bool:
        """Whether somebody should be asked first: more images than a store and its report are made for."""
        return self.pictures > LARGE

    def __str__(self) -> str:
        hours = self.rows * SECONDS_A_ROW / 3600
        time = f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:,.1f} hours"
        return (
            f"{self.pictures:,} images, for plain guidance in up to {self.rows:,} denoiser rows, {time} at "
            f"{SECONDS_A_ROW * 1000:.0f} ms a row, which is what scenes takes on two cores"
        )


def cost_of(document: Document) -> Cost:
    """The cost of the experiment that a document describes. Raises InputError for prompts or seeds that are none."""
    grids = [prod(len(it) if isinstance(it, list) else 1 for it in group.axes.values()) for group in document.groups]
    prompts = [document.prompts] if isinstance(document.prompts, str) else document.prompts
    settings = 1 + len(document.settings) + sum(grids)
    pictures = settings * len(read_prompts(prompts)) * len(read_seeds(document.seeds))
    calls = 2 if document.sampler in TWICE else 1
    return Cost(pictures, 2 * calls * document.steps * pictures)
