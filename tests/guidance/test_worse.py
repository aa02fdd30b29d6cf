"""Guidance by a worse prediction: the formulas in float64, diffusers' guiders where they are right and where not."""

from typing import Any

import pytest
import torch
from diffusers.guiders import AutoGuidance as TheirAutoGuidance
from diffusers.guiders import PerturbedAttentionGuidance, SkipLayerGuidance, SmoothedEnergyGuidance
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig, _gaussian_blur_2d
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import PAG, SEG, AutoGuidance, Guidance, S2Guidance, SkipLayers, Transform, parse_guidance
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.skipped_layers import RandomBlocks, SkippedLayers
from cfglab.guidance.perturbations.weak_models import WeakModelPass
from cfglab.step import Step, steps
from tests.guidance.examples import STEP, batch, needs, passes

EARLY = Step(1, 10, sigma=3.0)


def three() -> tuple[Tensor, Tensor, Tensor]:
    """uncond, cond and a worse prediction, float64."""
    u, c, x = (one.double() for one in batch())
    return u, c, 0.7 * c + 0.2 * x


def ours(w: float, transform: Transform, step: Step = EARLY) -> Tensor:
    u, c, worse = three()
    guide = Guidance(w, [transform]).start()
    return guide.combine(u if guide.plan(step).uncond else None, c, step, extras=passes(guide, step, worse))


@pytest.mark.parametrize("w", [1.0, 0.0, 5.0])
@pytest.mark.parametrize(
    ("transform", "factor"),
    [
        (AutoGuidance(w=2.2, model="twin"), 1.2),
        (AutoGuidance(w=0.5, skip="mid"), -0.5),
        (PAG(), 3.0),
        (SEG(s=1.5), 1.5),
        (SkipLayers(layers=7), 2.8),
        (S2Guidance(), 0.25),
    ],
    ids=str,
)
def test_the_difference_from_the_worse_one_is_added(w: float, transform: Transform, factor: float) -> None:
    u, c, worse = (one.numpy() for one in three())
    torch.testing.assert_close(ours(w, transform), torch.from_numpy(u + w * (c - u) + factor * (c - worse)))


def test_autoguidance_alone_is_the_papers_extrapolation() -> None:
    _, c, worse = three()
    torch.testing.assert_close(ours(1, AutoGuidance(w=2.2, model="twin")), worse.lerp(c, 2.2))  # edm2's line
    assert needs(Guidance(1, [AutoGuidance(w=2.2, model="twin")]).start(), EARLY) == (False, True)
    theirs = TheirAutoGuidance(guidance_scale=2.2, auto_guidance_config=[LayerSkipConfig([0])])
    torch.testing.assert_close(ours(1, AutoGuidance(w=2.2, model="twin")), theirs.forward(c, worse).pred)


def test_what_each_asks_for() -> None:
    asked = [
        transform.variation(EARLY)
        for transform in (
            AutoGuidance(w=2, model="twin"),
            AutoGuidance(w=2, skip=("mid", 3)),
            PAG(layers=("mid", "up_blocks.1")),
            SEG(sigma=2),
            SkipLayers(layers=(7, 8)),
        )
    ]
    assert asked == [
        WeakModelPass("twin"),
        SkippedLayers(("mid", "3"), "autoguidance"),
        IdentityAttention(("mid", "up_blocks.1")),
        BlurredQueries(("mid",), 2),
        SkippedLayers(("7", "8")),
    ]
    assert {one.source for one in asked if one is not None} == {"cond"}
    assert len({hash(one) for one in asked}) == 5


def test_they_act_in_their_part_of_the_run() -> None:
    acting = [SkipLayers(layers=7).variation(step) is not None for step in steps(20)]
    assert acting == [False, True, True, True] + [False] * 16
    drawn = [S2Guidance(seed=5).variation(step) for step in steps(10)]
    assert drawn == [None, *(RandomBlocks(0.1, 5, index) for index in range(1, 9)), None]
    outside = Guidance(3, [SkipLayers(layers=7)]).start()
    u, c, _ = three()
    assert outside.plan(STEP).passes == ()
    torch.testing.assert_close(outside.combine(u, c, STEP), u + 3 * (c - u))
    assert [PAG(start=0.5).variation(step) is not None for step in steps(4)] == [False, False, True, True]


# -- diffusers' guiders ----------------------------------------------------------------------------------------------

GUIDERS = [
    (PerturbedAttentionGuidance, "perturbed_guidance", PAG(s=2)),
    (SkipLayerGuidance, "skip_layer_guidance", SkipLayers(s=2, layers=0)),
    (SmoothedEnergyGuidance, "seg_guidance", SEG(s=2)),
]


def their_guider(kind: Any, name: str, scale: float) -> Any:
    config = SmoothedEnergyGuidanceConfig([0]) if name == "seg_guidance" else LayerSkipConfig([0])
    if name == "perturbed_guidance":
        config = LayerSkipConfig([0], skip_attention=False, skip_attention_scores=True, skip_ff=False)
    field = "skip_layer_config" if name == "skip_layer_guidance" else f"{name}_config"
    return kind(guidance_scale=scale, **{f"{name}_scale": 2.0, field: [config]})


@pytest.mark.parametrize(("kind", "name", "transform"), GUIDERS, ids=lambda one: getattr(one, "__name__", ""))
def test_with_cfg_the_guiders_are_the_formula_and_without_one_less(kind: Any, name: str, transform: Any) -> None:
    u, c, worse = three()
    torch.testing.assert_close(ours(5, transform), their_guider(kind, name, 5.0).forward(c, u, worse).pred)
    alone = their_guider(kind, name, 1.0).forward(c, None, worse).pred
    less = type(transform)(**{**transform.model_dump(exclude={"kind"}), "s": 1.0})
    torch.testing.assert_close(ours(1, less), alone)
    assert (ours(1, transform) - alone).abs().max() > 0.1


def test_the_segs_blur_of_diffusers_is_the_wrong_way_round() -> None:
    queries = torch.randn(2, 64, 4, generator=torch.Generator().manual_seed(1))
    mean = queries.mean(1, keepdim=True).expand_as(queries)
    finite = _gaussian_blur_2d(queries.clone(), 7, 1.0, 9999.0)
    infinite = _gaussian_blur_2d(queries.clone(), 9, 1e7, 9999.0)
    torch.testing.assert_close(finite, mean)  # ours: the Gaussian
    assert (infinite - mean).abs().max() > 0.01  # ours: the mean


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 | autoguidance(w=2)", "autoguidance without a weaker model: it needs one of them; write model=twin"),
        ("1 | autoguidance(w=2, model=twin, skip=mid)", "with a weaker model and layers to skip: it needs one of"),
        ("1 | autoguidance(model=twin)", "autoguidance without w: it is needed; write autoguidance(w=…)."),
        ("1 | skip_layers()", "skip_layers without layers: it is needed"),
        ("1 | pag(layers=())", "layers are names or numbers; write layers=mid or layers=(7, 8, 9)."),
        ("1 | pag(start=0.5, stop=0.2)", "pag(start=0.5, stop=0.2): it stops after it starts; swap them."),
        ("1 | pag(s=-1)", "pag(s=-1): it must be 0 or more"),
        ("1 | seg(sigma=0)", "seg(sigma=0): it must be above 0"),
        ("1 | pagg()", "no transform 'pagg': there are"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_layers_are_written_and_read() -> None:
    assert parse_guidance("3 | pag(layers=mid)").transforms[0] == PAG()
    assert parse_guidance("3 | skip_layers(layers=(7, 'up_blocks.0', mid))").transforms[0] == SkipLayers(
        layers=("7", "up_blocks.0", "mid")
    )
    assert str(PAG(layers="up_blocks.0")) == "pag(layers=('up_blocks.0',))"


def test_segmented_guidance_is_cfg_first_and_skipped_layers_after() -> None:
    """sd3_pipeline.py of Westlake-AGI-Lab/SGG with its example's steps: CFG 1 to 14, SLG 15 to 28, counted from 1."""
    guidance = parse_guidance("constant(4.5).then(1, at=0.5) | skip_layers(s=3, layers=(7, 8, 9), start=0.5, stop=1)")
    guide, (u, c, _) = guidance.start(), batch()
    skipped = 0.5 * u + 0.2 * c
    for step in steps(28):
        i, plan = step.index, guide.plan(step)
        expected = u + 4.5 * (c - u) if 1 - 1 <= i <= 14 - 1 else c
        expected = expected + (c - skipped) * 3.0 if 15 - 1 <= i <= 28 - 1 else expected
        got = guide.combine(u if plan.uncond else None, c, step, extras=dict.fromkeys(plan.passes, skipped))
        torch.testing.assert_close(got, expected)
        assert (plan.uncond, len(plan.passes)) == (i < 14, int(i >= 14))
