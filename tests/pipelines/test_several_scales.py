"""More than one scale in a pipeline: the image of an edit model, the frames of a video, regions of an image."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.parameterization import convert
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.table import profiles
from cfglab.step import Step
from tests.pipelines.families import case, omnigen
from tests.pipelines.test_switches import set_at


@cache
def pipe_of(name: str) -> Any:
    return case(name).build()


PIX2PIX = "StableDiffusionInstructPix2PixPipeline"
EDIT = (PIX2PIX, "StableDiffusionXLInstructPix2PixPipeline", "OmniGenPipeline", "DreamLitePipeline-edit")
ROUNDS = 1e-6
"""The untouched pipeline adds its three terms in another order."""


@pytest.mark.parametrize("name", EDIT)
@pytest.mark.parametrize("scale", [1.0, 1.5, 4.0])
def test_the_image_scale_is_that_of_the_untouched_pipeline(name: str, scale: float) -> None:
    made, pipe = case(name), pipe_of(name)
    untouched = made.call(pipe, 3.0, **{profiles()[made.cls].image_scale: scale})
    with guide(pipe, f"3 | image_guidance(s={scale})") as trace:
        guided = made.call(pipe, 5.0)
    assert float((guided - untouched).norm() / untouched.norm()) == pytest.approx(0, abs=ROUNDS)
    assert [record.rows_run for record in trace.steps] == [3, 3, 3]
    assert [record.w for record in trace.steps] == [(3.0,)] * 3


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_apg_that_projects_nothing_has_the_image_scale_of_image_guidance(scale: float) -> None:
    made, pipe = case(PIX2PIX), pipe_of(PIX2PIX)
    images = []
    for text in (f"3 | image_guidance(s={scale})", f"3 | apg(image={scale}, eta=1, momentum=0)", "3 | apg(image=4)"):
        with guide(pipe, text):
            images.append(made.call(pipe, 5.0))
    assert (images[0] - images[1]).norm() <= 3 * ROUNDS * images[0].norm()
    assert (images[0] - images[2]).norm() > 1e-3 * images[0].norm()


def test_the_image_scale_follows_a_schedule_beside_that_of_the_text() -> None:
    made, pipe = case(PIX2PIX), pipe_of(PIX2PIX)

    def change(pipe: Any, index: int, _time: Any, values: Any) -> Any:
        pipe._image_guidance_scale, pipe._guidance_scale = [(4.0, 5.0), (1.0, 2.0), (0, 0)][index]
        return values

    untouched = made.call(pipe, 3.0, image_guidance_scale=1.5, callback=change)
    with guide(pipe, "table([3, 5, 2]) | image_guidance(s='table([1.5, 4, 1])')"):
        guided = made.call(pipe, 9.0)
    assert float((guided - untouched).norm() / untouched.norm()) == pytest.approx(0, abs=ROUNDS)


def test_images_of_a_batch_have_image_scales_of_their_own() -> None:
    made, pipe = case(PIX2PIX), pipe_of(PIX2PIX)
    with guide(pipe, ["3 | image_guidance(s=4)", "3", "3 | image_guidance(s=1) | rescale(strength=0.5)"]):
        together = made.call(pipe, 5.0, images=3)  # the second has the pipeline's own, 1.5
    for image, guidance in enumerate(
        ("3 | image_guidance(s=4)", "3", "3 | image_guidance(s=1) | rescale(strength=0.5)")
    ):
        with guide(pipe, guidance):
            alone = made.call(pipe, 5.0, images=3)
        assert torch.equal(together[image], alone[image])


def test_where_guidance_is_off_the_image_scale_is_off() -> None:
    made, pipe = case(PIX2PIX), pipe_of(PIX2PIX)
    with guide(pipe, "1 | image_guidance(s=1)"):
        plain = made.call(pipe, 5.0)
    with guide(pipe, "constant(3).inside(progress=(0.9, 1)) | image_guidance(s=4)"):
        off = made.call(pipe, 5.0)
    assert (off - plain).norm() <= ROUNDS * plain.norm()


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline", "StableDiffusionPAGPipeline"])
def test_a_pipeline_without_the_image_is_refused(name: str) -> None:
    made, pipe = case(name), pipe_of(name)
    with pytest.raises(InputError, match="no rows without the image") as caught, guide(pipe, "3 | image_guidance()"):
        made.call(pipe, 5.0)
    assert "\n" not in str(caught.value)


def test_omnigen_without_an_image_has_two_parts_and_its_levels_fall_from_noise() -> None:
    pipe = pipe_of("OmniGenPipeline")
    untouched = omnigen.plain(pipe, 3.0)
    with guide(pipe, 3.0) as trace:
        assert torch.equal(omnigen.plain(pipe, 5.0), untouched)
    assert [record.rows_run for record in trace.steps] == [2, 2, 2]
    assert [record.step.sigma for record in trace.steps] == pytest.approx([math.inf, 2.0, 0.5])
    assert trace.steps[-1].step.next_sigma == 0


class Last:
    """A guidance that is the conditional prediction, and keeps the clean image that the last one stands for."""

    def start(self, prediction: Any) -> "Last":
        self.prediction = prediction
        return self

    def combine(self, _uncond: Tensor, cond: Tensor, step: Step, latents: Tensor) -> Tensor:
        self.clean = convert(cond, latents, step, self.prediction, "x0")
        return cond


def test_a_flow_from_the_noise_to_the_image_is_seen_with_the_sign_of_the_others() -> None:
    pipe, last = pipe_of("OmniGenPipeline"), Last()
    with guide(pipe, last):
        latents = omnigen.plain(pipe, 5.0)
    torch.testing.assert_close(last.clean, latents, rtol=1e-4, atol=1e-5)


def test_frames_have_the_scales_of_stable_video_diffusion() -> None:
    made, pipe = case("StableVideoDiffusionPipeline"), pipe_of("StableVideoDiffusionPipeline")
    untouched = made.call(pipe, 4.0, min_guidance_scale=1.5)
    with guide(pipe, "4 | per_frame(map='0 0.5 1', base=1.5, dim=1)") as trace:
        guided = made.call(pipe, 3.0, min_guidance_scale=1.0)
    assert float((guided - untouched).norm() / untouched.norm()) == pytest.approx(0, abs=ROUNDS)
    assert trace.steps[0].w_range[0] == (1.5, 4.0)
    assert trace.steps[0].w[0] == pytest.approx(2.75)
    with (
        guide(pipe, "4 | per_frame(map='0 1', dim=1)"),
        pytest.raises(InputError, match=r"2 values .* 3 in dimension 1"),
    ):
        made.call(pipe, 3.0, min_guidance_scale=1.0)


def test_halves_of_an_image_have_scales_of_their_own() -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")

    def first_step(guidance: str) -> Tensor:
        with guide(pipe, guidance):
            return made.call(pipe, 5.0, steps=1)

    left, right, both = map(first_step, ("2", "6", "6 | per_position(map='0 1', base=2)"))
    torch.testing.assert_close(both.chunk(2, -1)[0], left.chunk(2, -1)[0])
    torch.testing.assert_close(both.chunk(2, -1)[1], right.chunk(2, -1)[1])
    assert not torch.allclose(left, right)


def test_a_callback_cannot_change_an_image_scale_that_the_guidance_decides() -> None:
    made, pipe = case(PIX2PIX), pipe_of(PIX2PIX)
    with guide(pipe, "3 | image_guidance(s=2)"):
        plain = made.call(pipe, 5.0)
        assert torch.equal(made.call(pipe, 5.0, callback=set_at("_image_guidance_scale", 4.0)), plain)
