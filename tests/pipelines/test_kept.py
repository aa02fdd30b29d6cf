"""What a pipeline does around its combine is kept: rescaling, norms, float32; and what transforms are given."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.guidance import APG, CFGNorm, CFGZeroStar, Guidance, PredictionNorm
from cfglab.guidance.context import StepContext
from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families import case
from tests.pipelines.reference_loop import counted


@cache
def pipe_of(name: str) -> Any:
    return case(name).build()


def both(name: str, **arguments: Any) -> tuple[Tensor, Tensor]:
    """Untouched at the low scale, and guided by it with the other one passed."""
    made, pipe = case(name), pipe_of(name)
    low, high = made.scales
    untouched = made.call(pipe, low, steps=3, **arguments)
    with guide(pipe, low + made.offset):
        return untouched, made.call(pipe, high, steps=3, **arguments)


RESCALED = [
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionXLControlNetInpaintPipeline",
    "StableDiffusionXLPAGPipeline",
    "HunyuanDiTPipeline",
    "LTXPipeline",
    "LTXConditionPipeline",
]


@pytest.mark.parametrize("name", RESCALED)
def test_guidance_rescale(name: str) -> None:
    without, _ = both(name)
    untouched, guided = both(name, guidance_rescale=0.7)
    if "Pix2Pix" in name:
        assert (guided - untouched).norm() <= 1e-6 * untouched.norm()
    else:
        assert torch.equal(guided, untouched)
    assert (untouched - without).norm() > 1e-3 * without.norm()


@pytest.mark.parametrize(
    ("name", "argument", "values", "exact"),
    [
        ("Lumina2Pipeline", "cfg_normalization", (True, False), True),
        ("ZImagePipeline", "cfg_normalization", (0.7, False), False),
        ("BriaPipeline", "clip_value", (0.4, None), True),
        ("StableDiffusionPAGPipeline", "pag_adaptive_scale", (0.003, 0.0), True),
        ("StableDiffusionPAGPipeline", "pag_scale", (0.0, 2.0), True),
        ("AnimateDiffPAGPipeline", "pag_scale", (0.0, 2.0), True),
    ],
)
def test_arguments_that_change_the_combine(name: str, argument: str, values: Any, exact: bool) -> None:
    one, other = (both(name, **{argument: value}) for value in values)
    assert not torch.equal(one[0], other[0])  # it does something
    for untouched, guided in (one, other):
        assert torch.equal(guided, untouched) if exact else (guided - untouched).norm() <= 1e-5 * untouched.norm()


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPipeline",
        "StableDiffusion3Pipeline",
        "SanaPipeline",
        "PixArtSigmaPipeline",
        "FluxPipeline",
        "FluxPipeline-embedded",
        "QwenImagePipeline",
        "Lumina2Pipeline",
        "CogView3PlusPipeline",
        "CogView4Pipeline",
        "IFPipeline",
        "Cosmos3OmniPipeline",
    ],
)
def test_half_precision_bit_for_bit(name: str) -> None:
    made = case(name)
    pipe = made.build()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(torch.bfloat16)
    untouched = made.call(pipe, made.scales[0], steps=3)
    with guide(pipe, made.scales[0]):
        assert torch.equal(made.call(pipe, made.scales[1], steps=3), untouched)
    assert not torch.equal(made.call(pipe, made.scales[1], steps=3), untouched)


class Seen(Guidance):
    """A guidance that notes what it is given."""

    def start(self, prediction: Any = "epsilon", model: Any = None) -> Any:
        guide = super().start(prediction, model)
        plain = guide.combine
        NOTED.clear()
        NOTED.append(prediction)

        def combine(uncond: Any, cond: Any, step: Step, latents: Any = None, *more: Any) -> Any:
            NOTED.append((uncond, cond, latents))
            return plain(uncond, cond, step, latents, *more)

        guide.combine = combine  # type: ignore[method-assign, assignment]
        return guide


NOTED: list[Any] = []


@pytest.mark.parametrize(
    ("name", "prediction", "shape"),
    [
        ("StableDiffusionInpaintPipeline", "epsilon", (1, 4, 8, 8)),
        ("IFSuperResolutionPipeline", "epsilon", (1, 3, 8, 8)),
        ("KandinskyV22InpaintPipeline", "epsilon", (1, 4, 8, 8)),
        ("LuminaPipeline", "flow", (1, 3, 8, 8)),
        ("DiTPipeline", "epsilon", (1, 4, 8, 8)),
        ("StableDiffusionLatentUpscalePipeline", "model", None),
        ("KandinskyV22PriorPipeline", "x0", None),
        ("FluxKontextPipeline", "flow", (1, 16, 16)),
        ("QwenImageEditPipeline", "flow", None),
        ("ZImagePipeline", "flow", None),
        ("Ideogram4Pipeline", "flow", None),
        ("StableVideoDiffusionPipeline", "v", None),
        ("WanImageToVideoPipeline", "flow", None),
        ("Cosmos3OmniPipeline", "flow", (1, 1, 16, 2, 4, 4)),
        ("DreamLitePipeline-edit", "flow", (1, 4, 8, 8)),
    ],
)
def test_predictions_and_latents_have_one_shape(name: str, prediction: str, shape: tuple[int, ...] | None) -> None:
    made, pipe = case(name), pipe_of(name)
    with guide(pipe, Seen(3.0)):
        made.call(pipe, made.scales[1], steps=2)
    assert NOTED[0] == prediction
    for uncond, cond, latents in NOTED[1:]:
        assert latents is not None
        assert uncond.shape == cond.shape == latents.shape
        assert shape is None or uncond.shape == shape


@pytest.mark.parametrize("name", ["LuminaPipeline", "Lumina2Pipeline", "HiDreamImagePipeline", "ZImagePipeline"])
def test_a_flow_points_from_the_picture_to_the_noise(name: str) -> None:
    """Whatever sign the network has, what the guidance sees is the velocity that the sampler gets."""
    made, pipe = case(name), pipe_of(name)
    seen: list[Tensor] = []
    step = pipe.scheduler.step
    pipe.scheduler.step = lambda *arguments, **named: (seen.append(arguments[0].clone()), step(*arguments, **named))[1]
    try:
        with guide(pipe, Seen(3.0)):
            made.call(pipe, made.scales[1], steps=2)
    finally:
        del pipe.scheduler.step
    _, (uncond, cond, _), *_ = NOTED
    given, guided = seen[0], uncond + 3.0 * (cond - uncond)
    given = given[:, : guided.shape[1]].reshape(-1)
    guided = guided[:, : seen[0].shape[1]].reshape(-1)
    if name != "Lumina2Pipeline":  # which has its own norm behind
        torch.testing.assert_close(given, guided, rtol=1e-4, atol=1e-5)
    assert torch.nn.functional.cosine_similarity(given, guided, dim=0) > 0.9


def test_a_transform_is_not_told_of_the_tokens_of_the_picture_that_is_edited() -> None:
    """Kontext's tokens of the image come back from the network too; a norm over them would be another norm."""
    made, pipe = case("FluxKontextPipeline"), pipe_of("FluxKontextPipeline")
    with guide(pipe, Guidance(3.0, [PredictionNorm(space="flow")])):
        one = made.call(pipe, 5.0, steps=1)
    with guide(pipe, Seen(3.0)):
        made.call(pipe, 5.0, steps=1)
    (uncond, cond, latents) = NOTED[1]
    plain = uncond + 3.0 * (cond - uncond)
    normed = plain * (uncond.norm() / plain.norm())
    torch.testing.assert_close(one, latents - normed, rtol=1e-4, atol=1e-4)


CHANNELS = {
    **dict.fromkeys(("StableDiffusionPipeline", "WanPipeline", "AnimateDiffPipeline", "StableAudioPipeline"), 1),
    **dict.fromkeys(("FluxPipeline", "QwenImagePipeline", "LTXPipeline", "LongCatAudioDiTPipeline"), -1),
    **dict.fromkeys(("CogVideoXPipeline", "StableVideoDiffusionPipeline", "Cosmos3OmniPipeline"), 2),
    **dict.fromkeys(("Kandinsky5T2VPipeline", "Kandinsky5T2IPipeline", "Kandinsky5I2VPipeline"), 1),  # moved there
    "Kandinsky6TI2VAPipeline": 1,
}


@pytest.mark.parametrize(("name", "dim"), CHANNELS.items())
def test_methods_know_where_the_channels_are(name: str, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, videos and sound, packed or not."""
    seen: list[int] = []

    def noted(_: PredictionNorm, guided: Tensor, context: StepContext) -> Tensor:
        seen.append(context.channel_dim)
        return guided

    monkeypatch.setattr(PredictionNorm, "prediction", noted)
    made, pipe = case(name), pipe_of(name)
    with guide(pipe, Guidance(3.0, [PredictionNorm(space="model")])):
        made.call(pipe, 5.0, steps=1)
    assert seen == [dim]


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "WanPipeline", "QwenImagePipeline"])
def test_steps_that_need_no_network(name: str) -> None:
    """Zero-init: at the first step the velocity is zero, and no row is run but one to see what an output is like."""
    made, pipe = case(name), pipe_of(name)
    with guide(pipe, Guidance(3.0, [CFGZeroStar()])) as trace, counted(pipe, made.denoisers) as rows:
        made.call(pipe, 5.0, steps=3)
    assert trace.steps[0].rows_run <= 1
    assert trace.rows_run == sum(rows)
    assert trace.rows_run + trace.rows_saved == 6


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "SanaPipeline", "ZImagePipeline"])
def test_equal_rows_are_run_once(name: str) -> None:
    """Two images of one prompt from one start with two guidances: until they part, the first rows are shared."""
    made, pipe = case(name), pipe_of(name)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(7) for _ in range(2)]

    each = [made.call(pipe, w, steps=3, generator=generators(), images=2) for w in made.scales]
    guidances = [w + made.offset for w in made.scales]
    with guide(pipe, guidances) as trace, counted(pipe, made.denoisers) as rows:
        guided = made.call(pipe, 7.0, steps=3, generator=generators(), images=2)
    assert [record.rows_run for record in trace.steps] == [2, 4, 4]
    assert sum(rows) == 10
    for image in range(2):
        assert (guided[image] - each[image][image]).norm() <= 1e-5 * each[image].norm()


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "QwenImagePipeline", "LuminaPipeline"])
@pytest.mark.parametrize(
    "transform", [APG(space="flow"), CFGNorm(), PredictionNorm(space="flow")], ids=lambda t: t.kind
)
def test_transforms_are_the_loops_of_ones_own(name: str, transform: Any) -> None:
    """The prediction of every step, computed again from what guide() saw with a Guide of one's own."""
    made, pipe = case(name), pipe_of(name)
    seen: list[Any] = []

    class Noted:
        def start(self, prediction: Any) -> Any:
            run = Guidance(3.0, [transform]).start(prediction)
            again = Guidance(3.0, [transform]).start(prediction)

            class Run:
                def combine(self, uncond: Tensor, cond: Tensor, step: Step, latents: Tensor) -> Tensor:
                    guided = run.combine(uncond, cond, step, latents)
                    seen.append((guided, again.combine(uncond.clone(), cond.clone(), step, latents.clone())))
                    return guided

            return Run()

    with guide(pipe, Noted()):
        guided = made.call(pipe, 5.0, steps=3)
    with guide(pipe, Guidance(3.0, [transform])):
        assert torch.equal(made.call(pipe, 5.0, steps=3), guided)
    assert len(seen) == 3
    assert all(torch.equal(one, other) for one, other in seen)
    with guide(pipe, 3.0):
        assert not torch.equal(made.call(pipe, 5.0, steps=3), guided)
