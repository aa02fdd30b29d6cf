"""Load the backend of a model: the only place where the kinds of models part."""

from typing import Any

from cfglab.experiments.backends.base import Backend
from cfglab.experiments.backends.mixture import MixtureBackend
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.spec.models import is_mixture


def load_backend(model: str, *, device: str, dtype: str, sampler: str, compiled: bool, **hub: Any) -> Backend:
    """Load a model.

    Args:
        model: `scenes`, a model folder, a hub id, or a mixture such as `mixture:tree`.
        device: a torch device, or "auto". A mixture runs on the CPU.
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
        return MixtureBackend(model)

    from cfglab.pipelines import load

    pipe = load(model, device=device, dtype=dtype, sampler=sampler, compiled=compiled, **hub)
    pipe.set_progress_bar_config(disable=True)
    return PipelineBackend(pipe)


def as_backend(model: Any) -> Backend:
    """Return a backend as it is, and anything else (a diffusers pipeline) as a PipelineBackend."""
    return model if isinstance(model, Backend) else PipelineBackend(model)
