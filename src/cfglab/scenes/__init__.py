"""`scenes` and `scenes-flow`: text-to-image models of a world of emoji-style objects, and classifiers of that world.

`scenes` is part of the package. `scenes-flow` is in the distribution cfglab-models.
"""

from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from cfglab.errors import InputError

MODELS = ("scenes", "scenes-flow")
"""The models that are known by name."""
ARGUMENTS: Mapping[str, Mapping[str, int]] = MappingProxyType({"scenes-flow": {"max_sequence_length": 1}})
"""Name of a model -> arguments of its pipeline's call that an experiment sets unless it states them.

The third text encoder of `scenes-flow` is a stub whose every token is zero: one token instead of 256 is faster.
"""
_DISTRIBUTION = "cfglab_models"


def installed() -> tuple[str, ...]:
    """The models of `MODELS` that are on this machine.

    Returns:
        Their names.
    """
    return MODELS if find_spec(_DISTRIBUTION) else MODELS[:1]


def folder(name: str = "scenes") -> Path:
    """The pipeline of a model.

    Args:
        name: One of `MODELS`.

    Returns:
        A folder in the on-disk format of Stable Diffusion 1.x (`scenes`) or Stable Diffusion 3 (`scenes-flow`).

    Raises:
        InputError: The model is not installed.
    """
    return _weights(name) / name


def twin_folder(name: str = "scenes") -> Path:
    """The weak twin of a model: a smaller denoiser, trained for a short time.

    Args:
        name: One of `MODELS`.

    Returns:
        A folder of one `UNet2DConditionModel` (`scenes`) or `SD3Transformer2DModel` (`scenes-flow`).

    Raises:
        InputError: The model is not installed.
    """
    return _weights(name) / f"{name}-twin"


def classifier_file(number: int) -> Path:
    """The weights of a classifier.

    Args:
        number: 1 or 2.

    Returns:
        A safetensors file.
    """
    return _weights() / "classifiers" / f"classifier{number}.safetensors"


def _weights(name: str = "scenes") -> Path:
    if name not in installed():
        raise InputError(
            f"model {name}: it is in the distribution cfglab-models, which is not installed; run pip install "
            "cfglab-models, or pip install ./models in a checkout of cfglab."
        )
    return Path(str(files("cfglab.scenes" if name == "scenes" else _DISTRIBUTION))) / "weights"
