"""generate(pipe, prompt, best_of=n): of n seeds, the ones that guidance moves most in the first steps (2505.23343)."""

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance.guidance import Guidance, as_guidance
from cfglab.limits import LARGEST_SEED
from cfglab.pipelines.candidates import EARLY, check_candidates, check_number
from cfglab.pipelines.interception.guide import guide
from cfglab.schedules.fields import shown
from cfglab.step import Step


@dataclass(frozen=True, eq=False)
class Generated:
    """The images of the best seeds of a prompt.

    Attributes:
        images: the images, videos or sounds in the order of `seeds`, as the pipeline returns them.
        seeds: the seed of each image, the one with the largest difference first.
        differences: the mean of |cond - uncond| over the first steps, by seed; empty for `best_of` = `count`.
        rows_run: the rows that the denoiser ran, for the candidates and for the images.
    """

    images: Any
    seeds: tuple[int, ...]
    differences: Mapping[int, float]
    rows_run: int


_OWN = re.compile(r"prompt|prompt_embeds|generator|latents|callback_on_step_end|num_\w+_per_prompt")
"""Arguments that `generate` sets, or that would take the choice from the seeds."""


_TEXT = re.compile(r"negative_prompt(_\d)?|prompt_\d|lyrics|vocal_language|audio_codes|transcription")
"""Arguments that are text beside the prompt, one for each image."""


class _EnoughSteps(Exception):
    """Ends a call of the pipeline after its first steps."""


def generate(
    pipe: Any,
    prompt: str,
    guidance: Any = 7.5,
    *,
    best_of: int = 1,
    count: int = 1,
    early: int = EARLY,
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
        guidance: as in `guide`; both predictions must be run in the first steps. A list, one guidance for each image,
            is taken where all candidates are generated (`count` = `best_of`).
        best_of: the number of candidates, 1 to 64; they have the seeds `seed` to `seed + best_of - 1`.
        count: the number of images, 1 to `best_of`.
        early: the number of steps that the candidates run, 1 or more.
        seed: the first seed, a whole number, 0 or more; the last one is below 2**64.
        **arguments: further arguments of the pipeline, such as `num_inference_steps`; a negative prompt, a prompt for
            a second text encoder, or lyrics are one text, or a list of one.

    Returns:
        The images, their seeds and the differences.

    Raises:
        InputError: a prompt is no text, a number is out of range, an argument is set by this function, there are
            several guidances for candidates, the pipeline has no callback, or the guidance does not run both
            predictions in the first steps.

    Reference:
        arXiv:2505.23343; WSX20003/CFG-Rejection, `generate_sd1.5.py`.

    Examples:
        found = cfglab.generate(pipe, "a red apple", 5, best_of=8)
        found.images[0].save("circle.png")
    """
    check_candidates(best_of, early)
    check_number("count", count, 1, best_of)
    check_number("seed", seed, 0, LARGEST_SEED + 1 - best_of)
    if not isinstance(prompt, str):
        raise InputError(
            f"prompt {shown(prompt)}: generate makes images of one prompt, a text; call it once for each prompt."
        )
    if own := sorted(name for name in arguments if _OWN.fullmatch(name)):
        raise InputError(f"generate({own[0]}=…): generate sets it itself; leave it out, or call the pipeline.")
    guidance = _for_all(guidance, best_of, count)
    seeds = list(range(seed, seed + best_of))
    differences: dict[int, float] = {}
    rows_run = 0
    if count < best_of:
        arguments_of_all = _of_seeds(prompt, seeds, arguments)
        trace = first_steps(pipe, guidance, early, arguments_of_all)
        means = mean_differences(trace, [early] * best_of, [guidance] * best_of)
        differences = dict(zip(seeds, means, strict=True))
        rows_run = trace.rows_run
        seeds = sorted(seeds, key=lambda candidate: -differences[candidate])[:count]
    with guide(pipe, guidance) as trace:
        images = pipe(**_of_seeds(prompt, seeds, arguments))[0]  # images, frames or sound: the first of any output
    return Generated(images, tuple(seeds), differences, rows_run + trace.rows_run)


def _for_all(guidance: Any, best_of: int, count: int) -> Any:
    """One guidance for all images, or a list of one for each of them where there is no choice among candidates."""
    if not isinstance(guidance, list | tuple):
        return guidance
    if len(guidance) == 1:
        return guidance[0]
    if count < best_of:
        raise InputError(
            f"{len(guidance)} guidances for the best {count} of {best_of}: candidates are compared under one guidance; "
            "give a single one, and for one scale per step its text, such as '[8, 6, 4]'."
        )
    if len(guidance) != count:
        raise InputError(
            f"{len(guidance)} guidances for {count} images: a list holds one per image; give that many, or a single "
            "guidance for all, and for one scale per step its text, such as '[8, 6, 4]'."
        )
    return guidance


def _of_seeds(prompt: str, seeds: Sequence[int], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that makes an image of the prompt from each seed."""
    texts = {name: _repeated(name, value, len(seeds)) for name, value in arguments.items() if _TEXT.fullmatch(name)}
    return {"prompt": [prompt] * len(seeds), "generator": _generators(seeds), **arguments, **texts}


def _repeated(name: str, value: Any, count: int) -> Any:
    """One text for every image: some pipelines compare its type and its length with those of the prompt."""
    if value is None:
        return None
    text = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    if not isinstance(text, str):
        raise InputError(
            f"generate({name}={shown(value)}): generate makes images of one prompt, so it is one text; call it once "
            "for each prompt."
        )
    return [text] * count


def first_steps(pipe: Any, guidance: Any, early: int, arguments: Mapping[str, Any]) -> Trace:
    """Return the trace of the first steps of a call, which ends after them.

    Args:
        pipe: a diffusers pipeline with `callback_on_step_end`.
        guidance: as in `guide`.
        early: the number of steps.
        arguments: the arguments of the pipeline.

    Raises:
        InputError: if the pipeline has no such callback.
    """
    if "callback_on_step_end" not in inspect.signature(type(pipe).__call__).parameters:
        raise InputError(
            f"best_of with a {type(pipe).__name__}: it has no callback_on_step_end, so it cannot be ended after its "
            "first steps; leave best_of out."
        )

    def stop(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index + 1 >= early:
            raise _EnoughSteps
        return tensors

    with guide(pipe, guidance) as trace, suppress(_EnoughSteps):
        pipe(**arguments, callback_on_step_end=stop)
    return trace


def mean_differences(trace: Trace, early: Sequence[int], guidances: Sequence[Any]) -> list[float]:
    """Return the mean of |cond - uncond| of each image over the calls of its first steps.

    Args:
        trace: the trace of at least these steps.
        early: for each image the number of steps.
        guidances: for each image its guidance, for the error.

    Raises:
        InputError: if one of the two predictions was not run in these steps.
    """
    means = []
    for image, (steps, guidance) in enumerate(zip(early, guidances, strict=True)):
        records = [record for record in trace.steps if record.step.index < steps]
        values = [record.difference[image] for record in records]
        numbers = [float(value) for value in values if value is not None]
        if not numbers or len(numbers) < len(values):
            missing = next((record.step for record, value in zip(records, values, strict=True) if value is None), None)
            raise InputError(
                f"best_of with the guidance {str(guidance)!r}: candidates are compared by |cond - uncond| in the first "
                f"{steps} steps, and {_missing(guidance, missing)}."
            )
        means.append(sum(numbers) / len(numbers))
    return means


def _missing(guidance: Any, step: Step | None) -> str:
    """Why one of the two predictions was not run at a step, and what helps."""
    if step is None:
        return "no step was run; run one at least"
    if step.index:
        return (
            f"from step {step.index} on one of the two is left out; compare by the steps before it, early={step.index}"
        )
    spec = as_guidance(guidance)
    if isinstance(spec, Guidance):
        plan = spec.start().plan(step)
        full = [transform for transform in spec.transforms if transform.strength == 1]
        zero = [transform.kind for transform in full if transform.is_zero(step)]
        replacing = [transform.kind for transform in full if transform.supplies(step, {})]
        if plan.zero is not None and zero:
            return f"{zero[0]} runs neither at the first one; leave {zero[0]} out, or best_of"
        if not plan.on or plan.w in (0, 1):
            return f"at the first one w is {plan.w:g}, which needs one of the two; give a guidance that starts there"
        if replacing:
            return f"{replacing[0]} takes the place of one of the two; leave {replacing[0]} out, or best_of"
    return "this pipeline, so called, makes one prediction a step; leave best_of out"


def _generators(seeds: Sequence[int]) -> list[Any]:
    import torch

    return [torch.Generator().manual_seed(number) for number in seeds]
