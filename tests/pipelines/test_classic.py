"""guide(pipe) on a tiny random Stable Diffusion: against the untouched pipeline and against one's own loop."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.denoising.step_reader import StepReader
from cfglab.errors import InputError
from cfglab.guidance import FullNorm, Guidance, PredictionNorm, UpdateNorm
from cfglab.pipelines import SAMPLERS, guide, load
from cfglab.pipelines.loading.samplers import make_sampler
from cfglab.schedules import Cosine

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 2e-4}
"""Latents of size 10 to 100 after a few steps; kernels round differently for another number of rows."""


def draw(
    pipe: Any, prompt: str | list[str] = "a cat", seeds: Sequence[int] = (0,), steps: int = 4, **kwargs: Any
) -> Tensor:
    """Final latents (B, 4, 16, 16)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(prompt, num_inference_steps=steps, generator=generators, output_type="latent", **kwargs).images


def own_loop(
    pipe: Any, guidance: Guidance, prompt: str, seed: int, steps: int = 4, prediction: str = "epsilon"
) -> Tensor:
    """The bare step in a loop of one's own: both rows each time, `Guide.combine`, the scheduler."""
    scheduler = pipe.scheduler
    with torch.no_grad():
        cond, uncond = pipe.encode_prompt(prompt, "cpu", 1, True)
        scheduler.set_timesteps(steps)
        latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
        reader, run = StepReader(scheduler), guidance.start(prediction)  # type: ignore[arg-type]
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            u, c = pipe.unet(seen, t, encoder_hidden_states=torch.cat([uncond, cond])).sample.chunk(2)
            guided = run.combine(u, c, reader.next(), seen[:1])
            latents = scheduler.step(guided, t, latents).prev_sample
    return latents


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"dpm++2m-sde"}))
def test_plain_cfg_is_the_untouched_pipeline_bit_for_bit(pipe: Any, sampler: str) -> None:
    pipe.scheduler = make_sampler(sampler, pipe.scheduler.config)
    untouched = draw(pipe, seeds=[1], guidance_scale=7.5)
    for given in (2.0, 7.5, 30.0):
        with guide(pipe, Guidance(7.5)) as trace:
            guided = draw(pipe, seeds=[1], guidance_scale=given)
        assert torch.equal(guided, untouched)
        assert trace.rows_saved == 0
    assert (draw(pipe, seeds=[1], guidance_scale=3.0) - untouched).abs().max() > 0.05  # the test can see


def test_w_1_is_the_pipeline_without_guidance_bit_for_bit(pipe: Any) -> None:
    untouched = draw(pipe, ["a cat", "a dog"], seeds=[1, 2], guidance_scale=1.0)
    with guide(pipe, 1) as trace:
        guided = draw(pipe, ["a cat", "a dog"], seeds=[1, 2])
    assert torch.equal(guided, untouched)
    assert [record.rows_run for record in trace.steps] == [2] * 4


def test_pictures_per_prompt_and_negative_prompts(pipe: Any) -> None:
    kwargs = {"prompt": ["a cat", "a dog"], "negative_prompt": ["blue", ""], "num_images_per_prompt": 2}
    untouched = draw(pipe, seeds=[1, 2, 3, 4], guidance_scale=5.0, **kwargs)  # type: ignore[misc]
    with guide(pipe, "5"):
        guided = draw(pipe, seeds=[1, 2, 3, 4], **kwargs)  # type: ignore[misc]
    torch.testing.assert_close(guided, untouched, **CLOSE)


def test_half_precision_is_the_untouched_pipeline(tiny_folder: Path) -> None:
    pipe = load(tiny_folder, device="cpu", dtype="bfloat16")
    pipe.set_progress_bar_config(disable=True)
    untouched = draw(pipe, seeds=[1], guidance_scale=7.5)
    with guide(pipe, 7.5):
        assert torch.equal(draw(pipe, seeds=[1]), untouched)
    with guide(pipe, Guidance(7.5, [PredictionNorm()])):
        normed = draw(pipe, seeds=[1])
    assert normed.dtype == untouched.dtype == torch.bfloat16
    assert torch.isfinite(normed).all()


def test_a_schedule_is_the_scale_set_by_a_callback(pipe: Any) -> None:
    """diffusers' own way of moving the scale, which can only go where the scale stays above 1."""
    values = Cosine(max=9, min=2, k=0.5).values(4)

    def move(pipe: Any, index: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = values[min(index + 1, 3)]
        return kwargs

    untouched = draw(pipe, seeds=[3], guidance_scale=values[0], callback_on_step_end=move)
    with guide(pipe, Cosine(max=9, min=2, k=0.5)):
        assert torch.equal(draw(pipe, seeds=[3]), untouched)


@pytest.mark.parametrize("sampler", ["lms", "heun", "pndm"])
@pytest.mark.parametrize(
    "guidance",
    [
        Guidance(Cosine(max=7.5, min=1, k=0.3)),
        Guidance(3, [PredictionNorm()]),
        Guidance(0.3, [UpdateNorm(space="x0", strength=0.5)]),
        Guidance(Cosine(max=0.5, min=0.1).inside(progress=(0.2, 0.9)), [FullNorm()]),
    ],
    ids=str,
)
def test_the_same_numbers_in_a_loop_of_ones_own(pipe: Any, sampler: str, guidance: Guidance) -> None:
    pipe.scheduler = make_sampler(sampler, pipe.scheduler.config)
    alone = own_loop(pipe, guidance, "a cat", seed=5)
    with guide(pipe, guidance):
        guided = draw(pipe, seeds=[5])
    torch.testing.assert_close(guided, alone, **CLOSE)


def test_v_prediction_is_seen_from_the_sampler(tiny_v_folder: Path) -> None:
    pipe = load(tiny_v_folder, device="cpu", sampler="ddim")
    pipe.set_progress_bar_config(disable=True)
    guidance = Guidance(3, [PredictionNorm()])
    alone = own_loop(pipe, guidance, "a cat", seed=5, prediction="v")
    with guide(pipe, guidance):
        torch.testing.assert_close(draw(pipe, seeds=[5]), alone, **CLOSE)
    other = own_loop(pipe, guidance, "a cat", seed=5, prediction="epsilon")
    assert (other - alone).abs().max() > 0.01


def test_a_list_is_one_guidance_per_image(pipe: Any) -> None:
    specs = [7.5, "cosine(max=7.5, min=1, k=0.3)", Guidance(3, [PredictionNorm()]), 7.5, 1, [7.5, 5, 2, 1]]
    with guide(pipe, specs) as trace:
        # one prompt drawn six times: six equal prompts encoded as one batch need not be equal bit for bit
        together = draw(pipe, seeds=[1] * 6, num_images_per_prompt=6)
    assert [record.rows_run for record in trace.steps] == [2, 2 + 2 + 1, 2 + 2 + 2 + 2 + 1, 2 + 2 + 2 + 1 + 1]
    assert (trace.rows_run, trace.rows_saved) == (24, 24)
    for image, spec in enumerate(specs):
        with guide(pipe, [spec]):
            torch.testing.assert_close(together[image : image + 1], draw(pipe, seeds=[1]), **CLOSE)
    assert torch.equal(together[0], together[3])
    with guide(pipe, [7.5, 1]) as trace:
        draw(pipe, seeds=[1, 2], num_images_per_prompt=2)
    assert [record.rows_run for record in trace.steps] == [3] * 4


def test_rows_of_an_interval_are_counted(pipe: Any) -> None:
    with guide(pipe, Guidance(7.5).schedule.inside(steps=(1, 3))) as trace:
        draw(pipe, ["a cat", "a dog"], seeds=[1, 2])
        draw(pipe, ["a cat", "a dog"], seeds=[3, 4], steps=3)
    assert [record.rows_run for record in trace.steps] == [2, 4, 4, 2, 2, 4, 4]
    assert (trace.rows_run, trace.rows_saved) == (22, 6)
    assert [record.run for record in trace.steps] == [0] * 4 + [1] * 3
    assert trace.steps[0].difference == (None, None)
    assert all(value is not None and value > 0 for value in trace.steps[1].difference)


@pytest.mark.parametrize(
    ("sampler", "calls"), [("heun", [0, 0, 1, 1, 2]), ("kdpm2", [0, 0, 1, 1, 2]), ("pndm", [0, 0, 1, 2])]
)
def test_a_schedule_moves_once_a_step_never_late(pipe: Any, sampler: str, calls: list[int]) -> None:
    pipe.scheduler = make_sampler(sampler, pipe.scheduler.config)
    with guide(pipe, [[7.0, 5.0, 3.0]]) as trace:
        draw(pipe, seeds=[1], steps=3)
    assert [record.w[0] for record in trace.steps] == [[7.0, 5.0, 3.0][index] for index in calls]


def test_samplers_that_add_noise_keep_images_apart(pipe: Any) -> None:
    pipe.scheduler = make_sampler("euler-a", pipe.scheduler.config)
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    untouched = draw(pipe, num_images_per_prompt=2, seeds=[1, 2], latents=start.clone(), guidance_scale=3.0)
    with guide(pipe, 3) as trace:
        guided = draw(pipe, num_images_per_prompt=2, seeds=[1, 2], latents=start.clone())
    torch.testing.assert_close(guided, untouched, **CLOSE)
    assert [record.rows_run for record in trace.steps] == [2, 4, 4, 4]


def test_latents_edited_by_a_callback_keep_images_apart(pipe: Any) -> None:
    def edit(_: Any, index: int, __: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        kwargs["latents"][1] += index == 1
        return kwargs

    untouched = draw(pipe, num_images_per_prompt=2, seeds=[1, 1], guidance_scale=3.0, callback_on_step_end=edit)
    with guide(pipe, 3) as trace:
        guided = draw(pipe, num_images_per_prompt=2, seeds=[1, 1], callback_on_step_end=edit)
    torch.testing.assert_close(guided, untouched, **CLOSE)
    assert [record.rows_run for record in trace.steps] == [2, 2, 4, 4]


def test_an_object_with_its_own_start(pipe: Any) -> None:
    class Foreign:
        def start(self, prediction: str) -> "Foreign":
            assert prediction == "epsilon"
            return self

        def combine(self, uncond: Tensor, cond: Tensor, *_: Any) -> Tensor:
            return uncond + 7.5 * (cond - uncond)

    untouched = draw(pipe, seeds=[1], guidance_scale=7.5)
    with guide(pipe, Foreign()) as trace:
        assert torch.equal(draw(pipe, seeds=[1]), untouched)
    assert trace.steps[0].w == (None,)


def test_the_pipeline_is_left_as_it_was_found(pipe: Any, tmp_path: Path) -> None:
    before = draw(pipe, seeds=[1], guidance_scale=3.0)
    kind, keys = type(pipe.unet), dict(vars(pipe.unet))
    with guide(pipe, 7.5):
        assert isinstance(pipe.unet, kind)
        copied = copy.deepcopy(pipe.unet)
        pipe.unet.save_pretrained(tmp_path)
        draw(pipe, seeds=[1])
    assert type(pipe.unet) is kind
    assert vars(pipe.unet).keys() == keys.keys()
    assert torch.equal(draw(pipe, seeds=[1], guidance_scale=3.0), before)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
    assert copied(torch.zeros(1, 4, 16, 16), 1, torch.zeros(1, 77, 32)).sample.shape == (1, 4, 16, 16)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, InputError])
def test_faults_restore_the_pipeline_and_the_context_goes_on_counting(pipe: Any, fault: type[BaseException]) -> None:
    def stop(_: Any, index: int, __: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if index == 1:
            raise fault
        return kwargs

    before = draw(pipe, seeds=[1], guidance_scale=3.0)
    kind = type(pipe.unet)
    with pytest.raises(fault), guide(pipe, 7.5):
        draw(pipe, seeds=[1], callback_on_step_end=stop)
    assert type(pipe.unet) is kind
    assert torch.equal(draw(pipe, seeds=[1], guidance_scale=3.0), before)
    with guide(pipe, 3) as trace:
        with pytest.raises(fault):
            draw(pipe, seeds=[1], callback_on_step_end=stop)
        assert torch.equal(draw(pipe, seeds=[1]), before)
    assert [record.step.index for record in trace.steps] == [0, 1, 0, 1, 2, 3]


def test_what_cannot_be_guided_is_said(pipe: Any) -> None:
    class Renamed(type(pipe)):  # type: ignore[misc]
        """Of the same call."""

    class Other(type(pipe)):  # type: ignore[misc]
        def __call__(self) -> None: ...

    parts = {**pipe.components}
    with pytest.raises(InputError, match=r"Other cannot be guided: its layout is not in .*profile=Profile\("):
        guide(Other(**parts, requires_safety_checker=False), 3)
    same = Renamed(**parts, requires_safety_checker=False)
    same.set_progress_bar_config(disable=True)
    with guide(same, 7.5):
        assert torch.equal(draw(same, seeds=[1]), draw(same, seeds=[1]))
    with guide(pipe, 3):
        with pytest.raises(InputError, match=r"guided already: one guide\(\) at a time"):
            guide(pipe, 5)
        with pytest.raises(InputError, match=r"guidance_scale=1.0 inside guide.*any guidance_scale above 1"):
            draw(pipe, seeds=[1], guidance_scale=1.0)
    with pytest.raises(InputError, match="2 guidances for 1 images"), guide(pipe, [3, 5]):
        draw(pipe, seeds=[1])
    with pytest.raises(InputError, match="empty list"):
        guide(pipe, [])
    with pytest.raises(InputError, match="unknown shape"):
        guide(pipe, "cosin(max=3)")


def test_a_guide_entered_while_another_is_open_is_refused(pipe: Any) -> None:
    late = guide(pipe, 5)
    with guide(pipe, 3), pytest.raises(InputError, match="guided already"), late:
        pass
