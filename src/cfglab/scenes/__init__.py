"""`scenes`: the bundled text-to-image model, its world of emoji-style objects, and its classifiers."""

from importlib.resources import files
from pathlib import Path


def folder() -> Path:
    """The bundled pipeline.

    Returns:
        A folder in the on-disk format of Stable Diffusion 1.x.
    """
    return Path(str(files("cfglab.scenes") / "weights" / "scenes"))


def twin_folder() -> Path:
    """The weak twin: a smaller denoiser, trained for a short time.

    Returns:
        A folder of one `UNet2DConditionModel`.
    """
    return Path(str(files("cfglab.scenes") / "weights" / "twin"))


def classifier_file(number: int) -> Path:
    """The weights of a classifier.

    Args:
        number: 1 or 2.

    Returns:
        A safetensors file.
    """
    return Path(str(files("cfglab.scenes") / "weights" / "classifiers" / f"classifier{number}.safetensors"))
