"""The noise that a sampler adds in its steps: the same for every guidance of a list."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

from torch import Tensor


@contextmanager
def same_noise_of_steps(
    sampler: Any, guidances: int, sigmas: Tensor, noise: Tensor, seed: int | None = None
) -> Iterator[None]:
    """Inside, a stochastic sampler of ComfyUI draws the noise of a step once and repeats it for each guidance.

    Every image then has the noise that it has alone. A sampler of another node keeps its own noise.

    Args:
        sampler: The sampler, whose options have a further one inside.
        guidances: How many the batch has: its rows are all images of the first one, then those of the second one.
        sigmas: The noise levels of the run.
        noise: The noise at its start, (n, ...).
        seed: The seed of the run.

    Yields:
        Nothing.
    """
    import comfy.k_diffusion.sampling as of_comfyui

    function: Any = getattr(sampler, "sampler_function", None)
    shared = guidances > 1 and len(noise) % guidances == 0 and function is not None and _takes_noise(function)
    if not shared or "noise_sampler" in sampler.extra_options:
        yield
        return
    images, name = noise[: len(noise) // guidances], function.__name__
    if name.startswith("sample_dpmpp") and "sde" in name:
        draw = of_comfyui.BrownianTreeNoiseSampler(
            images, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=not name.endswith("_gpu")
        )
    else:
        draw = of_comfyui.default_noise_sampler(images, seed=seed)
    times = (guidances, *[1] * (noise.ndim - 1))
    own = sampler.extra_options
    sampler.extra_options = {**own, "noise_sampler": lambda sigma, after: draw(sigma, after).repeat(times)}
    try:
        yield
    finally:
        sampler.extra_options = own


def _takes_noise(function: Any) -> bool:
    """Whether it is a sampler of ComfyUI that a function for its noise can be given to."""
    match getattr(function, "__module__", ""):
        case "comfy.k_diffusion.sampling":
            return "noise_sampler" in signature(function).parameters
        case "comfy.samplers":  # DPM adaptive in ComfyUI's own frame, which passes its options on
            return any(option.kind is Parameter.VAR_KEYWORD for option in signature(function).parameters.values())
        case _:
            return False
