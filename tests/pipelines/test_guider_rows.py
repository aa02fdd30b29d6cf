"""A guider and its rows: a guidance for every image, rows that depend on an image's history, further predictions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import diffusers
import pytest
import torch
from accelerate import cpu_offload_with_hook
from pydantic import BeforeValidator
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import (
    TRANSFORMS,
    CFGZeroStar,
    Guidance,
    PerpNeg,
    PredictionNorm,
    ReuseUpdate,
    StepContext,
    Transform,
)
from cfglab.guidance.methods.adaptive_guidance import AdaptiveGuidance
from cfglab.pipelines.guider.guider import to_guider
from cfglab.schedules import Linear
from tests.pipelines.modular import MODULAR

SDXL = MODULAR["SDXL"]
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 2e-3}
"""Latents of size 10 to 100; kernels round differently for another number of rows."""


@dataclass(frozen=True)
class Shrunk:
    """The rows of half the sample, later in time, by a network whose output layer is changed meanwhile."""

    source: Literal["cond", "uncond"] = "cond"

    @contextmanager
    def applied(self, denoiser: Any) -> Iterator[Any]:
        denoiser.conv_out.bias.add_(0.25)
        try:
            yield denoiser
        finally:
            denoiser.conv_out.bias.sub_(0.25)

    def inputs(self, sample: Tensor, timestep: Any, conditioning: Mapping[str, Any]) -> Any:
        text = conditioning["encoder_hidden_states"]
        return sample / 2, timestep + 1, {**conditioning, "encoder_hidden_states": text * 0.5}


@dataclass(frozen=True)
class Other:
    """The rows of another network, which is always wrong."""

    source: Literal["cond", "uncond"] = "cond"

    @contextmanager
    def applied(self, denoiser: Any) -> Iterator[Any]:
        assert type(denoiser) is diffusers.UNet2DConditionModel
        yield lambda sample, *_, **__: (sample * 0.125,)

    def inputs(self, sample: Tensor, timestep: Any, conditioning: Mapping[str, Any]) -> Any:
        return sample, timestep, conditioning


class AwayFrom(Transform):
    """g + (row - worse row)."""

    kind: Literal["away_from_in_a_test"] = "away_from_in_a_test"
    space: Literal["model"] = "model"
    worse: Annotated[Any, BeforeValidator(lambda value: Shrunk(**value) if isinstance(value, dict) else value)] = (
        Shrunk()
    )

    def variation(self, step: Any) -> Any:
        return self.worse if step.index < 2 else None

    def prediction(self, guided: Tensor, context: StepContext) -> Tensor:
        return guided if context.extra is None else guided + getattr(context, self.worse.source) - context.extra


del TRANSFORMS["away_from_in_a_test"]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return SDXL.build()


def draw(pipe: Any, guidance: Any, prompts: list[str], seeds: list[int], steps: int = 4) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    SDXL.use(pipe, to_guider(guidance))
    negative = ["grey"] * len(prompts)
    return SDXL.run(pipe, steps=steps, prompt=prompts, negative_prompt=negative, generator=generators)[-1]


SPECS: list[Any] = [
    5,
    Linear(max=8, min=2).inside(progress=(0, 0.5)),
    Guidance(4, [PredictionNorm(space="x0")]),
    Guidance(4, [AdaptiveGuidance(similarity=0.9)]),
    Guidance(6, [ReuseUpdate()]),
    Guidance(3, [AwayFrom()]),
    Guidance(3, [AwayFrom(worse=Shrunk("uncond"))]),
]


def test_every_image_of_a_list_follows_its_own_guidance(pipe: Any) -> None:
    prompts, seeds = ["a fox", "a cat", "a fox", "a dog", "a cat", "a hen", "a fox"], [1, 2, 3, 4, 5, 6, 7]
    together = draw(pipe, SPECS, prompts, seeds)
    trace = pipe.guider.trace
    assert trace.steps[-1].w[:2] == (5, 1)
    assert [record.rows_run for record in trace.steps] == [28, 28, 14, 14]  # some image needs them at every step
    assert [record.rows_varied for record in trace.steps] == [14, 14, 0, 0]
    assert trace.rows_saved == 0
    for index, spec in enumerate(SPECS):
        alone = draw(pipe, spec, prompts[index : index + 1], seeds[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, **CLOSE)
    shifted = draw(pipe, SPECS[1:] + SPECS[:1], prompts, seeds)
    assert (shifted - together).abs().flatten(1).amax(1).min() > 0.05


def test_a_list_holds_one_guidance_per_image(pipe: Any) -> None:
    with pytest.raises(InputError, match="3 guidances for 2 images: a list holds one per image"):
        draw(pipe, [1, 2, 3], ["a fox", "a cat"], [1, 2])
    with pytest.raises(InputError, match="an empty list of guidances"):
        to_guider([])
    several = SDXL.use(pipe, to_guider([3, 5]))
    latents = SDXL.run(several, num_images_per_prompt=2)[-1]
    assert len(latents) == 2
    assert pipe.guider.trace.steps[0].w == (3, 5)


def test_rows_that_depend_on_the_history_of_an_image_are_its_own(pipe: Any) -> None:
    guidance = Guidance(4, [AdaptiveGuidance(similarity=0.9)])
    prompts, seeds = ["a fox", "a cat", "a dog"], [1, 2, 3]
    together = draw(pipe, guidance, prompts, seeds, steps=6)
    rows = []
    for index in range(3):
        alone = draw(pipe, guidance, prompts[index : index + 1], seeds[index : index + 1], steps=6)
        torch.testing.assert_close(together[index : index + 1], alone, **CLOSE)
        rows.append(pipe.guider.trace.rows_run)
    assert min(rows) < 12


def test_reused_updates_save_their_rows(pipe: Any) -> None:
    draw(pipe, Guidance(4, [ReuseUpdate(every=2)]), ["a fox"], [1])
    assert [record.rows_run for record in pipe.guider.trace.steps] == [2, 1, 2, 1]
    assert pipe.guider.trace.rows_saved == 2
    assert [record.shares for record in pipe.guider.trace.steps] == [((2, 0),), ((1, 1),)] * 2


def test_a_step_that_needs_no_prediction_runs_the_conditional_one() -> None:
    modular = MODULAR["SD3"]
    pipe = modular.use(modular.build(), to_guider(Guidance(4, [CFGZeroStar()])))
    modular.run(pipe, steps=4)
    first, *rest = pipe.guider.trace.steps
    assert (first.rows_run, first.rows_saved) == (1, 1)
    assert {record.rows_run for record in rest} == {2}


@pytest.mark.parametrize("worse", [Shrunk(), Shrunk("uncond"), Other()], ids=str)
def test_a_further_prediction_is_of_the_changed_network_and_the_changed_inputs(pipe: Any, worse: Any) -> None:
    calls: list[tuple[Any, ...]] = []

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((args, kwargs, output[0].clone(), module.conv_out.bias.clone()))

    bias = pipe.unet.conv_out.bias.clone()
    handle = pipe.unet.register_forward_hook(note, with_kwargs=True)
    guider = to_guider(Guidance(4, [AwayFrom(worse=worse)]))
    latents = SDXL.run(SDXL.use(pipe, guider))
    handle.remove()
    (args, kwargs, c, _), (_, negative, u, _), *others = calls
    if isinstance(worse, Shrunk):
        (seen, given, extra, changed) = others[0]
        row, own = (c, kwargs) if worse.source == "cond" else (u, negative)
        assert torch.equal(seen[0], args[0] / 2)
        assert seen[1] == args[1] + 1
        assert torch.equal(given["encoder_hidden_states"], own["encoder_hidden_states"] * 0.5)
        assert torch.equal(given["added_cond_kwargs"]["text_embeds"], own["added_cond_kwargs"]["text_embeds"])
        torch.testing.assert_close(changed, bias + 0.25)
        torch.testing.assert_close(extra.mean(), pipe.unet(*seen, **given)[0].mean() + 0.25)
    else:
        row, extra = c, args[0] * 0.125
    torch.testing.assert_close(pipe.unet.conv_out.bias, bias)
    guided = u + 4 * (c - u) + row - extra
    sigma = pipe.scheduler.sigmas
    start = args[0] * (sigma[0] ** 2 + 1) ** 0.5
    torch.testing.assert_close(latents[0], start + guided * (sigma[1] - sigma[0]), rtol=1e-4, atol=1e-3)
    assert [record.rows_run for record in guider.trace.steps] == [3, 3, 2]
    assert [record.rows_varied for record in guider.trace.steps] == [1, 1, 0]
    assert guider.trace.rows_saved == 0
    assert type(pipe.unet) is diffusers.UNet2DConditionModel


def test_layers_are_looked_for_at_the_first_step_of_a_run(pipe: Any) -> None:
    with pytest.raises(InputError, match="no layer '77' in UNet2D"):
        SDXL.run(SDXL.use(pipe, to_guider("4 | skip_layers(layers=77, start=0.9, stop=1)")))


def test_an_error_in_a_further_prediction_leaves_the_network_as_it_was(pipe: Any) -> None:
    bias = pipe.unet.conv_out.bias.clone()

    def fail(module: Any, *_: Any) -> None:
        if not torch.equal(module.conv_out.bias, bias):
            raise RuntimeError("out of memory")

    handle = pipe.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        SDXL.run(SDXL.use(pipe, to_guider(Guidance(4, [AwayFrom()]))))
    handle.remove()
    torch.testing.assert_close(pipe.unet.conv_out.bias, bias)
    assert type(pipe.unet) is diffusers.UNet2DConditionModel


def test_a_further_prompt_is_refused(pipe: Any) -> None:
    with pytest.raises(InputError, match="has a prompt of its own: a guider is given embeddings and cannot encode"):
        SDXL.run(SDXL.use(pipe, to_guider(Guidance(4, [PerpNeg(prompt="blue")]))))


def test_is_conditional_says_which_rows_are_being_run(pipe: Any) -> None:
    said = []
    guider = to_guider(Guidance(4, [AwayFrom(worse=Shrunk("uncond"))]))
    handle = pipe.unet.register_forward_pre_hook(lambda *_: said.append(guider.is_conditional))
    SDXL.run(SDXL.use(pipe, guider), steps=1)
    handle.remove()
    assert said == [True, False, False]
    assert guider.is_unconditional


def test_the_latents_are_seen_where_the_denoiser_is_offloaded() -> None:
    guidance = Guidance(4, [PredictionNorm(space="x0")])
    pipe = SDXL.use(SDXL.build(), to_guider(guidance))
    plain = SDXL.run(pipe)
    pipe.unet, _ = cpu_offload_with_hook(pipe.unet, "cpu")
    for _ in range(2):
        assert all(map(torch.equal, SDXL.run(pipe), plain))
