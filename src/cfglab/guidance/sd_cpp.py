"""A guidance in the options of stable-diffusion.cpp: its schedule or its APG, on the command line or in a request.

Read in its source (August 2026): `guidance_schedule` lists scales from the last step backwards; APG acts on what the
network predicts, `c + (w - 1) D`, and always with the constant `--cfg-scale`: beside it a schedule has no effect. Its
threshold is in units of a latent image of 65,536 numbers. At a constant scale of 1 the negative prompt is not encoded.
The command line has no extra arguments for the high-noise expert of Wan 2.2; a request to its server has.
"""

import math
from collections.abc import Sequence
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance.guidance import as_guidance
from cfglab.guidance.methods.apg import APG
from cfglab.schedules.interop import to_sd_cpp
from cfglab.schedules.shapes import Constant, Table

STANDARD = 256
"""The square root of the numbers in a latent image of SDXL, in which its norm threshold is stated."""


def to_sd_cpp_arguments(
    guidance: Any, steps: int, *, sigmas: Sequence[float] | None = None, latents: Sequence[int] | None = None
) -> list[str]:
    """The command line options of stable-diffusion.cpp for a guidance.

    Args:
        guidance: A value that `as_guidance` accepts: a schedule without transforms, or a constant scale with one
            `apg(space=model)`.
        steps: The number of steps of the run.
        sigmas: The noise levels, as in `Schedule.values`.
        latents: The shape of one latent image, such as (4, 128, 128); needed for a norm threshold.

    Returns:
        The words of the command line.

    Raises:
        InputError: stable-diffusion.cpp cannot do this.

    Examples:
        >>> to_sd_cpp_arguments([7, 7, 3], steps=3)
        ['--cfg-scale', '7', '--steps', '3', '--extra-sample-args', 'guidance_schedule=3x1+7x2']
        >>> to_sd_cpp_arguments("6 | apg(space=model)", steps=20)[-1]
        'apg_eta=0,apg_momentum=-0.5'
    """
    scale, extra = _scale_and_extra(guidance, steps, sigmas, latents)
    words = ["--cfg-scale", f"{scale:g}", "--steps", str(steps)]
    return [*words, "--extra-sample-args", extra] if extra else words


def to_sd_cpp_request(
    guidance: Any,
    steps: int,
    high_noise_steps: int = 0,
    *,
    sigmas: Sequence[float] | None = None,
    latents: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The part of a request to stable-diffusion.cpp's server that holds a guidance.

    Args:
        guidance: As in `to_sd_cpp_arguments`.
        steps: The number of steps of the whole run.
        high_noise_steps: The first steps, which the high-noise expert of Wan 2.2 takes; 0 for other models.
        sigmas: The noise levels, as in `Schedule.values`.
        latents: The shape of one latent image; needed for a norm threshold.

    Returns:
        A JSON object with `sample_params`, and `high_noise_sample_params` where there are such steps.

    Raises:
        InputError: stable-diffusion.cpp cannot do this, or `high_noise_steps` is out of range.

    Examples:
        >>> to_sd_cpp_request([5, 5, 3, 3], 4, high_noise_steps=2)["high_noise_sample_params"]
        {'sample_steps': 2, 'guidance': {'txt_cfg': 5.0}}
    """
    if not 0 <= high_noise_steps < steps:
        raise InputError(
            f"{high_noise_steps} of {steps} steps: the low-noise expert has one step at least; give fewer."
        )
    spec = as_guidance(guidance)
    if not high_noise_steps:
        return {"sample_params": _part(spec, steps, sigmas, latents)}
    if any(isinstance(transform, APG) and transform.momentum for transform in spec.transforms):
        raise InputError(
            f"{spec} over two experts: its momentum would begin anew with the second one; write apg(momentum=0)."
        )
    values = spec.schedule.values(steps, sigmas)
    high, low = (
        spec.model_copy(update={"schedule": _shortest(part)})
        for part in (values[:high_noise_steps], values[high_noise_steps:])
    )
    return {
        "sample_params": _part(low, steps - high_noise_steps, None, latents),
        "high_noise_sample_params": _part(high, high_noise_steps, None, latents),
    }


def _part(guidance: Any, steps: int, sigmas: Sequence[float] | None, latents: Sequence[int] | None) -> dict[str, Any]:
    scale, extra = _scale_and_extra(guidance, steps, sigmas, latents)
    part: dict[str, Any] = {"sample_steps": steps, "guidance": {"txt_cfg": scale}}
    return {**part, "extra_sample_args": extra} if extra else part


def _shortest(values: Sequence[float]) -> Constant | Table:
    return Constant(values[0]) if len(set(values)) == 1 else Table(list(values))


def _scale_and_extra(
    guidance: Any, steps: int, sigmas: Sequence[float] | None, latents: Sequence[int] | None
) -> tuple[float, str]:
    """The constant scale, and the text of the extra arguments; "" for none."""
    spec = as_guidance(guidance)
    values = spec.schedule.values(steps, sigmas)
    active = [transform for transform in spec.transforms if transform.strength > 0]
    constant = len(set(values)) == 1
    if not active:
        scale = next((w for w in values if w != 1), 1.0)
        return scale, "" if constant else f"guidance_schedule={to_sd_cpp(spec.schedule, steps, sigmas)}"
    (first, *others) = active
    if others or not isinstance(first, APG) or first.strength != 1:
        raise InputError(f"{spec}: stable-diffusion.cpp has APG alone, at full strength; leave the others out.")
    if not constant:
        raise InputError(
            f"{spec}: APG of stable-diffusion.cpp ignores its guidance_schedule and uses --cfg-scale; give one scale."
        )
    if first.space != "model" or first.as_in != "paper":
        raise InputError(
            f"{first}: stable-diffusion.cpp projects what the network predicts, c + (w - 1) D; write apg(space=model)."
        )
    words = [f"apg_eta={first.eta:g}", f"apg_momentum={first.momentum:g}"]
    if first.norm_threshold:
        if latents is None:
            raise InputError(
                f"{first}: stable-diffusion.cpp states the threshold for a latent image of 65,536 numbers; give "
                "latents=(4, 128, 128) or the shape of your own."
            )
        words.append(f"apg_norm_threshold={first.norm_threshold * STANDARD / math.sqrt(math.prod(latents)):.9g}")
        if first.smoothing:
            words.append(f"apg_norm_threshold_smoothing={first.smoothing:g}")
    return values[0], ",".join(words)
