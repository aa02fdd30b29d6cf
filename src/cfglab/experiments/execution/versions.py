"""The versions that pixels depend on, recorded in every image and beside every run."""

import platform
import sys
from importlib import metadata

from cfglab import __version__


def versions() -> dict[str, str]:
    """The versions that pixels depend on, besides the cell."""
    found = {
        "cfglab": __version__,
        "python": platform.python_version(),
        "machine": f"{sys.platform} {platform.machine()}",
    }
    for package in ("torch", "diffusers", "transformers", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
