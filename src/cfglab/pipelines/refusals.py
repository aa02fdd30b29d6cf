"""What a pipeline call has to be like to be guided: which way it guides, and one clear line where it cannot be."""

from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines.profiles import Layout, Profile
from cfglab.pipelines.runcheck import switched_off
from cfglab.pipelines.wrapped import core_of
from cfglab.schedules import Constant


def way_of(pipe: Any, profile: Profile, arguments: dict[str, Any]) -> Layout:
    """How this call is guided: by the profile's layout, or by the scale as an input where it has both. Raises
    InputError for a call without guidance and for arguments that cannot be kept."""
    for name, neutral, instead in profile.refused:
        value = arguments.get(name, neutral)
        if value != neutral:
            raise InputError(
                f"{name}={value!r} inside guide(): {type(pipe).__name__} does that with predictions it no longer sees, "
                f"so it would be lost; leave it at {neutral!r} and use {instead}."
            )
    embedded = bool(profile.embedded) and _has_scale(pipe, profile)
    if profile.layout == "embedded":
        if not embedded:
            raise InputError(
                f"{type(pipe).__name__} with a distilled {profile.denoisers[0]}: it reads no guidance scale, so there "
                "is nothing to guide; use a checkpoint whose config has guidance_embeds."
            )
        return "embedded"
    value = arguments.get(profile.scale)
    off = profile.off is not None and isinstance(value, int | float) and value <= profile.off
    alone = bool(profile.negatives) and all(arguments.get(name) is None for name in profile.negatives)
    if not off and not alone:
        return profile.layout
    if embedded:
        return "embedded"
    raise off_error(pipe, profile, arguments)


def off_error(pipe: Any, profile: Profile, arguments: dict[str, Any]) -> InputError:
    """The call makes no unconditional prediction."""
    name, value = profile.scale, arguments.get(profile.scale)
    missing = bool(profile.negatives) and all(arguments.get(negative) is None for negative in profile.negatives)
    if isinstance(value, int | float) and value > (profile.off or 0) and not missing and "neither" not in profile.parts:
        return switched_off(pipe, name, value, profile.denoisers[0])
    asked = f"pass any {name} above {profile.off or 0:g}"
    if "neither" in profile.parts:
        asked += " and an image_guidance_scale of 1 or more"
    if profile.negatives:
        asked += f" and a {profile.negatives[0]}"
    return InputError(
        f"{name}={value!r} inside guide(): so called, {type(pipe).__name__} computes no unconditional prediction, and "
        f"there is nothing to guide with; {asked} (it is not used otherwise) and give the scale itself to guide()."
    )


def check_on(pipe: Any, profile: Profile, arguments: dict[str, Any]) -> None:
    """At the first denoiser call: the pipeline itself says that guidance is on, where it says anything."""
    if getattr(pipe, "do_classifier_free_guidance", True) is False:
        raise off_error(pipe, profile, arguments)


def check_specs(specs: list[Any], images: int) -> list[Any]:
    """One guidance an image."""
    if len(specs) != images:
        raise InputError(
            f"{len(specs)} guidances for {images} images: a list holds one per image, prompts times "
            f"num_images_per_prompt; give that many, or a single guidance for all{_as_table(specs)}."
        )
    return specs


def _as_table(specs: list[Any]) -> str:
    """A list of numbers can be meant as one scale per step."""
    if not all(isinstance(spec, Guidance) and isinstance(spec.schedule, Constant) for spec in specs):
        return ""
    return f"; for one scale per step give the text 'table([{', '.join(str(spec.schedule) for spec in specs)}])'"


def check_scale_only(pipe: Any, spec: Any) -> Guidance:
    """A guidance for a scale that is an input of the network: a schedule and nothing else."""
    if not isinstance(spec, Guidance) or any(one.strength > 0 for one in spec.transforms):
        raise InputError(
            f"{spec} for {type(pipe).__name__}, whose scale is an input of its network: there is one prediction, which "
            "transforms cannot act on; give a schedule alone, or call the pipeline with true_cfg_scale where it has it."
        )
    return spec


def _has_scale(pipe: Any, profile: Profile) -> bool:
    config = getattr(core_of(getattr(pipe, profile.denoisers[0], None)), "config", None)
    return bool(getattr(config, "guidance_embeds", False))
