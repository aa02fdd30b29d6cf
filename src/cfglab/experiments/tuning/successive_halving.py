"""Successive halving: every group's best setting, found on few images first, within a budget of denoiser rows.

The images of a rung are a run of their own, so it resumes, and each rung draws seeds that no earlier one had: what
survives is ranked by all of its images. The same settings, prompts and seeds choose the same survivors.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from cfglab.errors import InputError
from cfglab.experiments.analysis.pairs import rank
from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.spec.experiment import Experiment, Setting
from cfglab.experiments.storage.results import Result
from cfglab.experiments.storage.store import Store
from cfglab.guidance import Guidance
from cfglab.metrics.registry import Better
from cfglab.step import steps

PLAIN = ("baseline", "plain")
"""Groups that are one method: plain guidance, the baseline among its settings."""


class Rung(BaseModel):
    """So many prompts with so many new seeds; `keep` settings of each group go on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: int
    seeds: int
    keep: int

    @classmethod
    def read(cls, text: str) -> tuple[Self, ...]:
        """Rungs as text: `32x1:3,64x2:2,64x8:1` is 32 prompts with a seed, of which three settings a group go on, and
        so on; the last one keeps one. Raises InputError."""
        rungs = []
        for part in text.split(","):
            numbers = part.replace(":", "x").split("x")
            if len(numbers) != 3 or not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,8}\s*", number) for number in numbers):
                raise InputError(f"rung {part!r}: it is prompts x seeds : how many a group go on; write 32x1:3,64x8:1.")
            prompts, seeds, keep = map(int, numbers)
            rungs.append(cls(prompts=prompts, seeds=seeds, keep=keep))
        if rungs[-1].keep != 1:
            raise InputError(f"rungs {text!r}: the last one keeps one setting a group; write :1 at its end.")
        return tuple(rungs)


def choose(
    experiment: Experiment,
    folder: Path,
    rungs: Sequence[Rung],
    *,
    by: str = "alignment",
    better: Better = "higher",
    budget: int = 5_000_000,
    run: Callable[[Experiment, Path], Any] | None = None,
    tell: Callable[[str], None] = print,
) -> dict[str, Setting]:
    """Group -> its best setting in the mean of `by`, a metric of images; plain guidance is one group with the
    baseline. Rung i is the run `folder/choose-i`.

    Raises InputError where a rung has more prompts than the experiment, where the next one would exceed the budget of
    rows (what was drawn is kept), and for a metric that the images do not have.
    """
    left, spent, seen = list(experiment.settings), 0.0, list[Result]()
    for number, rung in enumerate(rungs):
        part = _part(experiment, left, rung, number, rungs)
        expected = rows_of(part)
        if spent + expected > budget:
            raise InputError(
                f"rung {number + 1} needs about {expected:,} rows, and {max(0, budget - round(spent)):,} of {budget:,} "
                "are left; give fewer prompts or seeds in --rungs, or a larger --rows."
            )
        place = folder / f"choose-{number + 1}"
        tell(f"rung {number + 1}: {len(left)} settings, {len(part.prompts)} x {len(part.seeds)} images each")
        (run or _run)(part, place)
        with Store.open(place) as store:
            results = store.results()
        spent += sum(result.rows_run for result in results)
        seen = [*(one for one in seen if one.setting in {setting.name for setting in left}), *results]
        left = survivors(left, means(seen, by), rung.keep, better)
    return {method(setting): setting for setting in left}


def survivors(settings: Sequence[Setting], means: Mapping[str, float], keep: int, better: Better) -> list[Setting]:
    """The `keep` best settings of every group, in their order, and those that tie with the last of them; where one is
    kept, the first of a tie. A setting without a mean goes out."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        if setting.name in means:
            groups.setdefault(method(setting), []).append(setting)
    kept: set[str] = set()
    for group in groups.values():
        ranked = sorted(group, key=lambda one: rank(means[one.name], better))
        worst = means[ranked[min(keep, len(ranked)) - 1].name]
        kept |= {
            one.name for place, one in enumerate(ranked) if place < keep or (keep > 1 and means[one.name] == worst)
        }
    return [setting for setting in settings if setting.name in kept]


def means(results: Sequence[Result], metric: str) -> dict[str, float]:
    """Setting -> mean of a metric over its images. Raises InputError where no image has it."""
    values: dict[str, list[float]] = {}
    for result in results:
        if metric in result.metrics:
            values.setdefault(result.setting, []).append(result.metrics[metric])
    if not values:
        known = sorted({name for result in results for name in result.metrics})
        raise InputError(
            f"no image has {metric!r}: they have {', '.join(known) or 'no metrics'}; choose by one of those."
        )
    return {name: fmean(numbers) for name, numbers in values.items()}


def method(setting: Setting) -> str:
    """The group that a setting competes in."""
    return PLAIN[1] if setting.group in PLAIN else setting.group


def rows_of(experiment: Experiment) -> int:
    """Denoiser rows of all its images when none are shared; at most that for what follows the predictions."""
    pictures = len(experiment.prompts) * len(experiment.seeds)
    return pictures * sum(rows_a_picture(setting.guidance, experiment.steps) for setting in experiment.settings)


def rows_a_picture(guidance: Guidance, count: int, levels: Sequence[float] | None = None) -> int:
    """Rows of one image in so many steps.

    `levels` are the noise levels of the run itself (sigma, one more than steps), see `stored_levels`. Before a run,
    when none are known, the number is an estimate at those of Stable Diffusion.
    """
    guide = guidance.start("epsilon")
    return sum(guide.plan(step).evaluations for step in steps(count, levels or standard_sigmas(count)))


def reported(
    experiment: Experiment, chosen: Mapping[str, Setting], prompts: Sequence[str], seeds: Sequence[int]
) -> Experiment:
    """The chosen settings on other prompts and seeds: plain guidance at its own best as the baseline, and at all its
    other scales, so that it can be seen whether the best one was chosen."""
    plain = chosen.get(PLAIN[1], experiment.baseline).model_copy(update={"group": PLAIN[0]})
    methods = [setting for group, setting in chosen.items() if group != PLAIN[1]]
    scales = [
        setting.model_copy(update={"group": PLAIN[1]})
        for setting in experiment.settings
        if method(setting) == PLAIN[1] and setting.name != plain.name
    ]
    return _with(
        experiment,
        name=f"{experiment.name}-report",
        prompts=tuple(prompts),
        seeds=tuple(seeds),
        baseline=plain,
        settings=(plain, *methods, *scales),
    )


def _part(
    experiment: Experiment, settings: Sequence[Setting], rung: Rung, number: int, rungs: Sequence[Rung]
) -> Experiment:
    if rung.prompts > len(experiment.prompts):
        raise InputError(
            f"rung {number + 1} asks for {rung.prompts} prompts, and {experiment.name} has {len(experiment.prompts)}; "
            "give fewer, or an experiment with more."
        )
    first = sum(one.seeds for one in rungs[:number])
    settings = [one for one in settings if one != experiment.baseline]
    return _with(
        experiment,
        name=f"{experiment.name}-choose-{number + 1}",
        prompts=experiment.prompts[: rung.prompts],
        seeds=tuple(range(first, first + rung.seeds)),
        settings=(experiment.baseline, *settings),
    )


def _with(experiment: Experiment, **fields: Any) -> Experiment:
    """The same experiment with other fields, checked again; a noise that it does not state stays unstated."""
    stated = [name for name in Experiment.model_fields if name != "noise" or name in experiment.model_fields_set]
    return Experiment(**{**{name: getattr(experiment, name) for name in stated}, **fields})


def _run(experiment: Experiment, folder: Path) -> None:
    experiment.run(folder)
