"""The backend of a pipeline of any text-to-image class, by calls of the pipeline alone. Runs torch."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from cfglab.errors import InputError
from cfglab.experiments.backends.base import BatchResult
from cfglab.experiments.backends.candidates import choose_candidates
from cfglab.experiments.backends.pipeline import PipelineBackend, result
from cfglab.experiments.spec.cell import Cell
from cfglab.metrics.images import pixel_metrics
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.lookup import profile_of


class TextToImageBackend(PipelineBackend):
    """The backend of a pipeline of any class that makes images of a prompt.

    The images are those of `pipe(prompt, generator=torch.Generator("cpu").manual_seed(seed))` under `guide`.

    Args:
        pipe: a diffusers pipeline of a class that `guide` knows.
        autocast: a context in which the pipeline is called.
    """

    def __init__(self, pipe: Any, *, autocast: AbstractContextManager[Any] | None = None) -> None:
        super().__init__(pipe)
        self._autocast = autocast or nullcontext()

    def check_prompts(self, prompts: Iterable[str], negative: str) -> None:
        """Raise InputError if no text encoder can read the whole of a prompt, or there is no negative prompt.

        Beside a T5, which reads long texts, those of CLIP (77 tokens) may lose the end of a prompt, as in Stable
        Diffusion 3; alone, as in SDXL, they may not.
        """
        if negative and "negative_prompt" not in inspect.signature(type(self.pipe).__call__).parameters:
            raise InputError(f"negative {negative!r:.60}: a {type(self.pipe).__name__} has none; leave it out.")
        tokenizers = [getattr(self.pipe, name, None) for name in ("tokenizer", "tokenizer_2", "tokenizer_3")]
        kinds = [type(tokenizer).__name__ for tokenizer in tokenizers if tokenizer is not None]
        if kinds and (len(kinds) == 1 or all(kind.startswith("CLIP") for kind in kinds)):
            super().check_prompts(prompts, negative)

    def generate(self, batch: Sequence[Cell]) -> BatchResult:
        """Generate the images of one batch by one call of the pipeline.

        Args:
            batch: cells that have all fields in common except prompt, seed and guidance.

        Returns:
            The images, in the order of the cells. Their metrics are those of the decoded pixels before the pipeline
            clamps them; a pipeline without an image processor has no `clipped_share`.

        Raises:
            InputError: if the pipeline makes images of another size.
            NotFinite: if a prediction is not finite.
        """
        first = batch[0]
        with torch.no_grad(), self._autocast:
            chosen = choose_candidates(self.pipe, batch, self._factor, self._arguments)
            with guide(self.pipe, [cell.guidance for cell in batch]) as trace, _decoded(self.pipe) as decoded:
                images = self.pipe(**self._arguments(batch, chosen.seeds)).images
        pixels = np.asarray(images, np.float32).transpose(0, 3, 1, 2) * 2 - 1
        if pixels.shape[2:] != (first.height, first.width):
            raise InputError(
                f"{first.width} x {first.height}: this {type(self.pipe).__name__} makes images of {pixels.shape[3]} x "
                f"{pixels.shape[2]}; state width={pixels.shape[3]} and height={pixels.shape[2]}."
            )
        return result(pixels, trace, chosen, _metrics(pixels, decoded))

    @property
    def _factor(self) -> int:
        return int(getattr(self.pipe, "vae_scale_factor", 8))

    def _arguments(self, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any]:
        """The arguments of the pipeline for cells, with starting noises of these torch seeds."""
        first = cells[0]
        return {
            "prompt": [cell.prompt for cell in cells],
            **self._switches(first.negative, len(cells)),
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.steps,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "np",
            **first.arguments,
        }

    def _switches(self, negative: str, count: int) -> dict[str, Any]:
        """The arguments that switch the guidance of the pipeline on, where their defaults leave it off."""
        profile, parameters = profile_of(self.pipe), inspect.signature(type(self.pipe).__call__).parameters
        switches: dict[str, Any] = {}
        if profile.layout in ("batched", "two calls") and profile.off is not None and profile.scale in parameters:
            default = parameters[profile.scale].default
            usual = default if isinstance(default, int | float) else profile.off
            switches[profile.scale] = max(usual, profile.off + 0.5)  # guide() replaces it; it only has to be above
        if negative or "negative_prompt" in profile.negatives:
            switches["negative_prompt"] = [negative] * count
        return switches


@contextmanager
def _decoded(pipe: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the images `(n, 3, h, w)` that a pipeline's autoencoder returns, before they are clamped."""
    images: list[torch.Tensor] = []
    processor = getattr(pipe, "image_processor", None)
    if processor is None:
        yield images
        return
    postprocess = processor.postprocess

    def collect(image: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        images.append(image.detach().float().cpu())
        return postprocess(image, *args, **kwargs)

    processor.postprocess = collect
    try:
        yield images
    finally:
        del processor.postprocess


def _metrics(pixels: np.ndarray, decoded: list[torch.Tensor]) -> tuple[Mapping[str, float], ...]:
    """The metrics of each image; of one that is not finite, which fails, they are not read."""
    unclamped = bool(decoded) and all(image.ndim == 4 and image.shape[1] == 3 for image in decoded)
    shown = torch.cat(decoded).numpy() if unclamped else pixels
    return tuple(pixel_metrics(np.nan_to_num(shown), clamped=not unclamped))
