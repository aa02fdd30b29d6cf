"""A cell: one image to generate. Loads no torch."""

from collections.abc import Callable
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from cfglab.experiments.spec.arguments import Arguments
from cfglab.experiments.spec.content_hash import ContentHashed
from cfglab.guidance import Guidance
from cfglab.pipelines.candidates import EARLY


class Cell(ContentHashed):
    """One image to generate. The fields hold everything that it depends on except the versions and the device.

    Versions and the device are recorded separately. The `id` is the name of the cell.

    Attributes:
        model: the model name.
        weights: the hash of the model folder.
        prompt: the prompt.
        negative: the negative prompt.
        seed: the seed of torch's generator for the starting noise.
        steps: sampling steps.
        width: image width in pixels.
        height: image height in pixels.
        sampler: the name of the sampler.
        sampler_config: the scheduler configuration of the model.
        dtype: the dtype of the model.
        compile: whether the denoiser runs through torch.compile.
        arguments: further arguments of the pipeline's call.
        guidance: the Guidance.
        best_of: candidates of the starting noise, with the seeds `candidate_seed(seed, 0)` and so on. The image has the
            one whose predictions differ most in the first steps; 1 is `seed` itself.
        early: the first steps, which candidates are compared by.
    """

    model: str
    weights: str
    prompt: str
    negative: str
    seed: int
    steps: int
    width: int
    height: int
    sampler: str
    sampler_config: dict[str, Any]
    dtype: str
    compile: bool = False
    arguments: Arguments = Field(default_factory=dict)
    guidance: Guidance
    best_of: int = 1
    early: int = EARLY

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without fields that older cells lack, where they are not used: those keep their ids."""
        content: dict[str, Any] = write(self)
        unused = {name for name, used in _SINCE.items() if not used(self)}
        return {name: value for name, value in content.items() if name not in unused}


_SINCE: dict[str, Callable[[Cell], bool]] = {
    "compile": lambda cell: cell.compile,
    "arguments": lambda cell: bool(cell.arguments),
    "best_of": lambda cell: cell.best_of > 1,
    "early": lambda cell: cell.best_of > 1,
}
"""Fields that older cells lack -> whether a cell uses them."""
