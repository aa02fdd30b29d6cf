"""The versions that pixels depend on, recorded in every image and beside every run."""

import platform
import sys
from functools import cache
from importlib import metadata

from cfglab import __version__


def versions() -> dict[str, str]:
    """Return the versions that pixels depend on besides the cell: those of packages, Python and the machine."""
    versions_by_name = {
        "cfglab": __version__,
        "python": platform.python_version(),
        "machine": f"{sys.platform} {platform.machine()}",
    }
    for package in ("torch", "diffusers", "transformers", "numpy"):
        try:
            versions_by_name[package] = _version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions_by_name


@cache
def _version(package: str) -> str:
    """The installed version, which is read from a file once and not for every batch."""
    return metadata.version(package)
