"""SG and SWG: the network at a noisier time, and on crops, against their authors' code on a tiny UNet."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import SG, SWG, Guidance, parse_guidance
from cfglab.guidance.perturbations.cropped_sample import CroppedSample
from cfglab.guidance.perturbations.shifted_timestep import ShiftedTimestep
from cfglab.step import Step
from tests.guidance.examples import STEP, batch, passes
from tests.guidance.test_perturbed import made, rows
from tests.pipelines.families import case
from tests.pipelines.test_classic import draw
from tests.tiny import _unet


@pytest.fixture(scope="module")
def unet() -> Any:
    return made(_unet)


def predicted(unet: Any, sample: Tensor, text: Tensor, timestep: Any = 500) -> Tensor:
    with torch.no_grad():
        prediction: Tensor = unet(sample, timestep, encoder_hidden_states=text).sample
    return prediction


def varied(unet: Any, variation: Any, sample: Tensor, text: Tensor, timestep: Any = 500) -> Tensor:
    with torch.no_grad(), variation.applied(unet) as module:
        x, t, named = variation.inputs(sample, timestep, {"encoder_hidden_states": text})
        prediction: Tensor = module(x, t, **named)[0]
    return prediction


# -- SG ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timestep", "later"), [(500, 510), (997, 1000), (0, 10)])
def test_sg_runs_the_network_ten_time_steps_later_and_not_after_1000(unet: Any, timestep: int, later: int) -> None:
    """pipeline_sd.py of maple-research-lab/Self-Guidance: prev_t = torch.clip(t + shift, 0, 1000)."""
    sample, text = rows()
    for given in (torch.tensor(timestep), torch.tensor([float(timestep)] * 2), timestep):
        got = varied(unet, ShiftedTimestep(10.0, float(timestep)), sample, text, given)
        assert torch.equal(got, predicted(unet, sample, text, later))
    u, c, _ = batch()
    extra = 0.5 * u + 0.1 * c
    guide = Guidance(4, [SG()]).start()
    got = guide.combine(u, c, STEP, extras=passes(guide, STEP, extra))
    torch.testing.assert_close(got, u + 4 * (c - u) + 3 * (c - extra))


def test_sg_divides_the_shift_where_the_time_of_a_network_ends_at_1() -> None:
    _, time, _ = ShiftedTimestep(10.0, 700.0).inputs(torch.zeros(1), torch.tensor([0.7]), {})
    torch.testing.assert_close(time, torch.tensor([0.71]))
    _, time, _ = ShiftedTimestep(10.0, 996.0).inputs(torch.zeros(1), torch.tensor([0.996]), {})
    torch.testing.assert_close(time, torch.tensor([1.0]))
    for sampler, network in ((700.0, torch.tensor([0.3])), (None, torch.tensor([700.0])), (700.0, None)):
        with pytest.raises(InputError, match="sg: the sampler's time step is"):
            ShiftedTimestep(10.0, sampler).inputs(torch.zeros(1), network, {})


# -- SWG ---------------------------------------------------------------------------------------------------------------


def with_crop(unet: Any, x: Tensor, text: Tensor, crop_size: int, crop_steps: int) -> tuple[Tensor, Tensor]:
    """forward_with_crop of HHU-MMBS/swg_bmvc2025_official: y_neg and how often each position was predicted."""
    latent_size = x.shape[-1]
    y_neg, w = torch.zeros_like(x), torch.zeros_like(x)
    stride = (latent_size - crop_size) // (crop_steps - 1)
    for i in range(crop_steps):
        for j in range(crop_steps):
            le, re = stride * i, stride * i + crop_size
            te, be = stride * j, stride * j + crop_size
            y_neg[:, :, te:be, le:re] += predicted(unet, x[:, :, te:be, le:re], text)
            w[:, :, te:be, le:re] += 1
    return y_neg / w, w


@pytest.mark.parametrize(("crop", "windows", "size"), [(0.625, 2, 10), (0.5, 3, 8)])
def test_swg_averages_the_predictions_for_crops_as_its_authors_do(
    unet: Any, crop: float, windows: int, size: int
) -> None:
    sample, text = rows()
    variation = CroppedSample(crop, windows)
    expected, count = with_crop(unet, sample, text, size, windows)
    torch.testing.assert_close(varied(unet, variation, sample, text), expected, rtol=1e-11, atol=1e-11)
    assert torch.equal(variation.count(sample).expand_as(sample), count)
    assert not torch.allclose(expected, predicted(unet, sample, text), atol=1e-3)
    assert variation.runs == windows**2
    for masked in (True, False):  # y_pos + cfg + crop_scale * M * (y_pos - y_crop)
        u, c = predicted(unet, sample, text.flip(1)), predicted(unet, sample, text)
        guide = Guidance(3, [SWG(s=0.5, crop=crop, windows=windows, masked=masked)]).start()
        got = guide.combine(u, c, STEP, extras=passes(guide, STEP, expected))
        mask = (count > 1).double() if masked else 1
        torch.testing.assert_close(got, u + 3 * (c - u) + 0.5 * mask * (c - expected), rtol=1e-11, atol=1e-11)


def test_the_crops_cover_sides_that_do_not_divide_evenly() -> None:
    assert CroppedSample(0.625, 2).sides(64) == [(0, 40), (24, 64)]
    assert CroppedSample(0.5, 4).sides(15) == [(0, 8), (2, 10), (4, 12), (7, 15)]
    with pytest.raises(InputError, match="2 crops of 6 do not cover it"):
        CroppedSample(0.4, 2).sides(16)
    with pytest.raises(InputError, match=r"swg on samples of shape \(2, 4, 3, 16, 16\)"):
        varied(made(_unet), CroppedSample(0.625, 2), torch.zeros(2, 4, 3, 16, 16), torch.zeros(2, 7, 32))


NO_CROPS = [
    ("StableDiffusion3Pipeline", 0.625, r"swg\(crop=0.625\) on 8 x 8: .* no multiple .* 2 x 2; write crop=0.688\."),
    ("AuraFlowPipeline", 0.625, "no multiple of the patches"),
    ("KandinskyV22Pipeline", 0.625, r"does not run on a crop of 5 x 5 with the other arguments as they are \(Sizes of"),
    ("StableDiffusionControlNetPipeline", 0.75, "does not run on a crop of 6 x 6"),
    ("StableDiffusionAdapterPipeline", 0.75, "does not run on a crop of 6 x 6"),
    ("StableDiffusion3ControlNetPipeline", 0.75, "does not run on a crop of 6 x 6"),
    ("ZImagePipeline", 0.625, "swg on samples in a list: it crops images"),
]


@pytest.mark.parametrize(("name", "crop", "said"), NO_CROPS)
def test_a_network_that_cannot_be_given_a_crop_is_said_in_one_line(name: str, crop: float, said: str) -> None:
    from cfglab.pipelines import guide

    made_by = case(name)
    tiny = made_by.build()
    with pytest.raises(InputError, match=said) as error, guide(tiny, f"3 | swg(s=1, crop={crop})"):
        made_by.call(tiny, 5.0, steps=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("crop", [0.688, 0.75])
def test_the_crop_that_the_message_names_runs(crop: float) -> None:
    from cfglab.pipelines import guide

    made_by = case("StableDiffusion3Pipeline")
    tiny = made_by.build()
    with guide(tiny, f"3 | swg(s=1, crop={crop})") as trace:
        made_by.call(tiny, 5.0, steps=2)
    assert trace.steps[0].rows_run == 6


OTHER_NETWORKS = [
    ("VQDiffusionPipeline", "sg()", "sg: this Transformer2DModel of tokens looks its time step up in a table"),
    ("WanAnimatePipeline", "nag(s=5, prompt=b)", "nag: a WanAnimateFaceBlock.* reads something beside the text"),
    ("WanVACEPipeline", "pladis(layers='blocks.0')", ""),
    ("StableAudioPipeline", "pladis(layers=0)", ""),
    ("LuminaPipeline", "pag(layers=0)", r"pag: 'layers.0.attn1.to_out' of LuminaNextDiT2DModel is not used"),
    ("OmniGenPipeline", "sg()", ""),
    ("OmniGenPipeline", "s2()", ""),
    ("OmniGenPipeline", "skip_layers(layers=0, start=0, stop=1)", ""),
    ("Ideogram4Pipeline", "cads()", ""),
    ("BlipDiffusionPipeline", "pladis()", ""),
]
"""Networks of other kinds, what is done to them, and how it is refused; "" where it runs."""


@pytest.mark.parametrize(("name", "text", "said"), OTHER_NETWORKS)
def test_a_network_of_another_kind_runs_or_is_refused(name: str, text: str, said: str) -> None:
    from cfglab.pipelines import guide

    made_by = case(name)
    tiny = made_by.build()
    with pytest.raises(InputError, match=said) if said else nullcontext(), guide(tiny, f"3 | {text}"):
        assert made_by.call(tiny, 5.0, steps=2).isfinite().all()


# -- through a pipeline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["3 | sg(s=40)", "3 | swg(s=4)", "1 | swg(s=4, masked=False)", "3 | sg_prev(max_t=900)"]
)
def test_a_guided_pipeline_is_changed_by_it_and_counts_its_rows(pipe: Any, text: str) -> None:
    from cfglab.pipelines import guide

    guidance = parse_guidance(text)
    plain = draw_guided(pipe, str(guidance.schedule))
    with guide(pipe, guidance) as trace:
        got = draw(pipe, seeds=[1])
    assert (got - plain).abs().max() > 1e-3
    cost = guidance.start().plan(Step(1, 4, 700.0)).evaluations
    assert [record.rows_run for record in trace.steps] == [cost] * 4


def draw_guided(pipe: Any, text: str) -> Tensor:
    from cfglab.pipelines import guide

    with guide(pipe, text):
        return draw(pipe, seeds=[1])
