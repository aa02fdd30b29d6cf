"""Guidance: a schedule, transforms, and the arithmetic that applies them. Loads torch only when it computes.

Where each method lives, under `methods/`; `docs/methods.md` has the formulas:

| file | methods |
|---|---|
| `norms` `cfg_norm` `rescale` `thresholding` | norms: cf_guidance's three; the CFGNorm family; phi; two clips |
| `skimmed` `mahiro` | value by value, and by agreement |
| `apg` `tcfg` `cfg_zero_star` | directions: APG, TCFG, CFG-Zero* |
| `frequency` (over `laplacian_pyramid`) | FDG, FreSca |
| `momentum` `epsilon_scaling` | also without guidance |
| `adaptive_scale` `feedback` `adaptive_guidance` | w from the predictions: MAMBO-G, beta-CFG's norm; FBG; skipped rows
| | `prompts` `nag` | one more prompt: Perp-Neg, composed, dual CFG; NAG | | `autoguidance` `perturbed_attention` `sag`
`skip_layers` (all `weak_prediction`) | PAG, SEG; SAG; SLG, S2 | | `noised_conditions` `tsg` | noise in the condition:
ICG, CADS; in the time step: TSG | | `not_implemented` | the methods that are not implemented, with the reasons |

The machinery: `guidance` (Guidance), `guide` (one run of it), `transform` (the base class of methods), `context` (the
input of a hook), `parameterization`, `reductions` (over one image), `fields`, `names`, `parser`; `perturbations/` holds
the perturbed passes of the denoiser.
"""

from cfglab.guidance.check import check_transform
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.guidance import Guidance, as_guidance, parse_guidance
from cfglab.guidance.guide import Guide
from cfglab.guidance.methods.adaptive_guidance import AdaptiveGuidance, ReuseUpdate
from cfglab.guidance.methods.adaptive_scale import MagnitudeAware, UpdatePower
from cfglab.guidance.methods.apg import APG
from cfglab.guidance.methods.autoguidance import AutoGuidance
from cfglab.guidance.methods.cfg_norm import CFGNorm
from cfglab.guidance.methods.cfg_zero_star import CFGZeroStar
from cfglab.guidance.methods.epsilon_scaling import EpsilonScaling
from cfglab.guidance.methods.feedback import FeedbackGuidance, feedback_temperature
from cfglab.guidance.methods.frequency import FDG, FreSca
from cfglab.guidance.methods.mahiro import MaHiRo
from cfglab.guidance.methods.momentum import MomentumGuidance
from cfglab.guidance.methods.nag import NAG
from cfglab.guidance.methods.noised_conditions import CADS, ICG
from cfglab.guidance.methods.norms import FullNorm, PredictionNorm, UpdateNorm
from cfglab.guidance.methods.perturbed_attention import PAG, SEG
from cfglab.guidance.methods.prompts import Composed, DualCFG, PerpNeg
from cfglab.guidance.methods.rescale import Rescale
from cfglab.guidance.methods.sag import SAG
from cfglab.guidance.methods.skimmed import Skimmed
from cfglab.guidance.methods.skip_layers import S2Guidance, SkipLayers
from cfglab.guidance.methods.tcfg import TCFG
from cfglab.guidance.methods.thresholding import ImagenThreshold, MimicThreshold
from cfglab.guidance.methods.tsg import TSG
from cfglab.guidance.names import Space
from cfglab.guidance.parser import parse_transform
from cfglab.guidance.perturbations.weak_models import register_weak_model, weak_models
from cfglab.guidance.registry import TRANSFORMS
from cfglab.guidance.transform import AnyTransform, Transform, as_transform

__all__ = [
    "APG",
    "CADS",
    "FDG",
    "ICG",
    "NAG",
    "PAG",
    "SAG",
    "SEG",
    "TCFG",
    "TRANSFORMS",
    "TSG",
    "AdaptiveGuidance",
    "AnyTransform",
    "AutoGuidance",
    "CFGNorm",
    "CFGZeroStar",
    "Composed",
    "DualCFG",
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
    "PerpNeg",
    "Perturbation",
    "PredictionNorm",
    "Rescale",
    "ReuseUpdate",
    "S2Guidance",
    "Skimmed",
    "SkipLayers",
    "Space",
    "StepContext",
    "Transform",
    "UpdateNorm",
    "UpdatePower",
    "as_guidance",
    "as_transform",
    "check_transform",
    "feedback_temperature",
    "parse_guidance",
    "parse_transform",
    "register_weak_model",
    "weak_models",
]
