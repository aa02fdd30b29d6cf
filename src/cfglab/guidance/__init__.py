"""Guidance: a schedule and transforms, and the arithmetic that applies them. Loads torch only when it computes.

Where each idea lives; `docs/methods.md` has the formulas:

| file | methods |
|---|---|
| `norms` `cfg_norm` `rescale` `thresholding` | lengths: cf_guidance's three; the CFGNorm family; phi; two clips |
| `skimmed` `mahiro` | value by value, and by agreement |
| `projection` `tangential` `zero_star` | directions: APG, TCFG, CFG-Zero* |
| `frequency` (over `pyramid`) | FDG, FreSca |
| `momentum` `epsilon_scaling` | also without guidance |
| `closed_loop` `feedback` `row_saving` | w from the predictions: MAMBO-G, beta-CFG's norm; FBG; rows left out |
| `prompts` `attention_guidance` | a further prompt: Perp-Neg, composed, dual CFG; NAG |
| `autoguidance` `perturbed_attention` `self_attention` `skipped_layers` (all `weaker`) | PAG, SEG; SAG; SLG, S2 |
| `noisy_conditions` `noisy_time` | noise in the condition: ICG, CADS; in the time step: TSG |
| `left_out` | what is not here, and why |

The machinery: `base` (Guidance), `guide` (one run of it), `transforms` (what a method is), `now` (what it sees),
`spaces`, `each` (sums over one image), `fields`, `names`, `text`; `variations/` changes rows that are run once more.
"""

from cfglab.guidance.attention_guidance import NAG
from cfglab.guidance.autoguidance import AutoGuidance
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
from cfglab.guidance.noisy_conditions import CADS, ICG
from cfglab.guidance.noisy_time import TSG
from cfglab.guidance.norms import FullNorm, PredictionNorm, UpdateNorm
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.perturbed_attention import PAG, SEG
from cfglab.guidance.projection import APG
from cfglab.guidance.prompts import Composed, DualCFG, PerpNeg
from cfglab.guidance.rescale import Rescale
from cfglab.guidance.row_saving import AdaptiveGuidance, ReuseUpdate
from cfglab.guidance.self_attention import SAG
from cfglab.guidance.skimmed import Skimmed
from cfglab.guidance.skipped_layers import S2Guidance, SkipLayers
from cfglab.guidance.tangential import TCFG
from cfglab.guidance.text import as_guidance, parse_guidance, parse_transform
from cfglab.guidance.thresholding import ImagenThreshold, MimicThreshold
from cfglab.guidance.transforms import TRANSFORMS, AnyTransform, Transform, as_transform
from cfglab.guidance.variations.models import register_weak_model, weak_models
from cfglab.guidance.zero_star import CFGZeroStar

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
    "Now",
    "PerpNeg",
    "PredictionNorm",
    "Rescale",
    "ReuseUpdate",
    "S2Guidance",
    "Skimmed",
    "SkipLayers",
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
    "register_weak_model",
    "weak_models",
]
