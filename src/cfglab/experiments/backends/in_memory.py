"""The backend of a diffusers pipeline that is in memory already, such as one that is being trained. Runs torch.

Such a model has no name that finds it again. Its weights are hashed, so that a run is continued with the same weights
only; `cfglab reproduce` says that it cannot load them.
"""

import hashlib
import inspect
import json
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch

from cfglab.errors import InputError
from cfglab.experiments.backends.text_to_image import TextToImageBackend
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import IN_MEMORY, ModelFacts
from cfglab.pipelines.profiles.lookup import profile_of

Digests = dict[str, bytes]
"""Name of a tensor -> the SHA-256 of its content."""


class InMemoryBackend(TextToImageBackend):
    """The backend of a pipeline in memory.

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
        super().__init__(pipe, autocast=autocast)
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
            InputError: if the pipeline makes no images of a prompt alone, or a prompt, the negative prompt, the size or
                the dtype does not fit it.
        """
        check_call(type(self.pipe), experiment.arguments)
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


_OTHER_INPUT = {
    **dict.fromkeys(("num_frames", "video_length", "frames", "video", "control_video"), "makes videos"),
    **dict.fromkeys(("strength", "mask_image", "control_image"), "needs an image"),
    **dict.fromkeys(("controlnet_conditioning_scale", "adapter_conditioning_scale"), "needs an image"),
}
"""Arguments of pipelines that make something else, or make it from something else -> what those do."""


def check_call(pipeline: type, arguments: Collection[str] = ()) -> None:
    """Check by the signature of a pipeline's call that it makes images of a prompt alone.

    A pipeline that needs an image all the same, and does not say so there, fails when it is called.

    Args:
        pipeline: the class of a diffusers pipeline.
        arguments: further arguments that the experiment states.

    Raises:
        InputError: if it makes videos or sounds, or its call needs an image, a class or something else.
    """
    parameters = inspect.signature(pipeline.__call__).parameters
    named = {name: parameter for name, parameter in parameters.items() if parameter.kind not in _ANY}
    others = [f"{does} ({name})" for name, does in _OTHER_INPUT.items() if name in named]
    if "image" in named and "width" not in named:
        others.append("needs an image (image)")
    needed = [
        name
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in {"self", "prompt", *arguments}
    ]
    missing = [name for name in ("prompt", "width", "height") if name not in named] if named == parameters else []
    if others or needed or missing:
        reasons = [*others, *(f"needs {name}" for name in needed), *(f"takes no {name}" for name in missing)]
        raise InputError(
            f"{pipeline.__name__}: an experiment has images of a width and a height, made of prompts alone, and this "
            f"pipeline {reasons[0]}; call it yourself under cfglab.guide(pipe, …)."
        )


_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
