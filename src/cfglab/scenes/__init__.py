"""`scenes`: the bundled text-to-image model, its world of emoji-style objects, and its judge."""

from importlib.resources import files
from pathlib import Path


def folder() -> Path:
    """The bundled pipeline, a folder in the on-disk format of Stable Diffusion 1.x."""
    return Path(str(files("cfglab.scenes") / "weights" / "scenes"))


def twin_folder() -> Path:
    """The weak twin: an early snapshot of the bundled denoiser, a folder of one `UNet2DConditionModel`."""
    return Path(str(files("cfglab.scenes") / "weights" / "twin"))


def reader_file(which: int) -> Path:
    """The weights of reader 1 or 2, the judges."""
    return Path(str(files("cfglab.scenes") / "weights" / "readers" / f"reader{which}.safetensors"))
