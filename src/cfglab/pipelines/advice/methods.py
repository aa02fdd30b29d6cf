"""Which methods apply to a family and which mean nothing there: from the methods' cards and classes. Loads no torch."""

from dataclasses import dataclass
from typing import Any

from cfglab.guidance import TRANSFORMS, Transform
from cfglab.method_card import Need
from cfglab.pipelines.advice.catalogue import tried
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.profiles.profile import Profile
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import REFUSED

JOINT = (
    "transformer_sd3.py",
    "transformer_flux.py",
    "transformer_qwenimage.py",
    "transformer_z_image.py",
    "transformer_chroma.py",
)
"""The files of diffusers whose joint attention is known (`joint_attention.ORDERS`)."""
APART = (
    "transformer_ltx.py",
    "transformer_ltx2.py",
    "transformer_longcat_audio_dit.py",
    "transformer_stable_audio3.py",
)
"""The files whose attention to the text is apart, in classes that do not say so (`hooks.cross_attentions`)."""


@dataclass(frozen=True, slots=True)
class MethodAdvice:
    """Whether one method applies to a family.

    Attributes:
        name: The method's name in text.
        applies: True or False; None if the catalogue does not know it.
        reason: Why; "" if there is nothing to add.
    """

    name: str
    applies: bool | None
    reason: str = ""


def profile_of_family(family: Family) -> Profile | None:
    """The layout of the family's pipeline class; None if cfglab's table does not have it.

    Args:
        family: The family.

    Returns:
        The profile.
    """
    return profiles().get(family.pipeline)


def not_guided(family: Family) -> str:
    """Why `guide(pipe)` refuses the family's pipeline; "" if it does not.

    Args:
        family: The family.

    Returns:
        One clause.
    """
    if profile_of_family(family) is not None or family.convention.value == "guider":
        return ""
    return REFUSED.get(family.pipeline, f"{family.pipeline} is not in cfglab's table of pipelines: see Profile")


def has_two_predictions(family: Family) -> bool:
    """Whether the family can be run with a conditional and an unconditional prediction, by its usual call or another.

    Args:
        family: The family.

    Returns:
        False for a distilled scale that is the only one, and for models that are run at w = 1.
    """
    if family.convention.value == "embedded":
        return bool(second_scale(family))
    return family.convention.value != "none"


def second_scale(family: Family) -> str:
    """The argument for guidance of two predictions, where the usual scale is an input of the network.

    Args:
        family: The family.

    Returns:
        The argument, such as true_cfg_scale; "" if there is none.
    """
    profile = profile_of_family(family)
    if family.convention.value != "embedded" or profile is None or profile.layout == "embedded":
        return ""
    return profile.scale


def has_unet(family: Family) -> bool:
    """Whether the denoiser is a UNet, whose middle block is a layer named mid.

    Args:
        family: The family.

    Returns:
        True for a UNet.
    """
    profile = profile_of_family(family)
    return profile is not None and profile.denoisers == ("unet",)


def methods_for(family: Family) -> list[MethodAdvice]:
    """Every method by name, and whether it applies.

    Args:
        family: The family.

    Returns:
        One entry per registered transform, in alphabetical order.
    """
    return [MethodAdvice(name, *_applies(family, name, TRANSFORMS[name])) for name in sorted(TRANSFORMS)]


def _applies(family: Family, name: str, kind: type[Transform]) -> tuple[bool | None, str]:
    if reason := not_guided(family):
        return None, reason
    if found := tried().get((family.pipeline, name)):
        return found
    if family.convention.value == "embedded" and not second_scale(family) and _reads_uncond(kind):
        return False, "it acts on cond - uncond, and the scale is an input of the network: there is one prediction"
    if family.convention.value == "none" and _reads_uncond(kind):
        return False, "it acts on cond - uncond, which has no weight at w = 1"
    need: Need = kind.card.needs if kind.card is not None else ""
    applies, reason = _need(family, need)
    if applies and need == "self-attention" and not has_unet(family):
        if "layers" not in kind.model_fields:
            return False, "it reads the middle block of a UNet"
        reason = "with layers of this network: it has no mid block"
    if applies and _reads_uncond(kind) and (argument := second_scale(family)):
        reason = f"with {argument} above 1 and a negative prompt{f'; {reason}' if reason else ''}"
    return applies, reason


def _need(family: Family, need: Need) -> tuple[bool | None, str]:
    attention: Any = family.attention.value
    match need:
        case "text" | "prompt" if attention == "no text":
            return False, "the condition is not a text"
        case "self-attention" | "cross-attention" | "attention to the text" | "longer text" if attention is None:
            return None, f"it changes {need}, and the catalogue does not know the layers ({family.attention.reason})"
        case "self-attention" if attention == "joint" and not _is_known(family, JOINT):
            return False, "here text and image share one attention, and which tokens are the image is not known"
        case "cross-attention" if attention == "joint" and not _is_known(family, JOINT):
            return False, "here text and image share one attention, and which tokens are the text is not known"
        case "cross-attention" | "attention to the text" | "longer text" if _is_known(family, APART):
            return False, "the layers in which the network attends to its text are not known"
        case "longer text" if _is_known(family, ("transformer_z_image.py",)):
            return False, "the image stands at another position for another length of the text"
        case "attention to the text" | "longer text" if attention == "joint" and not _is_known(family, JOINT):
            return False, "here text and image share one attention, in which it is not known how to add a text"
        case "cross-attention" | "attention to the text" | "longer text" if attention == "no text":
            return False, "it changes cross-attention to a text, and the condition is not a text"
        case "image" if family.latents.value in ("tokens", "sound"):
            return False, "it cuts images, and here predictions have no height and width"
        case "frames" if family.latents.value != "video":
            return False, "here predictions have no frames"
        case "image to edit" if (profile := profile_of_family(family)) is None or "neither" not in profile.parts:
            return False, "the pipeline has no rows without the image to edit"
        case "sound of a video" if (profile := profile_of_family(family)) is None or profile.layout != "with sound":
            return False, "the network predicts no sound beside a video"
        case "weak model":
            return True, "with a weaker network of the same kind, or layers to skip"
        case "layers":
            return True, "with layers of this network"
    return True, ""


def _is_known(family: Family, files: tuple[str, ...]) -> bool:
    """Whether the fact about a family's attention was read in one of these files: the one of its network."""
    return family.attention.source.rpartition("/")[2] in files


def _reads_uncond(kind: type[Transform]) -> bool:
    reads = kind.reads_uncond
    return reads if isinstance(reads, bool) else True  # a property depends on the fields
