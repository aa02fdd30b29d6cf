"""Draw a batch of cells with a loaded pipeline. The one place where an experiment meets torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cfglab.experiments.backends.mixture import Laboratory
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.storage.traces import cell_traces


@dataclass(frozen=True)
class BatchResult:
    """Images of a batch: float32 `(n, 3, h, w)`, about [-1, 1] but not clamped, the denoiser's rows, and the trace of
    each image as `CellTrace.encode` gives it. `metrics` of each, where they are not those of its pixels."""

    pixels: np.ndarray
    rows_run: int
    rows_saved: int
    traces: tuple[bytes, ...] = ()
    metrics: tuple[Mapping[str, float], ...] | None = None


def draw(pipe: Any, batch: Sequence[Cell]) -> BatchResult:
    """Draw the cells of one batch, which share everything but prompt, seed and guidance.

    Every cell's starting noise is its own: float32, on the CPU, from its seed, whatever the device, dtype and batch.
    """
    if isinstance(pipe, Laboratory):
        return pipe.draw(batch)

    import torch

    from cfglab.pipelines import guide

    first = batch[0]
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    shape = (1, pipe.unet.config.in_channels, first.height // factor, first.width // factor)
    generators = [torch.Generator("cpu").manual_seed(cell.seed) for cell in batch]
    noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
    with torch.no_grad(), guide(pipe, [cell.guidance for cell in batch]) as trace:
        latents = pipe(
            **_conditioning(pipe, batch),
            width=first.width,
            height=first.height,
            num_inference_steps=first.steps,
            guidance_scale=7.5,  # guide() says what the scale is; this only has to be above 1
            latents=noise.to(pipe.device, pipe.unet.dtype),
            generator=generators,
            output_type="latent",
        ).images
        pixels = torch.cat([_decoded(pipe, part) for part in latents.split(16)])
    traces = tuple(one.encode() for one in cell_traces(trace, len(batch)))
    return BatchResult(pixels.numpy(), trace.rows_run, trace.rows_saved, traces)


def _conditioning(pipe: Any, batch: Sequence[Cell]) -> dict[str, Any]:
    """The text of each cell, every distinct prompt encoded alone: equal prompts are then equal bit for bit, so that
    their rows can be shared, which rows of one larger encoded batch are not."""
    import torch

    encoded = {}
    for cell in batch:
        if cell.prompt not in encoded:
            encoded[cell.prompt] = pipe.encode_prompt([cell.prompt], pipe.device, 1, True, [cell.negative])
    positive, negative = zip(*(encoded[cell.prompt] for cell in batch), strict=True)
    return {"prompt_embeds": torch.cat(positive), "negative_prompt_embeds": torch.cat(negative)}


def _decoded(pipe: Any, latents: Any) -> Any:
    """Latents `(n, c, h, w)` as pixels, float32 on the CPU, before any clamping."""
    config = pipe.vae.config
    latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return pipe.vae.decode(latents.to(pipe.vae.dtype), return_dict=False)[0].float().cpu()
