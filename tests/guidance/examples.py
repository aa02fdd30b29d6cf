"""One or more values of every registered transform, with what the contracts need to know about them."""

import math

import torch
from torch import Tensor

from cfglab.guidance import (
    ADG,
    APG,
    CADS,
    DNG,
    FDG,
    ICG,
    NAG,
    NRS,
    PAG,
    PLADIS,
    SAG,
    SEG,
    SMCCFG,
    SNF,
    SWG,
    TPG,
    TRANSFORMS,
    TSG,
    VSF,
    AdaptiveGuidance,
    AndSalt,
    AndTopk,
    AudioGuidance,
    AutoGuidance,
    CFGNorm,
    CFGZeroStar,
    Composed,
    ContrastiveCFG,
    DualCFG,
    EpsilonScaling,
    FeedbackGuidance,
    FreSca,
    Guide,
    HiGS,
    ImageGuidance,
    ImagenThreshold,
    MagnitudeAware,
    MimicThreshold,
    ModalityGuidance,
    MomentumGuidance,
    PerChannel,
    PerFrame,
    PerpNeg,
    PerPosition,
    Perturbation,
    Rescale,
    ReuseUpdate,
    S2Guidance,
    SGPrev,
    Skimmed,
    SkipLayers,
    Space,
    Transform,
    UpdatePower,
)
from cfglab.step import Step

SIGMA = 1.7
STEP = Step(4, 10, timestep=600.0, sigma=SIGMA, next_sigma=1.2, alpha=1 / math.sqrt(1 + SIGMA**2))
NEXT = Step(5, 10, timestep=500.0, sigma=1.2, next_sigma=0.8, alpha=1 / math.sqrt(1 + 1.2**2))
SPACES: tuple[Space, ...] = ("epsilon", "x0", "v", "flow", "model")

VALUES: list[Transform] = [
    APG(),
    APG(eta=0.3, norm_threshold=2.5),
    APG(as_in="diffusers", eta=0.2, momentum=-0.75, norm_threshold=3),
    APG(as_in="comfyui", eta=0.2, momentum=0.5),
    APG(image=1.5, norm_threshold=2.5),
    APG(as_in="ace_step", eta=0.3),
    CFGNorm(),
    CFGNorm(reference="uncond"),
    CFGNorm(axis="channel", max=1, space="x0"),
    CFGNorm(axis="last"),
    CFGNorm(times=0.7, min=0.1, max=1),
    CFGZeroStar(),
    CFGZeroStar(as_in="comfyui"),
    EpsilonScaling(),
    EpsilonScaling(factor=1.02),
    FDG(),
    FDG(factors=(2, 1, 0.25)),
    FreSca(cutoff=2),
    ImagenThreshold(percentile=0.9),
    ImagenThreshold(limit=0.25),
    MimicThreshold(mimic=2),
    MimicThreshold(mimic=2, percentile=0.9, measure="ad", per_channel=False),
    MimicThreshold(mimic=2, measure="std"),
    MimicThreshold(mimic=2, start="zero", measure="std", per_channel=False),
    MomentumGuidance(),
    MomentumGuidance(alpha=1.5, beta=0.2),
    Rescale(),
    Skimmed(skim=2),
    Skimmed(skim=2, full_negative=True, flips=False),
    Skimmed(skim=2, as_in="comfyui"),
    AdaptiveGuidance(similarity=0.3),
    FeedbackGuidance(pi=0.95, t0=0.5, tau=0.01),
    MagnitudeAware(alpha=0.5),
    ReuseUpdate(every=3),
    AutoGuidance(w=2.2, model="twin"),
    AutoGuidance(w=0.5, skip="mid"),
    PAG(s=1.5, layers=("mid", "up_blocks.0")),
    SAG(s=1.5),
    SAG(of="cond", sigma=2),
    SEG(sigma=2),
    SkipLayers(layers=(7, 8, 9), stop=0.9),
    ICG(seed=3),
    TSG(w=2.5, s=1, alpha=0.5),
    NAG(s=5, prompt="blue"),
    S2Guidance(omega=1, start=0.2),
    CADS(tau1=0.1),
    PerpNeg(prompt='blue | it\'s "late"', weight=0.7),
    Composed(prompt="not", weight=-0.5),
    DualCFG(prompt="a cat", middle=2),
    UpdatePower(gamma=1),
    UpdatePower(gamma=0.5),
    ADG(max_angle=30),
    ADG(keep_norm=True),
    SMCCFG(),
    SMCCFG(as_in="comfyui"),
    NRS(),
    NRS(as_in="comfyui", squash=0.25),
    HiGS(eta=0.25),
    SGPrev(max_t=1000),
    SWG(s=1.5),
    SWG(s=0.5, crop=0.5, windows=3, masked=False, space="x0"),
    AndSalt(prompt="snow", weight=0.5),
    AndTopk(prompt="snow", share=0.12),
    SNF(prompt="snow"),
    ContrastiveCFG(prompt="yellow", tau=0.01),
    ContrastiveCFG(prompt="yellow", weight=0.5, both=False),
    DNG(prompt="blurry", prior=0.4),
    TPG(s=1.5, layers="mid", seed=2),
    PLADIS(s=1.5, sparse="sparsemax", layers="mid"),
    VSF(s=2, offset=0.2, prompt="blue"),
    ImageGuidance(s="linear(max=3, min=1)"),
    AudioGuidance(w="linear(max=7)"),
    ModalityGuidance(s=2, audio="linear(max=3, min=1)"),
    PerPosition(map="0 1; 0.5 1.5"),
    PerPosition(map="0*8 1*8", base="linear(max=3, min=1)"),
    PerChannel(map="1 0.5 0.5 2", base=1.5),
]
EDITING = [value for value in VALUES if hasattr(value.variation(STEP), "part")]
"""Those that ask for rows without the image to edit, which only edit models have."""
VIDEO: list[Transform] = [PerFrame(map="0 0.5 1 1", dim=1), PerFrame(map=[2, 1, 1, 0.5, 0, 1, 1, 1], base=4)]
"""Those that act on predictions of five dimensions only."""
VALUES += [
    kind() for name, kind in sorted(TRANSFORMS.items()) if name not in {value.kind for value in (*VALUES, *VIDEO)}
]
# what acts on the sound of a video, and leaves the prediction of the video alone
OF_SOUND = {"audio_guidance"}
# where equal predictions come back to the last digit only, because a mean of cosines is not exactly 1
ROUNDED = {"mahiro"}


def with_(value: Transform, **fields: object) -> Transform:
    """The same value with other fields, checked again."""
    return type(value)(**{**value.model_dump(exclude={"kind"}), **fields})


def spaces_of(value: Transform) -> list[Space]:
    """The spaces in which it may be used."""
    from cfglab.errors import InputError

    allowed = []
    for space in SPACES:
        try:
            with_(value, space=space)
        except InputError:
            continue
        allowed.append(space)
    return allowed


def batch(n: int = 3, dtype: torch.dtype = torch.float32, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """uncond, cond, latents (n, 4, 8, 8), images of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([1.0, 0.1, 7.0])[:n].reshape(n, 1, 1, 1)
    uncond, change, latents = (torch.randn(n, 4, 8, 8, generator=generator) for _ in range(3))
    return (uncond * size).to(dtype), ((uncond + 0.4 * change) * size).to(dtype), latents.to(dtype)


def as_predictions(value: Transform, tensor: Tensor) -> Tensor:
    """The tensor as this value takes it."""
    return tensor.unsqueeze(-1) if value.kind in {one.kind for one in VIDEO} else tensor


def needs(guide: Guide, step: Step) -> tuple[bool, bool]:
    """Whether a step needs the unconditional and the conditional prediction."""
    plan = guide.plan(step)
    return plan.uncond, plan.cond


def passes(guide: Guide, step: Step, *predictions: Tensor) -> dict[Perturbation, Tensor]:
    """The predictions of the step's further passes, in their order, as `combine` takes them."""
    return dict(zip(guide.plan(step).passes, predictions, strict=True))
