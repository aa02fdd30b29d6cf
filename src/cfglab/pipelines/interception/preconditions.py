"""The conditions under which a pipeline call can be guided, and its layout; each fault is one clear line."""

import inspect
import re
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines.interception.run_checks import switched_off
from cfglab.pipelines.interception.wrapped_modules import core_of
from cfglab.pipelines.profiles.profile import Layout, Profile
from cfglab.schedules import Constant


def resolve_layout(pipe: Any, profile: Profile, arguments: dict[str, Any], specs: list[Any]) -> Layout:
    """How a pipeline call is guided: by the profile's layout, by the scale as an input, or on one prediction.

    Args:
        pipe: The pipeline.
        profile: The layout of its class.
        arguments: The arguments of the call by name.
        specs: The guidances.

    Returns:
        The layout.

    Raises:
        InputError: Guidance is off in this call, or an argument cannot be kept.
    """
    for name, neutral, reason in profile.excluded:
        value = arguments.get(name, neutral)
        if value is not None and not _equal(value, neutral):
            raise InputError(
                f"{name}={_short(value)} inside guide(): {type(pipe).__name__} {reason}; leave it at "
                f"{_short(neutral)}, or make this call outside of guide()."
            )
    for name, neutral, replacement in profile.refused:
        neutral = _default(pipe, name) if neutral is ... else neutral
        value = arguments.get(name, neutral)
        if value is not None and not any(_equal(value, allowed) for allowed in (neutral, arguments.get(profile.scale))):
            raise InputError(
                f"{name}={_short(value)} inside guide(): {type(pipe).__name__} does that with predictions and a scale "
                f"it no longer sees, so it would be lost; leave it at {_short(neutral)} and use {replacement}."
            )
    embeddings = [arguments.get(name) is not None for name in ("prompt_embeds", "negative_prompt_embeds")]
    if profile.layout == "with sound" and embeddings == [True, False]:
        raise InputError(
            f"prompt_embeds without negative_prompt_embeds inside guide(): {type(pipe).__name__} is guided in every "
            "call, whatever its own scale is, and needs both; give negative_prompt_embeds too, or make this call "
            "outside of guide()."
        )
    embedded = bool(profile.embedded) and _has_scale(pipe, profile)
    alone = all(map(is_alone, specs))
    if profile.layout == "embedded":
        if not embedded and alone:
            return "one prediction"
        if not embedded:
            raise InputError(
                f"{type(pipe).__name__} with a distilled {profile.denoisers[0]}: it reads no guidance scale, so there "
                "is nothing to guide; use a checkpoint whose config has guidance_embeds."
            )
        return "embedded"
    value = arguments.get(profile.scale)
    off = profile.off is not None and isinstance(value, int | float) and value <= profile.off
    if not off and _image_off(profile, arguments):
        raise off_error(pipe, profile, arguments)
    if not off and not _negatives_missing(profile, arguments):
        return profile.layout
    if embedded:
        return "embedded"
    if alone and "neither" not in profile.parts:
        return "one prediction"
    raise off_error(pipe, profile, arguments)


def _image_off(profile: Profile, arguments: dict[str, Any]) -> bool:
    """Whether the scale of the image switches guidance off."""
    value = arguments.get(profile.image_scale)
    return profile.image_off is not None and isinstance(value, int | float) and value < profile.image_off


def _negatives_missing(profile: Profile, arguments: dict[str, Any]) -> bool:
    """Whether the class asks for a negative prompt and the call has none."""
    return bool(profile.negatives) and all(arguments.get(name) is None for name in profile.negatives)


def off_error(pipe: Any, profile: Profile, arguments: dict[str, Any]) -> InputError:
    """The error of a call without an unconditional prediction.

    Args:
        pipe: The pipeline.
        profile: The layout of its class.
        arguments: The arguments of the call by name.

    Returns:
        The error, with the argument that switches guidance on.
    """
    name, value = profile.scale, arguments.get(profile.scale)
    missing = _negatives_missing(profile, arguments)
    if isinstance(value, int | float) and value > (profile.off or 0) and not missing and "neither" not in profile.parts:
        return switched_off(pipe, name, value, profile.denoisers[0])
    advice = f"pass any {name} above {profile.off or 0:g}"
    if "neither" in profile.parts:
        advice += " and an image_guidance_scale of 1 or more"
    if profile.negatives:
        advice += f" and a {profile.negatives[0]}"
    if _image_off(profile, arguments):
        name, value = profile.image_scale, arguments[profile.image_scale]
    return InputError(
        f"{name}={value!r} inside guide(): so called, {type(pipe).__name__} computes no unconditional prediction, and "
        f"there is nothing to guide with; {advice} (it is not used otherwise) and give the scale itself to guide()."
    )


def check_on(pipe: Any, profile: Profile, arguments: dict[str, Any]) -> None:
    """Check at the first denoiser call that the pipeline itself has guidance on.

    Args:
        pipe: The pipeline.
        profile: The layout of its class.
        arguments: The arguments of the call by name.

    Raises:
        InputError: The pipeline reports that guidance is off.
    """
    if getattr(pipe, "do_classifier_free_guidance", True) is False:
        raise off_error(pipe, profile, arguments)


class Switches:
    """The guidance numbers of a pipeline, which its loop reads at every step.

    The guidance has decided every step, so a number that a callback sets during the run would have no effect.

    Args:
        profile: The layout of the pipeline's class.
    """

    def __init__(self, profile: Profile) -> None:
        self._unread = "_guidance_scale" if profile.scale == "true_cfg_scale" else ""  # their loops read the argument
        self._initial: dict[str, Any] | None = None

    def check(self, pipe: Any) -> None:
        """Compare the numbers with those of the first call.

        Args:
            pipe: The pipeline.

        Raises:
            InputError: A number was changed during the run.
        """
        state = vars(pipe)
        if self._initial is None:
            self._initial = {name: value for name, value in state.items() if _SWITCH.fullmatch(name)}
            self._initial.pop(self._unread, None)
        for name, initial in self._initial.items():
            value = state.get(name)
            if not _equal(value, initial):
                raise InputError(
                    f"{name} of {type(pipe).__name__} was set to {_short(value)} during a run inside guide(), as by a "
                    f"callback, and was {_short(initial)}: the guidance decides every step, so it would be lost; give "
                    f"it to guide() instead, {_INSTEAD.get(name, 'as a schedule')}."
                )


_SWITCH = re.compile(r"_(?!pag_|image_guidance_scale$)\w*(guidance_scale|guidance_rescale|modality_scale|cfg)\w*")
"""Attributes that a pipeline's loop reads. Those of a third part of the batch are read at every step here, too."""
_INSTEAD = {
    "_modality_scale": "as modality_guidance(s=...)",
    "_audio_modality_scale": "as modality_guidance(audio=...)",
    "_audio_guidance_scale": "as audio_guidance(w=...)",
    "_guidance_rescale": "as rescale(...) or by guidance_rescale in the pipeline's call",
    "_guidance_scale": "as a schedule: constant(7.5).inside(...) switches it off, table([...]) has a scale a step",
}


def _equal(left_value: Any, right_value: Any) -> bool:
    if left_value is right_value:
        return True
    if isinstance(left_value, Tensor) or isinstance(right_value, Tensor):
        return (
            isinstance(left_value, Tensor) and isinstance(right_value, Tensor) and torch.equal(left_value, right_value)
        )
    return bool(type(left_value) is type(right_value) or isinstance(left_value, int | float)) and bool(
        left_value == right_value
    )


def _default(pipe: Any, name: str) -> Any:
    """An argument's default in the pipeline's own call, which a guided class stands in front of."""
    calls = (vars(kind)["__call__"] for kind in type(pipe).__mro__ if "__call__" in vars(kind))
    signatures = (inspect.signature(call).parameters for call in calls)
    return next((parameters[name].default for parameters in signatures if name in parameters), None)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def check_specs(specs: list[Any], images: int) -> list[Any]:
    """Check that there is one guidance per image.

    Args:
        specs: The guidances.
        images: The number of images.

    Returns:
        The guidances.

    Raises:
        InputError: The numbers differ.
    """
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


def check_spec(pipe: Any, spec: Any) -> Guidance:
    """Check a guidance for a scale that is an input of the network.

    Args:
        pipe: The pipeline.
        spec: The guidance.

    Returns:
        The guidance.

    Raises:
        InputError: It is an object of another kind, which wants two predictions.
    """
    if not isinstance(spec, Guidance):
        raise embedded_error(pipe, str(spec))
    return spec


def embedded_error(pipe: Any, guidance: str) -> InputError:
    """The error of a guidance that needs two predictions where the scale is an input of the network.

    Args:
        pipe: The pipeline.
        guidance: The guidance as text.

    Returns:
        The error.
    """
    return InputError(
        f"{guidance} for {type(pipe).__name__}, whose scale is an input of its network: there is one prediction, and "
        "what acts on cond - uncond has nothing to act on; give a schedule and methods that read no unconditional "
        "prediction, such as nag or pag, or call the pipeline with true_cfg_scale where it has it."
    )


def is_alone(spec: Any) -> bool:
    """Whether a guidance may need no unconditional prediction: w = 1 at every step, with transforms or without.

    Args:
        spec: The guidance.

    Returns:
        True if it may.
    """
    return isinstance(spec, Guidance) and isinstance(spec.schedule, Constant) and spec.schedule.value == 1


def _has_scale(pipe: Any, profile: Profile) -> bool:
    config = getattr(core_of(getattr(pipe, profile.denoisers[0], None)), "config", None)
    return bool(getattr(config, "guidance_embeds", False))
