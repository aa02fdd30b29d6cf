"""Load the backend of a model: the only place where the kinds of models part."""

import platform
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.backends.base import Backend
from cfglab.experiments.backends.mixture import MixtureBackend
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import is_mixture, model_facts
from cfglab.pipelines.loading.text_to_image import SIDE, STABLE_DIFFUSION


def load_backend(model: str, *, device: str, dtype: str, sampler: str, compiled: bool, **hub: Any) -> Backend:
    """Load a model.

    Args:
        model: `scenes`, a model folder, a hub id, or a mixture such as `mixture:tree`.
        device: a torch device, or "auto". A mixture runs on the CPU and refuses others.
        dtype: the dtype of a pipeline.
        sampler: the name of the sampler of a pipeline.
        compiled: run the denoiser through torch.compile.
        **hub: `revision`, `allow_pickle` and `allow_download`, as in `cfglab.load`.

    Returns:
        The backend, ready to generate.

    Raises:
        InputError: if the model does not exist or is not valid.
    """
    if is_mixture(model):
        return MixtureBackend(model, device)

    from cfglab.pipelines import load

    pipe = load(model, device=device, dtype=dtype, sampler=sampler, compiled=compiled, **hub)
    pipe.set_progress_bar_config(disable=True)
    return as_backend(pipe)


def load_model(experiment: Experiment, device: str, hub: dict[str, Any], weights: str | None = None) -> Backend:
    """Load the model of an experiment, and check that it can run it.

    Args:
        experiment: the experiment.
        device: a torch device, or "auto".
        hub: `revision`, `allow_pickle` and `allow_download`, as in `cfglab.load`.
        weights: the hash of the weights that the run was started with; None accepts any.

    Returns:
        The backend, ready to generate.

    Raises:
        InputError: if the model does not exist, has other weights (on another machine than the run's), or cannot run
            the experiment.
    """
    if weights and (local_weights := model_facts(experiment.model, **hub).weights) != weights:
        raise InputError(
            f"{experiment.model}: has weights {local_weights[:12]} on {platform.node()}, but {weights[:12]} where the "
            "run was started; bring the same model to every machine."
        )
    backend = load_backend(
        experiment.model,
        device=device,
        dtype=experiment.dtype,
        sampler=experiment.sampler,
        compiled=experiment.compile,
        **hub,
    )
    backend.check_experiment(experiment)
    return backend


def as_backend(model: Any) -> Backend:
    """Return a backend as it is, and a diffusers pipeline as the backend of its class."""
    if isinstance(model, Backend):
        return model
    kind = type(model).__name__
    if kind in SIDE and kind != STABLE_DIFFUSION:
        from cfglab.experiments.backends.text_to_image import TextToImageBackend

        return TextToImageBackend(model)
    return PipelineBackend(model)
