"""Mixtures sampled by the schedulers of diffusers: the effect of a sampler, without the error of a network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cfglab.denoising.step_reader import StepReader, prediction_of
from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.mixtures.guided import Denoiser, GuidedMixture
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import noise_of, random_numbers

if TYPE_CHECKING:
    from torch import Tensor


def scheduled(
    scheduler: Any,
    cond: Denoiser,
    uncond: Denoiser,
    guidance: Guidance | float,
    steps: int,
    seeds: Sequence[int],
    *,
    dimension: int | None = None,
    start: Mixture | None = None,
) -> "Tensor":
    """Samples by a scheduler of diffusers, without a network.

    Noise that the scheduler adds comes from a generator of each seed: a sample is the same in every batch.

    Args:
        scheduler: A diffusers scheduler.
        cond: The conditional denoiser.
        uncond: The unconditional denoiser.
        guidance: A guidance or a constant scale.
        steps: The number of steps, 1 or more.
        seeds: One per sample, 0 or more.
        dimension: d, for a denoiser without the attribute `dimension`.
        start: Start from exact noisy samples of this mixture; None starts from the scheduler's own noise.

    Returns:
        (n, d), float64 or what the scheduler makes of it.

    Raises:
        InputError: The noise levels or the prediction type of the scheduler are not known.
    """
    import torch

    size = getattr(cond, "dimension", dimension)
    if size is None:
        raise InputError("a denoiser of your own: its samples have a size; give dimension=.")
    space, name = prediction_of(scheduler), type(scheduler).__name__
    if space == "model":
        raise InputError(f"{name} with an unknown prediction type: what to predict is not known; set epsilon.")
    spec = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
    guided = GuidedMixture(cond, uncond, spec, space, len(seeds))
    scheduler.set_timesteps(steps)
    reader = StepReader(scheduler)
    x = _initial_samples(scheduler, reader, size, seeds, start)
    generators = [
        torch.Generator().manual_seed(int(seed) ^ 0x5EED) for seed in seeds
    ]  # apart from the noise at the start
    options = {"generator": generators} if "generator" in scheduler.step.__code__.co_varnames else {}
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(guided.predict(model_input, reader.next()), timestep, x, **options).prev_sample
    return x


def _initial_samples(
    scheduler: Any, reader: StepReader, size: int, seeds: Sequence[int], start: Mixture | None
) -> "Tensor":
    """Where the run begins, in the scheduler's own units, which are those the model sees or larger by 1 / alpha."""
    factor = float(getattr(scheduler, "init_noise_sigma", 1.0))
    if start is None:
        return random_numbers(seeds, 0, size)[0] * factor
    a, n = noise_of(reader.peek())
    uniform, normal, noise = random_numbers(seeds, 1, size, size)
    model_input = a * start.sample_from(uniform, normal) + n * noise
    return model_input / a if factor > 1 else model_input
