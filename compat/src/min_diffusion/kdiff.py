"""In the place of the published module of k-diffusion samplers, none of which is here: what to write instead."""

from typing import Any, NoReturn

__all__: list[str] = []


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    raise ImportError(
        f"min_diffusion.kdiff.{name}: samplers of k-diffusion are not used here; name one of diffusers with "
        "MinimalDiffusion(..., scheduler_kls='heun')."
    )


def __dir__() -> list[Any]:
    return []
