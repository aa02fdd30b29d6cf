"""The guidances of a video and of its sound, where a network predicts both: two guidances made of one."""

from typing import Any

from cfglab.guidance.guidance import Guidance
from cfglab.guidance.methods.audio_guidance import AudioGuidance
from cfglab.guidance.methods.modality_guidance import ModalityGuidance
from cfglab.schedules import as_schedule


def guides_modalities(spec: Any) -> bool:
    """Whether a guidance keeps video and sound apart itself.

    Args:
        spec: A Guidance, or an object of another kind.

    Returns:
        True if it has modality guidance.
    """
    transforms = spec.transforms if isinstance(spec, Guidance) else ()
    return any(isinstance(transform, ModalityGuidance) and transform.strength > 0 for transform in transforms)


def with_modalities(spec: Any, s: float, audio: float) -> Any:
    """A guidance with modality guidance.

    Args:
        spec: A Guidance, or an object of another kind.
        s: The scale of the video, for a guidance that has none.
        audio: The scale of the sound, for a guidance that has none.

    Returns:
        The guidance; another object as it is.

    Examples:
        >>> print(with_modalities(Guidance(3), 3, 2))
        3 | modality_guidance(audio=2)
    """
    if not isinstance(spec, Guidance) or guides_modalities(spec):
        return spec
    return Guidance(spec.schedule, [*spec.transforms, ModalityGuidance(s=s, audio=audio)])


def of_video(spec: Any) -> Any:
    """The guidance of the video.

    Args:
        spec: A Guidance, or an object of another kind.

    Returns:
        The guidance without that of the sound; another object as it is.

    Examples:
        >>> print(of_video(Guidance("3 | audio_guidance(w=5) | rescale()")))
        3 | rescale()
    """
    if not isinstance(spec, Guidance):
        return spec
    return Guidance(spec.schedule, [item for item in spec.transforms if not isinstance(item, AudioGuidance)])


def of_sound(spec: Guidance, own: float | None) -> Guidance:
    """The guidance of the sound: the same methods, with a scale of its own.

    Args:
        spec: The guidance.
        own: The scale of the sound where the guidance has none; None for that of the video.

    Returns:
        The guidance, without maps of the video.

    Examples:
        >>> print(of_sound(Guidance("3 | audio_guidance(w=5) | modality_guidance(s=3, audio=2)"), 7))
        5 | modality_guidance(s=2, audio=2)
        >>> print(of_sound(Guidance(3), 7), of_sound(Guidance(3), None))
        7 3
    """
    schedule = spec.schedule if own is None else as_schedule(own)
    for transform in spec.transforms:
        if isinstance(transform, AudioGuidance) and transform.strength > 0:
            share, scale = transform.strength, as_schedule(transform.w)
            schedule = scale if share == 1 else share * scale + (1 - share) * schedule
    heard = [transform.of_sound() for transform in of_video(spec).transforms]
    return Guidance(schedule, [transform for transform in heard if transform is not None])
