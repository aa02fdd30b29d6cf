"""Advice that can be followed: what a refusal names is what the user did, and what it says helps."""

from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from diffusers import callbacks
from torch import Tensor

from cfglab.errors import InputError
from cfglab.pipelines import attach, detach, guide
from cfglab.step import Step
from tests.pipelines.families import case, parts


@cache
def made(name: str) -> Any:
    return case(name).build()


def draw(pipe: Any, prompt: str = "a cat", steps: int = 4, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(prompt, num_inference_steps=steps, generator=generator, output_type="latent", **more).images


CUTOFFS = {
    "StableDiffusionPipeline": callbacks.SDCFGCutoffCallback,
    "StableDiffusionXLPipeline": callbacks.SDXLCFGCutoffCallback,
    "StableDiffusionXLControlNetPipeline": callbacks.SDXLControlnetCFGCutoffCallback,
    "StableDiffusion3Pipeline": callbacks.SD3CFGCutoffCallback,
}


@pytest.mark.parametrize("name", CUTOFFS)
def test_diffusers_own_callbacks_that_switch_guidance_off(name: str) -> None:
    """After the cutoff: the conditional rows alone, as in the pipeline itself."""
    case_of, pipe = case(name), made(name)

    def run(scale: float, cutoff: Any) -> Tensor:
        callback = cutoff and {
            "callback_on_step_end": cutoff,
            "callback_on_step_end_tensor_inputs": cutoff.tensor_inputs,
        }
        return case_of.call(pipe, scale, steps=4, **(callback or {}))

    wanted = run(3.0, CUTOFFS[name](cutoff_step_index=1, cutoff_step_ratio=None))
    assert not torch.equal(wanted, run(3.0, None))
    with guide(pipe, 3.0) as trace:
        guided = run(5.0, CUTOFFS[name](cutoff_step_index=1, cutoff_step_ratio=None))
    assert torch.equal(guided, wanted)
    assert [record.rows_run for record in trace.steps] == [2, 2, 1, 1]
    assert [record.rows_saved for record in trace.steps] == [0, 0, 1, 1]
    assert [record.w for record in trace.steps] == [(3.0,), (3.0,), (1.0,), (1.0,)]
    assert "4/4" in trace.table()


def test_a_callback_that_switches_guidance_off_between_two_calls_a_step() -> None:
    case_of, pipe = case("CogView4Pipeline"), made("CogView4Pipeline")

    def off(given: Any, index: int, *_: Any) -> dict[str, Any]:
        if index == 0:
            given._guidance_scale = 1.0
        return {}

    wanted = case_of.call(pipe, 3.0, callback_on_step_end=off)
    with guide(pipe, 3.0) as trace:
        assert torch.equal(case_of.call(pipe, 5.0, callback_on_step_end=off), wanted)
    assert [record.w for record in trace.steps] == [(3.0,), (1.0,), (1.0,)]


def test_a_latent_consistency_model() -> None:
    parts_of = dict(made("StableDiffusionPipeline").components)
    parts_of["unet"] = parts.unet(time_cond_proj_dim=8)
    pipe = diffusers.StableDiffusionPipeline(**parts_of, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    words = r"guidance_scale=7\.5 inside guide\(\) for a UNet2DConditionModel with time_cond_proj_dim=8 .*not distilled"
    with pytest.raises(InputError, match=words), guide(pipe, 3.0):
        draw(pipe, guidance_scale=7.5)


@pytest.mark.parametrize("strength", [0.0, 0.2])
def test_an_image_to_image_call_of_no_steps_is_refused_before_it_begins(strength: float) -> None:
    pipe, seen = made("StableDiffusionImg2ImgPipeline"), list[int]()
    handle = pipe.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    with guide(pipe, 3.0):
        words = f"strength={strength:g} with num_inference_steps=4: no step is left .*a strength of 0.25 or more"
        with pytest.raises(InputError, match=words):
            draw(pipe, image=parts.picture(), strength=strength)
        draw(pipe, image=parts.picture(), strength=0.25)
    handle.remove()
    assert len(seen) == 2  # of the call that has a step


def test_a_part_of_no_steps_is_named() -> None:
    pipe = made("StableDiffusionXLPipeline")
    with pytest.raises(InputError, match=r"a run of 0 steps \(denoising_end=0\.0001\)"), guide(pipe, 3.0):
        draw(pipe, denoising_end=0.0001)


def test_a_list_of_bare_numbers_is_told_of_tables() -> None:
    pipe = made("StableDiffusionPipeline")
    words = r"4 guidances for 1 images: .*for one scale per step give the text 'table\(\[8, 6, 4, 2\]\)'"
    with pytest.raises(InputError, match=words), guide(pipe, [8, 6, 4, 2]):
        draw(pipe)
    with guide(pipe, "table([8, 6, 4, 2])") as trace:
        draw(pipe)
    assert [record.w for record in trace.steps] == [(8.0,), (6.0,), (4.0,), (2.0,)]
    with pytest.raises(InputError, match=r"or a single guidance for all\.$"), guide(pipe, ["cosine(max=7)", 3]):
        draw(pipe)


def test_a_context_that_is_entered_again_begins_anew() -> None:
    pipe = made("StableDiffusionPipeline")
    context = guide(pipe, 3.0)
    with context as first:
        wanted = draw(pipe)
        with pytest.raises(InputError, match="is guided already"):
            context.__enter__()
    with context as second:
        assert torch.equal(draw(pipe), wanted)
    assert first is not second
    assert [record.run for record in second.steps] == [0] * 4

    @context
    def decorated() -> Tensor:
        return draw(pipe)

    for _ in range(2):
        assert torch.equal(decorated(), wanted)
    attach(pipe, 3.0)  # and nothing is left of it
    detach(pipe)


def test_a_loop_that_has_not_run_when_the_pipeline_returns_is_named() -> None:
    class Streaming(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        def __call__(self, *_: Any, **__: Any) -> Any:
            yield 1

    from cfglab.pipelines import Profile

    parts_of = made("StableDiffusionPipeline").components
    pipe = Streaming(**parts_of, requires_safety_checker=False)
    with pytest.raises(InputError, match="Streaming returned a generator"), guide(pipe, 3.0, profile=Profile()):
        pipe()


# -- a schedule over two passes ----------------------------------------------------------------------------------------


def falling(step: Step) -> float:
    return 8.0 - 6.0 * step.index / step.count


def scales(pipe: Any, span: Any, **more: Any) -> list[float]:
    with guide(pipe, falling, span=span) as trace:
        draw(pipe, steps=10, **more)
    return [record.w[0] or 0.0 for record in trace.steps]


@pytest.mark.parametrize("scheduler", [diffusers.EulerDiscreteScheduler, diffusers.DDIMScheduler])
def test_a_base_and_its_refiner_share_one_schedule_where_it_spans_the_trajectory(scheduler: Any) -> None:
    base, refiner = made("StableDiffusionXLPipeline"), made("StableDiffusionXLImg2ImgPipeline")
    given: dict[str, Any] = {"image": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))}
    before = base.scheduler, refiner.scheduler
    base.scheduler, refiner.scheduler = (scheduler.from_config(old.config) for old in before)
    try:
        whole = scales(base, "call")
        assert whole == pytest.approx([8.0 - 0.6 * index for index in range(10)])
        first, second = (
            scales(base, "trajectory", denoising_end=0.8),
            scales(refiner, "trajectory", denoising_start=0.8, **given),
        )
        assert len(first) in (7, 8)
        assert first + second == whole
        assert scales(base, "trajectory") == whole
        again = scales(refiner, "call", denoising_start=0.8, **given)
        assert again[0] == 8.0  # by default, it begins again in every call
        assert scales(base, "call", denoising_end=0.8)[-1] < first[-1]
    finally:
        base.scheduler, refiner.scheduler = before


def test_an_image_to_image_continuation_counts_over_the_trajectory() -> None:
    pipe = made("StableDiffusionImg2ImgPipeline")
    given = {"image": parts.picture(), "strength": 0.3}
    assert scales(pipe, "trajectory", **given) == pytest.approx([8.0 - 0.6 * index for index in (7, 8, 9)])
    assert scales(pipe, "call", **given) == pytest.approx([8.0, 6.0, 4.0])
    attach(pipe, falling, span="trajectory")
    detach(pipe)
    with pytest.raises(InputError, match="span='run': a schedule spans each 'call' or the whole 'trajectory'"):
        guide(pipe, 3.0, span="run")  # type: ignore[arg-type]
