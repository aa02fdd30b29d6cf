"""Samples from a denoiser without a network: Euler, Heun and ancestral steps, any guidance, one seed a sample.

The guidance is a Guide's, as in a pipeline. In noise over signal s all three paths have one first-order step: keep x0
and epsilon, and put them together at the next level,

    euler      x' = a' (x0 + s' epsilon)                      DDIM with eta = 0; Euler of the flow and of VE
    heun       y' = y + (s' - s) (epsilon + epsilon') / 2     with y = x / a; the last step to 0 is Euler's
    ancestral  x' = a' (x0 + s'^2 / s epsilon + s' sqrt(1 - s'^2 / s^2) noise)     DDPM; DDIM with eta = 1
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.guidance.names import Space
from cfglab.mixtures.guided import Denoiser, GuidedMixture, MixtureCall
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import noise_of, random_numbers
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["euler", "heun", "ancestral"]


def generate(
    cond: Denoiser,
    uncond: Denoiser,
    guidance: Guidance | float,
    steps: Sequence[Step],
    seeds: Sequence[int],
    method: Method = "euler",
    *,
    dimension: int | None = None,
    start: Mixture | None = None,
    space: Space = "epsilon",
    calls: "list[MixtureCall] | None" = None,
) -> "Tensor":
    """Samples of `cond`, guided away from `uncond`.

    Args:
        cond: The conditional denoiser, such as a class of a Mixture.
        uncond: The whole mixture for classifier-free guidance, a weaker model of `cond` for autoguidance, or another
            denoiser.
        guidance: A guidance or a constant scale.
        steps: The steps of the run, each with sigma and alpha.
        seeds: One per sample; a sample is the same in every batch.
        method: "euler", "heun" or "ancestral".
        dimension: d, for a denoiser without the attribute `dimension`.
        start: Start from exact noisy samples of this mixture; None starts from noise alone.
        space: The parameterization in which the guidance acts.
        calls: A list that gets the record of every denoiser call.

    Returns:
        (n, d), float64.

    Raises:
        InputError: The dimension is not known, or as in `integrate`.

    Examples:
        >>> from cfglab.mixtures.noise_paths import karras, noise_steps
        >>> from cfglab.mixtures.toys import two
        >>> toy = two()
        >>> x = generate(toy.mixture.of_class(0), toy.mixture, 2.0, noise_steps(karras(8)), range(4))
        >>> x.shape
        torch.Size([4, 1])
    """
    size = getattr(cond, "dimension", dimension)
    if size is None:
        raise InputError("a denoiser of your own: its samples have a size; give dimension=.")
    a, n = noise_of(steps[0])
    amounts = (size, len(steps) * size) if method == "ancestral" else (size,)
    if start is None:
        noise_start, *step_noise = random_numbers(seeds, 0, *amounts)
        x = n * noise_start
    else:
        uniform, normal, noise_start, *step_noise = random_numbers(seeds, 1, size, *amounts)
        x = a * start.sample_from(uniform, normal) + n * noise_start
    noise = step_noise[0].reshape(len(x), len(steps), size) if step_noise else None
    return integrate(cond, uncond, guidance, steps, x, method, noise=noise, space=space, calls=calls)


def integrate(
    cond: Denoiser,
    uncond: Denoiser,
    guidance: Guidance | float,
    steps: Sequence[Step],
    x: "Tensor",
    method: Method = "euler",
    *,
    noise: "Tensor | None" = None,
    space: Space = "epsilon",
    calls: "list[MixtureCall] | None" = None,
) -> "Tensor":
    """Run the steps from x at the level of the first step to the last step's `next_sigma`.

    Args:
        cond: The conditional denoiser.
        uncond: The unconditional denoiser.
        guidance: A guidance or a constant scale.
        steps: The steps, each with sigma and alpha.
        x: (n, ...), at the level of the first step.
        method: "euler", "heun" or "ancestral".
        noise: (n, steps, ...), what ancestral steps add.
        space: The parameterization in which the guidance acts.
        calls: A list that gets the record of every denoiser call.

    Returns:
        (n, ...).

    Raises:
        InputError: The method is unknown or cannot start at pure noise, noise is missing, or the guidance fails.
    """
    if method not in ("euler", "heun", "ancestral"):
        raise InputError(f"method {method!r}: there are euler, heun, ancestral; name one of them.")
    if method == "ancestral" and (noise is None or noise.shape[:2] != (len(x), len(steps))):
        raise InputError("ancestral steps without noise of shape (n, steps, ...): they add it; use generate(…).")
    spec = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
    guided = GuidedMixture(cond, uncond, spec, space, len(x))
    for index, (step, next_step) in enumerate(zip(steps, [*steps[1:], None], strict=True)):
        a_next = _next_alpha(step, next_step)
        s, s_next = float(step.sigma or 0.0), float(step.next_sigma or 0.0)
        x0, epsilon = guided(x, step)
        if method == "heun":
            x = _heun(guided, x, step, a_next, epsilon)
        elif method == "ancestral" and noise is not None and s_next > 0:
            share = 0.0 if math.isinf(s) else s_next / s
            fresh = noise[:, index].reshape(x.shape)
            x = a_next * (x0 + s_next * (share * epsilon + math.sqrt(1 - share**2) * fresh))
        else:
            x = a_next * (x0 + s_next * epsilon)
    if calls is not None:
        calls += guided.calls
    return x


def _heun(guided: "GuidedMixture", x: "Tensor", step: Step, a_next: float, epsilon: "Tensor") -> "Tensor":
    a, s, s_next = float(step.alpha or 0.0), float(step.sigma or 0.0), float(step.next_sigma or 0.0)
    if a == 0:
        raise InputError("heun from pure noise: its step is in x / alpha; start below it, or use euler.")
    y = x / a
    y_next = y + (s_next - s) * epsilon
    if s_next > 0:
        second = replace(step, sigma=s_next, alpha=a_next)
        y_next = y + (s_next - s) * (epsilon + guided(a_next * y_next, second)[1]) / 2
    return a_next * y_next


def _next_alpha(step: Step, next_step: Step | None) -> float:
    """The signal's factor at the end of a step: the next one's, or, as the path goes on, 1 at no noise."""
    if next_step is not None:
        return float(next_step.alpha or 0.0)
    if step.next_sigma in (0.0, None):
        return 1.0
    a, s, s_next = float(step.alpha or 0.0), float(step.sigma or 0.0), float(step.next_sigma or 0.0)
    if a == 1:
        return 1.0
    return 1 / (1 + s_next) if abs(a * (1 + s) - 1) < 1e-9 else 1 / math.hypot(1.0, s_next)
