"""A cell: one image to generate. Loads no torch."""

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from cfglab.experiments.spec.content_hash import ContentHashed
from cfglab.guidance import Guidance


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
        guidance: the Guidance.
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
    guidance: Guidance

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `compile` where it is off: cells of before there was such a field keep their id."""
        content: dict[str, Any] = write(self)
        return content if self.compile else {name: value for name, value in content.items() if name != "compile"}
