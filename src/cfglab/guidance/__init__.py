"""Guidance: a schedule and transforms, and the arithmetic that applies them. Loads torch only when it computes."""

from cfglab.guidance.base import Guidance
from cfglab.guidance.cfg_norm import CFGNorm
from cfglab.guidance.closed_loop import MagnitudeAware, UpdatePower
from cfglab.guidance.epsilon_scaling import EpsilonScaling
from cfglab.guidance.feedback import FeedbackGuidance, feedback_temperature
from cfglab.guidance.frequency import FDG, FreSca
from cfglab.guidance.guide import Guide
from cfglab.guidance.mahiro import MaHiRo
from cfglab.guidance.momentum import MomentumGuidance
from cfglab.guidance.names import Space
from cfglab.guidance.norms import FullNorm, PredictionNorm, UpdateNorm
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.projection import APG
from cfglab.guidance.rescale import Rescale
from cfglab.guidance.row_saving import AdaptiveGuidance, ReuseUpdate
from cfglab.guidance.skimmed import Skimmed
from cfglab.guidance.tangential import TCFG
from cfglab.guidance.text import as_guidance, parse_guidance, parse_transform
from cfglab.guidance.thresholding import ImagenThreshold, MimicThreshold
from cfglab.guidance.transforms import TRANSFORMS, AnyTransform, Transform, as_transform
from cfglab.guidance.zero_star import CFGZeroStar

__all__ = [
    "APG",
    "FDG",
    "TCFG",
    "TRANSFORMS",
    "AdaptiveGuidance",
    "AnyTransform",
    "CFGNorm",
    "CFGZeroStar",
    "EpsilonScaling",
    "FeedbackGuidance",
    "FreSca",
    "FullNorm",
    "Guidance",
    "Guide",
    "ImagenThreshold",
    "MaHiRo",
    "MagnitudeAware",
    "MimicThreshold",
    "MomentumGuidance",
    "Now",
    "PredictionNorm",
    "Rescale",
    "ReuseUpdate",
    "Skimmed",
    "Space",
    "Transform",
    "UpdateNorm",
    "UpdatePower",
    "Variation",
    "as_guidance",
    "as_transform",
    "feedback_temperature",
    "parse_guidance",
    "parse_transform",
]
