"""Guidance: a schedule and transforms, and the arithmetic that applies them. Loads torch only when it computes."""

from cfglab.guidance.base import Guidance
from cfglab.guidance.guide import Guide
from cfglab.guidance.names import Space
from cfglab.guidance.norms import FullNorm, PredictionNorm, UpdateNorm
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.text import as_guidance, parse_guidance, parse_transform
from cfglab.guidance.transforms import TRANSFORMS, AnyTransform, Transform, as_transform

__all__ = [
    "TRANSFORMS",
    "AnyTransform",
    "FullNorm",
    "Guidance",
    "Guide",
    "Now",
    "PredictionNorm",
    "Space",
    "Transform",
    "UpdateNorm",
    "Variation",
    "as_guidance",
    "as_transform",
    "parse_guidance",
    "parse_transform",
]
