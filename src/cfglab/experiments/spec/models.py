"""Facts about a model that the identity of a cell needs. Loads no torch."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from cfglab import scenes
from cfglab.errors import InputError
from cfglab.experiments.spec.arguments import Arguments
from cfglab.limits import LARGEST_SEED
from cfglab.mixtures import toys
from cfglab.pipelines.loading.configuration import read_configuration
from cfglab.pipelines.loading.model_folder import locate, weights_hash
from cfglab.pipelines.loading.samplers import OWN, SAMPLERS
from cfglab.schedules.fields import nearest, shown

if TYPE_CHECKING:
    from cfglab.mixtures.sampling import Method

IMPORTED = "imported:"
"""How the model of a run of imported images begins; what follows is the name that the other program recorded."""
IN_MEMORY = "memory:"
"""How the model of a run of a pipeline in memory begins; what follows is the pipeline's own name."""
MIXTURE_PREFIX = "mixture:"
MIXTURE_SAMPLES = 256
"""Samples of a mixture that one cell shows."""
MIXTURE_PIXELS = 128
"""Pixels along a side of the image of a mixture."""
MIXTURE_METHODS: "dict[str, Method]" = {"euler": "euler", "heun": "heun", "euler-a": "ancestral"}
"""The name of a sampler -> the method of `mixtures.sampling`."""
LARGEST_SIGMA, SMALLEST_SIGMA = 40.0, 0.002
"""The noise levels of a run on a mixture, in the variance-exploding parameterization."""


class ModelFacts(BaseModel):
    """The facts that a cell takes from a model.

    Attributes:
        weights: the hash of the weights: 64 hex digits, or the commit (40) of a hub model.
        sampler_config: the scheduler configuration of the model.
        width: the default image width in pixels; 0 if the model has none.
        height: the default image height in pixels; 0 if the model has none.
        factor: pixels per latent along a side.
        arguments: further arguments of the pipeline's call, unless an experiment states them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    sampler_config: dict[str, Any]
    width: int
    height: int
    factor: int
    arguments: Arguments = {}


def model_facts(
    name: str, revision: str | None = None, allow_pickle: bool = False, allow_download: bool = True
) -> ModelFacts:
    """Read the facts about a model.

    Args:
        name: `scenes`, `scenes-flow`, a model folder, a hub id, or a mixture such as `mixture:tree`.
        revision: the revision of a hub model.
        allow_pickle: accept pickled weights.
        allow_download: allow the download of a hub model that is not on this machine.

    Returns:
        The ModelFacts.

    Raises:
        InputError: if there is no such model, or its folder is not valid.
    """
    if name.startswith(IMPORTED):
        raise InputError(
            f"model {shown(name)}: these images were imported from another program, which cfglab does not run; name a "
            "model that is here, or look at the run with cfglab report and cfglab compare."
        )
    if name.startswith(IN_MEMORY):
        raise InputError(
            f"model {shown(name)}: this model was in the memory of the program that ran it; run(experiment, folder, "
            "pipe=pipe) continues it with the same weights, or look at the run with cfglab report and cfglab compare."
        )
    if is_mixture(name):
        return mixture_facts(name)
    folder = locate(name, revision, allow_pickle, allow_download)
    configuration = read_configuration(folder)
    return ModelFacts(
        weights=weights_hash(folder),
        sampler_config={key: value for key, value in configuration.scheduler.items() if key != "_diffusers_version"},
        width=configuration.width,
        height=configuration.height,
        factor=configuration.factor,
        arguments=dict(scenes.ARGUMENTS.get(name, {})),
    )


def is_mixture(model: str) -> bool:
    """Return whether a model name is that of a mixture."""
    return model.startswith(MIXTURE_PREFIX)


def mixture_facts(model: str) -> ModelFacts:
    """Return the facts about a mixture; the hash of its definition replaces the hash of weights.

    Args:
        model: a name such as `mixture:tree`.

    Raises:
        InputError: with the nearest name, if there is no such mixture.
    """
    name = model.removeprefix(MIXTURE_PREFIX)
    if name not in toys.TOYS:
        raise InputError(
            f"model {model!r}: there are {', '.join(MIXTURE_PREFIX + toy for toy in toys.TOYS)};"
            f"{nearest(name, toys.TOYS) or ' name one.'}"
        )
    definition = Path(toys.__file__).read_bytes() + name.encode()
    return ModelFacts(
        weights=hashlib.sha256(definition).hexdigest(),
        sampler_config={"largest": LARGEST_SIGMA, "smallest": SMALLEST_SIGMA, "samples": MIXTURE_SAMPLES},
        width=MIXTURE_PIXELS,
        height=MIXTURE_PIXELS,
        factor=8,
    )


def sampler_names(model: str) -> tuple[str, ...]:
    """Return the names of the samplers that a model runs with."""
    return tuple(MIXTURE_METHODS if is_mixture(model) else (OWN, *SAMPLERS))


def largest_seed(model: str) -> int:
    """Return the largest seed of a cell; a mixture derives MIXTURE_SAMPLES seeds from each."""
    return LARGEST_SEED // MIXTURE_SAMPLES - 1 if is_mixture(model) else LARGEST_SEED
