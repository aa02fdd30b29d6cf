"""Generate a batch of cells with a diffusers pipeline. The only file of the experiments that runs torch."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfglab.experiments.backends.base import BatchResult
from cfglab.experiments.spec.arguments import check_arguments
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.traces import cell_traces

if TYPE_CHECKING:
    from cfglab.denoising.trace import Trace
    from cfglab.experiments.backends.candidates import Candidates

DECODED_AT_ONCE = 16
SET_BY_A_RUN = frozenset(
    (
        *("self", "prompt", "negative_prompt", "prompt_embeds", "negative_prompt_embeds", "width", "height", "latents"),
        *("num_inference_steps", "num_images_per_prompt", "timesteps", "sigmas", "generator", "output_type"),
        *("return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs"),
    )
)
"""Arguments of a pipeline's call that an experiment cannot state under `arguments`."""


class PipelineBackend:
    """The backend of a diffusers pipeline.

    Attributes:
        pipe: the loaded pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @property
    def device(self) -> object:
        """The device of the pipeline."""
        return self.pipe.device

    def check_experiment(self, experiment: Experiment) -> None:
        """Raise InputError if a prompt does not fit the text encoder, or the pipeline has not these arguments."""
        if experiment.arguments:
            from cfglab.pipelines.profiles.lookup import profile_of

            parameters = inspect.signature(type(self.pipe).__call__).parameters
            check_arguments(experiment.arguments, parameters, {*SET_BY_A_RUN, profile_of(self.pipe).scale})
        self.check_prompts(experiment.prompts, experiment.negative)

    def check_prompts(self, prompts: Iterable[str], negative: str) -> None:
        """Raise InputError if a prompt does not fit the text encoder."""
        from cfglab.pipelines import check_prompt

        for prompt in prompts:
            check_prompt(self.pipe, prompt)
        check_prompt(self.pipe, negative, "negative prompt")

    def generate(self, batch: Sequence[Cell]) -> BatchResult:
        """Generate the images of one batch.

        The starting noise of each cell is float32, on the CPU, from the seed of the cell; it does not depend on the
        device, the dtype or the batch.

        Args:
            batch: cells that have all fields in common except prompt, seed and guidance.

        Returns:
            The images, in the order of the cells.

        Raises:
            NotFinite: if a prediction is not finite.
        """
        import torch

        from cfglab.experiments.backends.candidates import choose_candidates
        from cfglab.pipelines import guide

        pipe = self.pipe
        with torch.no_grad():
            chosen = choose_candidates(pipe, batch, self._factor, self._arguments)
            with guide(pipe, [cell.guidance for cell in batch]) as trace:
                latents = pipe(**self._arguments(batch, chosen.seeds)).images
            pixels = torch.cat([self._decoded(part) for part in latents.split(DECODED_AT_ONCE)])
        return result(pixels.numpy(), trace, chosen)

    @property
    def _factor(self) -> int:
        return int(2 ** (len(self.pipe.vae.config.block_out_channels) - 1))

    def _arguments(self, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any]:
        """The arguments of the pipeline for cells, with starting noises of these torch seeds."""
        import torch

        pipe, first = self.pipe, cells[0]
        shape = (1, pipe.unet.config.in_channels, first.height // self._factor, first.width // self._factor)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return {
            **self._prompt_embeddings(cells),
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.steps,
            "guidance_scale": 7.5,  # guide() replaces the scale; this value only has to be above 1
            "latents": noise.to(pipe.device, pipe.unet.dtype),
            "generator": generators,
            "output_type": "latent",
            **{name: value for name, value in first.arguments.items() if name != "clip_skip"},
        }

    def _prompt_embeddings(self, batch: Sequence[Cell]) -> dict[str, Any]:
        """The embeddings of all cells. Each distinct prompt is encoded by itself, so equal prompts are equal bit for
        bit and their rows can be shared; rows of one larger encoded batch can differ in the last bit."""
        import torch

        embeddings: dict[str, Any] = {}
        for cell in batch:
            if cell.prompt not in embeddings:
                skipped = {name: value for name, value in cell.arguments.items() if name == "clip_skip"}
                embeddings[cell.prompt] = self.pipe.encode_prompt(
                    [cell.prompt], self.pipe.device, 1, True, [cell.negative], **skipped
                )
        positive, negative = zip(*(embeddings[cell.prompt] for cell in batch), strict=True)
        return {"prompt_embeds": torch.cat(positive), "negative_prompt_embeds": torch.cat(negative)}

    def _decoded(self, latents: Any) -> Any:
        """Latents `(n, c, h, w)` as pixels, float32 on the CPU, before any clamping."""
        vae = self.pipe.vae
        latents = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float().cpu()


def result(
    pixels: NDArray[np.float32],
    trace: "Trace",
    chosen: "Candidates",
    metrics: tuple[Mapping[str, float], ...] | None = None,
) -> BatchResult:
    """Return the images of a batch with the traces and rows of their run, and of the candidates before it.

    Args:
        pixels: as in BatchResult.
        trace: the trace of the run that made the images.
        chosen: the candidates of the starting noises.
        metrics: as in BatchResult.
    """
    traces = tuple(cell_trace.encode() for cell_trace in cell_traces(trace, len(pixels)))
    run, saved = trace.rows_run + chosen.rows_run, trace.rows_saved + chosen.rows_saved
    return BatchResult(pixels, run, saved, traces, metrics, chosen.numbers)
