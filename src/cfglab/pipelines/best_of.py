"""generate(pipe, prompt, best_of=n): of n seeds, the ones that guidance moves most in the first steps (2505.23343)."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.pipelines.interception.guide import guide

MOST = 64
"""The most candidates of one prompt; they are one batch."""


@dataclass(frozen=True, eq=False)
class Generated:
    """The images of the best seeds of a prompt.

    Attributes:
        images: the images in the order of `seeds`, as the pipeline returns them.
        seeds: the seed of each image, the one with the largest difference first.
        differences: the mean of |cond - uncond| over the first steps, by seed; empty for `best_of` = `count`.
        rows_run: the rows that the denoiser ran, for the candidates and for the images.
    """

    images: Any
    seeds: tuple[int, ...]
    differences: Mapping[int, float]
    rows_run: int


class _EnoughSteps(Exception):
    """Ends a call of the pipeline after its first steps."""


def generate(
    pipe: Any,
    prompt: str,
    guidance: Any = 7.5,
    *,
    best_of: int = 1,
    count: int = 1,
    early: int = 5,
    seed: int = 0,
    **arguments: Any,
) -> Generated:
    """Images of a prompt, by default one; with `best_of`, those of the most promising seeds.

    CFG-Rejection: candidates run their first steps only, and those whose accumulated difference between the conditional
    and the unconditional prediction is largest are generated. The paper finds that it predicts quality; it costs
    `best_of * early` steps more and needs no other model. The images are those of a plain call with the same seeds.

    Args:
        pipe: a diffusers pipeline with `callback_on_step_end`.
        prompt: the prompt.
        guidance: as in `guide`; both predictions must be run in the first steps.
        best_of: the number of candidates, 1 to 64; they have the seeds `seed` to `seed + best_of - 1`.
        count: the number of images, 1 to `best_of`.
        early: the number of steps that the candidates run, 1 or more.
        seed: the first seed, a whole number, 0 or more.
        **arguments: further arguments of the pipeline, such as `num_inference_steps`.

    Returns:
        The images, their seeds and the differences.

    Raises:
        InputError: a number is out of range, an argument is set by this function, the pipeline has no callback, or the
            guidance does not run both predictions in the first steps.

    Reference:
        arXiv:2505.23343; WSX20003/CFG-Rejection, `generate_sd1.5.py`.

    Examples:
        found = cfglab.generate(pipe, "a red circle", 5, best_of=8)
        found.images[0].save("circle.png")
    """
    _check_number("best_of", best_of, 1, MOST)
    _check_number("count", count, 1, best_of)
    _check_number("early", early, 1, None)
    _check_number("seed", seed, 0, None)
    if own := sorted({"prompt", "generator", "callback_on_step_end", "num_images_per_prompt"} & set(arguments)):
        raise InputError(f"generate({own[0]}=…): generate sets it itself; leave it out, or call the pipeline.")
    seeds = list(range(seed, seed + best_of))
    differences: dict[int, float] = {}
    rows_run = 0
    if count < best_of:
        trace = _first_steps(pipe, prompt, guidance, seeds, early, arguments)
        differences = dict(zip(seeds, _mean_difference(trace, early, guidance), strict=True))
        rows_run = trace.rows_run
        seeds = sorted(seeds, key=lambda candidate: -differences[candidate])[:count]
    with guide(pipe, guidance) as trace:
        images = pipe([prompt] * count, generator=_generators(seeds), **arguments).images
    return Generated(images, tuple(seeds), differences, rows_run + trace.rows_run)


def _first_steps(
    pipe: Any, prompt: str, guidance: Any, seeds: list[int], early: int, arguments: dict[str, Any]
) -> Trace:
    if "callback_on_step_end" not in inspect.signature(type(pipe).__call__).parameters:
        raise InputError(
            f"generate(best_of={len(seeds)}) with a {type(pipe).__name__}: it has no callback_on_step_end, so it "
            "cannot be ended after its first steps; leave best_of out."
        )

    def stop(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index + 1 >= early:
            raise _EnoughSteps
        return tensors

    with guide(pipe, guidance) as trace, suppress(_EnoughSteps):
        pipe([prompt] * len(seeds), generator=_generators(seeds), callback_on_step_end=stop, **arguments)
    return trace


def _mean_difference(trace: Trace, early: int, guidance: Any) -> list[float]:
    """The mean of |cond - uncond| of each image over the calls of the first steps."""
    rows = [record.difference for record in trace.steps if record.step.index < early]
    if not rows or any(value is None for row in rows for value in row):
        raise InputError(
            f"generate(guidance={str(guidance)!r}): the seeds are compared by |cond - uncond| in the first {early} "
            "steps, and one of the two predictions was not run there; give a guidance that starts at the first step, "
            "or fewer early steps."
        )
    return [sum(float(value or 0.0) for value in column) / len(column) for column in zip(*rows, strict=True)]


def _generators(seeds: list[int]) -> list[Any]:
    import torch

    return [torch.Generator().manual_seed(number) for number in seeds]


def _check_number(name: str, value: Any, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limit = f"{low} or more" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}={value!r}: it is a whole number {limit}; write {name}={low}.")
