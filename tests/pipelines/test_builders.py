"""The tiny pipelines do what their `Case` says, before anything of cfglab touches them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.pipelines.families import Case, cases

STEPS = 3
COUNTS = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")
UNEQUAL = r"must match|not yet supported|equal size|does not match"  # as diffusers says that it makes one only
SAMPLED = {"HunyuanDiTControlNetPipeline", "StableDiffusion3ControlNetPipeline"}  # control latents drawn row by row


def every(*styles: str) -> list[Any]:
    """All cases of these styles (of every style, if none is named), the slow ones marked."""
    return [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
        for case in cases()
        if not styles or case.style in styles
    ]


def built(case: Case) -> Any:
    if case.requires:
        pytest.importorskip(case.requires)
    return case.build()


@cache
def shared(case: Case) -> Any:
    """The pipeline of a case, built once for all tests that leave it as it was."""
    return built(case)


@cache
def untouched(case: Case, scale: float) -> Tensor:
    """The latents at a scale, of a pipeline of its own that nothing of cfglab ever touches."""
    return case.call(_never_guided(case), scale, steps=STEPS)


@cache
def _never_guided(case: Case) -> Any:
    return built(case)


@contextmanager
def watched(pipe: Any, case: Case) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """What the denoisers return, and what the sampler is given, call by call."""
    returned: list[Tensor] = []
    stepped: list[Tensor] = []

    def rows(_module: Any, _inputs: Any, output: Any) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        returned.append(torch.stack(first) if isinstance(first, list) else first.clone())

    step = pipe.scheduler.step

    def seen(*arguments: Any, **named: Any) -> Any:
        stepped.append((arguments[0] if arguments else named["model_output"]).clone())
        return step(*arguments, **named)

    hooks = [getattr(pipe, name).register_forward_hook(rows) for name in case.denoisers]
    if not case.apart:
        pipe.scheduler.step = seen
    try:
        yield returned, stepped
    finally:
        vars(pipe.scheduler).pop("step", None)
        for hook in hooks:
            hook.remove()


def halves(case: Case, returned: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(uncond, cond) of the first step."""
    first, second = returned[:2] if case.style == "two calls" else returned[0].chunk(2)
    tokens = min(first.shape[1], second.shape[1])  # Ideogram's conditional network returns its text too
    first, second = first[:, -tokens:], second[:, -tokens:]
    return (first, second) if case.order == "uncond cond" else (second, first)


def near(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= 1e-4 * b.norm())


def test_no_case_is_there_twice() -> None:
    names = [case.name for case in cases()]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", every())
def test_it_runs_repeats_and_hears_its_scale(case: Case) -> None:
    pipe = shared(case)
    assert type(pipe).__name__ == case.cls
    low, high = case.scales
    first = untouched(case, low)
    assert torch.isfinite(first).all()
    for _ in range(2):
        assert torch.equal(case.call(pipe, low, steps=STEPS), first)
    if any(case.accepts(count) for count in COUNTS) and not case.one:
        if case.single:
            with pytest.raises((RuntimeError, ValueError, AssertionError), match=UNEQUAL):
                case.call(pipe, low, steps=2, images=2)
        else:
            assert len(case.call(pipe, low, steps=2, images=2)) == 2 * len(first)
    other = untouched(case, high)
    assert (other - first).norm() > 0.015 * first.norm()  # a blind comparison proves nothing


@pytest.mark.parametrize("case", every("batched", "lists", "two calls"))
def test_the_layout_is_as_stated(case: Case) -> None:
    pipe = shared(case)
    scale = case.scales[0]
    with watched(pipe, case) as (returned, stepped):
        case.call(pipe, scale, steps=2)
    uncond, cond = halves(case, returned)
    if not case.apart:
        assert len(returned) * (2 if case.converts else 1) == len(stepped) * (2 if case.style == "two calls" else 1)
    assert (cond - uncond).norm() > 0.02 * cond.norm()
    if (
        case.off is not None and case.cls not in SAMPLED
    ):  # the first step starts from the same latents, so the order shows
        with watched(pipe, case) as (alone, _):
            case.call(pipe, case.off, steps=2)
        assert near(cond, alone[0][:, -cond.shape[1] :])
    if case.combine != "other" and case.exact:
        weight = scale + case.offset
        guided = uncond + weight * (cond - uncond)
        if case.variance == "used":
            kept = guided.shape[1] // 2
            guided = torch.cat([guided[:, :kept], cond[:, kept:]], dim=1)
        if "sign is flipped" in case.before + case.after:
            guided = -guided
        given = stepped[0][: len(guided)]  # DiT's sampler is given the doubled batch
        width = given.shape[-1] if given.ndim == guided.ndim == 3 else None  # a variance in the last dimension
        assert near(given.reshape(-1), guided[:, : given.shape[1]][..., :width].reshape(-1))


@pytest.mark.parametrize("case", every("three parts"))
def test_three_parts_are_combined_as_stated(case: Case) -> None:
    pipe = shared(case)
    scale = case.scales[0]
    with watched(pipe, case) as (returned, stepped):
        case.call(pipe, scale, steps=2)
    assert len(returned) == len(stepped)
    one, two, three = returned[0].chunk(3)
    if case.cls == "OmniGenPipeline":  # with neither before the image alone
        two, three = three, two
    if case.cls == "DreamLitePipeline":  # with neither, with the image alone, with words
        one, three = three, one
    if case.order == "other":  # InstructPix2Pix: with words, with the image alone, with neither
        guided = three + scale * (one - two) + 1.5 * (two - three)
    else:  # uncond, cond, cond with perturbed attention
        guided = one + scale * (two - one) + 2.0 * (two - three)
    assert not torch.equal(two, three)
    assert near(stepped[0], guided[:, : stepped[0].shape[1], ..., : stepped[0].shape[-1]])


@pytest.mark.parametrize("case", every("embedded"))
def test_an_embedded_scale_is_an_input(case: Case) -> None:
    pipe = shared(case)
    (name,) = case.denoisers
    scales: list[Tensor] = []
    hook = getattr(pipe, name).register_forward_pre_hook(
        lambda _module, _inputs, named: scales.append(named["guidance"].clone()), with_kwargs=True
    )
    low, high = case.scales
    case.call(pipe, low, steps=2)
    steps = len(scales)
    case.call(pipe, high, steps=2)
    hook.remove()
    assert steps in (1, 2)  # one with strength
    assert near(scales[-1] * low, scales[0] * high)
