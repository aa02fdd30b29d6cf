"""No image of the shipped model depends on what else is drawn in its batch, nor on its place there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment

GUIDANCES = {
    "constant": "4",
    "falling": "cosine(max=7.5, min=1, k=0.3)",
    "interval": "constant(5).inside(progress=(0.3, 0.8))",
    "none": "1",
    "without the prompt": "0",
    "norm": "3 | prediction_norm()",
    "momentum": "4 | apg(momentum=-0.5, norm_threshold=5)",
    "adaptive": "4 | adaptive(similarity=0.95)",
    "reuse": "4 | reuse()",
    "further prediction": "3 | autoguidance(w=2, model=twin)",
}
CLOSE = 1e-4  # of a pixel in [-1, 1]: kernels round differently at other batch sizes


@pytest.fixture(scope="module")
def batch() -> tuple[Cell, ...]:
    """Every guidance with the first prompt and seed, which they share, and with another prompt and seed each."""
    groups = [{"name": name, "guidance": guidance} for name, guidance in list(GUIDANCES.items())[1:]]
    asked: dict[str, Any] = {"baseline": {"name": "constant", "guidance": GUIDANCES["constant"]}, "groups": groups}
    experiment = Experiment.preset("k-decay", prompts="scenes:3", seeds="0..3", steps=4, set=asked)
    cells = [cell for _, cell in experiment.cells()]
    each = len(cells) // len(GUIDANCES)
    assert each == 12
    shared = [cells[each * place] for place in range(len(GUIDANCES))]
    return (*shared, *(cells[each * place + 1 + place] for place in range(len(GUIDANCES))))


def pictures(pipe: Any, batch: Sequence[Cell]) -> dict[str, np.ndarray]:
    return dict(zip((cell.id for cell in batch), PipelineBackend(pipe).generate(batch).pixels, strict=True))


def test_a_picture_is_the_same_alone_among_others_and_in_another_order(scenes: Any, batch: tuple[Cell, ...]) -> None:
    together = pictures(scenes, batch)
    assert len(together) == len(batch)
    alone = {cell.id: PipelineBackend(scenes).generate([cell]).pixels[0] for cell in batch}
    backwards = pictures(scenes, batch[::-1])
    among_others = pictures(scenes, batch[::3]) | pictures(scenes, batch[1::3]) | pictures(scenes, batch[2::3])
    for other in (alone, backwards, among_others):
        assert max(float(np.abs(other[cell] - together[cell]).max()) for cell in together) <= CLOSE
    # the guidances, prompts and seeds do change the image, so that a mixed-up row would be seen
    different = list(together.values())
    apart = [np.abs(one - other).max() for i, one in enumerate(different) for other in different[:i]]
    assert min(apart) > 100 * CLOSE
