"""Guidance: a schedule, transforms, and the arithmetic that applies them. Loads torch only when it computes.

`methods/` has one published method per file, under the name that people search for; `docs/methods.md` has the formulas:

- norms: `norms` (cf_guidance's three), `cfg_norm`, `rescale`, `imagen_threshold`, `mimic_threshold`
- directions: `apg`, `tcfg`, `cfg_zero_star`, `adg`, `nrs`, `tag`; value by value: `skimmed`; by agreement: `mahiro`
- frequencies: `fdg`, `fresca`, over `laplacian_pyramid`
- past steps: `momentum`, `higs`, `smc_cfg`, `self_guidance`; factors of epsilon: `epsilon_scaling`, `tsr`
- w from the predictions: `mambo_g`, `beta_cfg`, `feedback`; w as a map: `scale_maps`
- fewer unconditional rows: `adaptive_guidance`, `reuse_update`
- one more condition: `image_guidance`; a second output: `audio_guidance`, `modality_guidance`
- one more prompt: `perp_neg`, `composed_prompts`, `salience`, `contrastive_cfg`, `dng`, `dual_cfg` (over
  `second_prompt`); inside attention: `nag`, `vsf`, `pladis`
- a weak prediction: `autoguidance`, `pag`, `seg`, `sag`, `tpg`, `swg`, `skip_layers`, `s2_guidance`, `tsg`,
  `self_guidance` (over `weak_prediction`)
- noise in the condition: `icg`, `cads`
- `not_implemented`: the methods that are missing, with the reasons

`guidance` is the value (Guidance), `sound` those of a video and of its sound, `guide` one run of it, `transform` the
base class of methods, `context` the input of a hook, `parameterization` the conversion of predictions, `reductions` the
sums over one image, `fields` the number types, `parser` the text form. `perturbations/` holds the perturbed passes of
the denoiser.
"""

from cfglab.guidance.check import check_transform
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.guidance import Guidance, as_guidance, parse_guidance
from cfglab.guidance.guide import Guide
from cfglab.guidance.methods.adaptive_guidance import AdaptiveGuidance
from cfglab.guidance.methods.adg import ADG
from cfglab.guidance.methods.apg import APG
from cfglab.guidance.methods.audio_guidance import AudioGuidance
from cfglab.guidance.methods.autoguidance import AutoGuidance
from cfglab.guidance.methods.beta_cfg import UpdatePower
from cfglab.guidance.methods.cads import CADS
from cfglab.guidance.methods.cfg_norm import CFGNorm
from cfglab.guidance.methods.cfg_zero_star import CFGZeroStar
from cfglab.guidance.methods.composed_prompts import Composed
from cfglab.guidance.methods.contrastive_cfg import ContrastiveCFG
from cfglab.guidance.methods.dng import DNG
from cfglab.guidance.methods.dual_cfg import DualCFG
from cfglab.guidance.methods.epsilon_scaling import EpsilonScaling
from cfglab.guidance.methods.fdg import FDG
from cfglab.guidance.methods.feedback import FeedbackGuidance, feedback_temperature
from cfglab.guidance.methods.fresca import FreSca
from cfglab.guidance.methods.higs import HiGS
from cfglab.guidance.methods.icg import ICG
from cfglab.guidance.methods.image_guidance import ImageGuidance
from cfglab.guidance.methods.imagen_threshold import ImagenThreshold
from cfglab.guidance.methods.mahiro import MaHiRo
from cfglab.guidance.methods.mambo_g import MagnitudeAware
from cfglab.guidance.methods.mimic_threshold import MimicThreshold
from cfglab.guidance.methods.modality_guidance import ModalityGuidance
from cfglab.guidance.methods.momentum import MomentumGuidance
from cfglab.guidance.methods.nag import NAG
from cfglab.guidance.methods.norms import FullNorm, PredictionNorm, UpdateNorm
from cfglab.guidance.methods.nrs import NRS
from cfglab.guidance.methods.pag import PAG
from cfglab.guidance.methods.perp_neg import PerpNeg
from cfglab.guidance.methods.pladis import PLADIS
from cfglab.guidance.methods.rescale import Rescale
from cfglab.guidance.methods.reuse_update import ReuseUpdate
from cfglab.guidance.methods.s2_guidance import S2Guidance
from cfglab.guidance.methods.sag import SAG
from cfglab.guidance.methods.salience import SNF, AndSalt, AndTopk
from cfglab.guidance.methods.scale_maps import PerChannel, PerFrame, PerPosition
from cfglab.guidance.methods.seg import SEG
from cfglab.guidance.methods.self_guidance import SG, SGPrev
from cfglab.guidance.methods.skimmed import Skimmed
from cfglab.guidance.methods.skip_layers import SkipLayers
from cfglab.guidance.methods.smc_cfg import SMCCFG
from cfglab.guidance.methods.swg import SWG
from cfglab.guidance.methods.tag import TAG
from cfglab.guidance.methods.tcfg import TCFG
from cfglab.guidance.methods.tpg import TPG
from cfglab.guidance.methods.tsg import TSG
from cfglab.guidance.methods.tsr import TSR
from cfglab.guidance.methods.vsf import VSF
from cfglab.guidance.names import Space
from cfglab.guidance.parser import parse_transform
from cfglab.guidance.perturbations.weak_models import register_weak_model, weak_models
from cfglab.guidance.registry import TRANSFORMS
from cfglab.guidance.transform import AnyTransform, Transform, as_transform

__all__ = [
    "ADG",
    "APG",
    "CADS",
    "DNG",
    "FDG",
    "ICG",
    "NAG",
    "NRS",
    "PAG",
    "PLADIS",
    "SAG",
    "SEG",
    "SG",
    "SMCCFG",
    "SNF",
    "SWG",
    "TAG",
    "TCFG",
    "TPG",
    "TRANSFORMS",
    "TSG",
    "TSR",
    "VSF",
    "AdaptiveGuidance",
    "AndSalt",
    "AndTopk",
    "AnyTransform",
    "AudioGuidance",
    "AutoGuidance",
    "CFGNorm",
    "CFGZeroStar",
    "Composed",
    "ContrastiveCFG",
    "DualCFG",
    "EpsilonScaling",
    "FeedbackGuidance",
    "FreSca",
    "FullNorm",
    "Guidance",
    "Guide",
    "HiGS",
    "ImageGuidance",
    "ImagenThreshold",
    "MaHiRo",
    "MagnitudeAware",
    "MimicThreshold",
    "ModalityGuidance",
    "MomentumGuidance",
    "PerChannel",
    "PerFrame",
    "PerPosition",
    "PerpNeg",
    "Perturbation",
    "PredictionNorm",
    "Rescale",
    "ReuseUpdate",
    "S2Guidance",
    "SGPrev",
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
