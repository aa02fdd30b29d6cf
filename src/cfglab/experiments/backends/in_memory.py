"""The backend of a diffusers pipeline that is in memory already, such as one that is being trained. Runs torch.

Such a model has no name that finds it again. Its weights are hashed, so that a run is continued with the same weights
only; `cfglab reproduce` says that it cannot load them.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from cfglab.errors import InputError
from cfglab.experiments.backends.base import BatchResult
from cfglab.experiments.backends.candidates import choose_candidates
from cfglab.experiments.backends.pipeline import PipelineBackend, result
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import IN_MEMORY, ModelFacts
from cfglab.metrics.images import contrast, saturation
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.lookup import profile_of

Digests = dict[str, bytes]
"""Name of a tensor -> the SHA-256 of its content."""


class InMemoryBackend(PipelineBackend):
    """The backend of a pipeline in memory.

    The images are those of `pipe(prompt, generator=torch.Generator("cpu").manual_seed(seed))` under `guide`.

    Args:
        pipe: a diffusers pipeline of any class that `guide` knows, which makes images of a prompt.
        frozen: the digests of tensors that are not trained, kept between backends of one pipeline; it is filled here.
        autocast: a context in which the pipeline is called.

    Raises:
        InputError: if cfglab does not know the layout of the pipeline.
    """

    def __init__(
        self, pipe: Any, frozen: Digests | None = None, autocast: AbstractContextManager[Any] | None = None
    ) -> None:
        super().__init__(pipe)
        self._autocast = autocast or nullcontext()
        self._frozen = {} if frozen is None else frozen
        self.denoiser = getattr(pipe, profile_of(pipe).denoisers[0])

    @cached_property
    def facts(self) -> ModelFacts:
        """The facts that cells take from a model; the weights are hashed once.

        Raises:
            InputError: if the pipeline has no default size; `run_by` accepts an experiment that states it.
        """
        pipe = self.pipe
        factor = self._factor
        own = getattr(pipe, "default_sample_size", None) or getattr(self.denoiser.config, "sample_size", None)
        sides = tuple(own) if isinstance(own, list | tuple) else (own, own)
        height, width = (side * factor if isinstance(side, int) else 0 for side in sides)
        config = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
        config = json.loads(json.dumps(config, default=str))
        weights = weights_digest(pipe, self._frozen)
        return ModelFacts(weights=weights, sampler_config=config, width=width, height=height, factor=factor)

    def run_by(self, experiment: Experiment) -> Experiment:
        """Return the experiment as this pipeline runs it: with its name, its scheduler and its dtype.

        Args:
            experiment: the experiment.

        Raises:
            InputError: if a prompt, the negative prompt, the size or the dtype does not fit the pipeline.
        """
        dtype = str(self.denoiser.dtype).removeprefix("torch.")
        if dtype not in get_args(Experiment.model_fields["dtype"].annotation):
            raise InputError(f"a pipe of {dtype}: runs have float32, float16 or bfloat16; convert the denoiser first.")
        if not (experiment.width or self.facts.width) or not (experiment.height or self.facts.height):
            raise InputError(f"{type(self.pipe).__name__}: it has no default size; state width and height.")
        name = Path(getattr(self.pipe, "name_or_path", None) or type(self.pipe).__name__).name
        scheduler = type(self.pipe.scheduler).__name__
        changed = {"model": IN_MEMORY + name, "sampler": scheduler, "dtype": dtype, "compile": False}
        experiment = experiment.model_copy(update=changed)
        self.check_experiment(experiment)
        return experiment

    def check_prompts(self, prompts: Iterable[str], negative: str) -> None:
        """Raise InputError if the one text encoder cannot read a prompt, or the pipeline has no negative prompt."""
        if negative and "negative_prompt" not in inspect.signature(type(self.pipe).__call__).parameters:
            raise InputError(f"negative {negative!r:.60}: a {type(self.pipe).__name__} has none; leave it out.")
        if getattr(self.pipe, "tokenizer", None) is not None and not hasattr(self.pipe, "tokenizer_2"):
            super().check_prompts(prompts, negative)

    def generate(self, batch: Sequence[Cell]) -> BatchResult:
        """Generate the images of one batch by one call of the pipeline.

        Args:
            batch: cells that have all fields in common except prompt, seed and guidance.

        Returns:
            The images, in the order of the cells. The pipeline clamps them, so they have no `clipped_share`.

        Raises:
            InputError: if the pipeline makes images of another size.
            NotFinite: if a prediction is not finite.
        """
        first = batch[0]
        with torch.no_grad(), self._autocast:
            chosen = choose_candidates(self.pipe, batch, self._factor, self._arguments)
            with guide(self.pipe, [cell.guidance for cell in batch]) as trace:
                images = self.pipe(**self._arguments(batch, chosen.seeds)).images
        pixels = np.asarray(images, np.float32).transpose(0, 3, 1, 2) * 2 - 1
        if pixels.shape[2:] != (first.height, first.width):
            raise InputError(
                f"{first.width} x {first.height}: this {type(self.pipe).__name__} makes images of {pixels.shape[3]} x "
                f"{pixels.shape[2]}; state width={pixels.shape[3]} and height={pixels.shape[2]}."
            )
        shown = np.nan_to_num(pixels)  # an image that is not finite fails; its metrics are not read
        values = zip(saturation(shown).tolist(), contrast(shown).tolist(), strict=True)
        metrics = tuple({"saturation": colour, "contrast": spread} for colour, spread in values)
        return result(pixels, trace, chosen, metrics)

    @property
    def _factor(self) -> int:
        return int(getattr(self.pipe, "vae_scale_factor", 8))

    def _arguments(self, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any]:
        """The arguments of the pipeline for cells, with starting noises of these torch seeds."""
        first = cells[0]
        return {
            "prompt": [cell.prompt for cell in cells],
            **({"negative_prompt": [first.negative] * len(cells)} if first.negative else {}),
            "width": first.width,
            "height": first.height,
            "num_inference_steps": first.steps,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "np",
        }


def weights_digest(pipe: Any, frozen: Digests | None = None) -> str:
    """Return a hash of every parameter and buffer of a pipeline's networks, adapters included.

    Args:
        pipe: a diffusers pipeline.
        frozen: digests of parameters that require no gradient; these are read once. It is filled here.

    Returns:
        The SHA-256 as 64 hex digits.
    """
    frozen = {} if frozen is None else frozen
    whole = hashlib.sha256(type(pipe).__name__.encode())
    for component, module in sorted(pipe.components.items()):
        if not isinstance(module, torch.nn.Module):
            continue
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        fixed = {name for name, _ in module.named_parameters()} - trained
        for name, tensor in sorted(module.state_dict().items()):
            key = f"{component}.{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.data_ptr()}"
            digest = frozen.get(key) if name in fixed else None
            if digest is None:
                content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest = hashlib.sha256(content.numpy()).digest()
                if name in fixed:
                    frozen[key] = digest
            whole.update(key.rpartition(" ")[0].encode() + digest)
    return whole.hexdigest()
