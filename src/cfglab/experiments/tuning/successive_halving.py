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
from cfglab.experiments.execution.run import run as run_experiment
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.results import Result
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.objective import refuse_unsettled
from cfglab.guidance import Guidance
from cfglab.metrics.registry import Better
from cfglab.schedules.fields import shown
from cfglab.step import steps

_COUNT = re.compile(r"\s*(?=0*[1-9])[0-9]{1,9}\s*")

PLAIN = ("baseline", "plain")
"""Groups that are one method: plain guidance, the baseline among its settings."""


class Rung(BaseModel):
    """One round: `prompts` with `seeds` new seeds each; `keep` settings of each group go on.

    Attributes:
        prompts: the number of prompts.
        seeds: the number of seeds that no earlier round had.
        keep: the number of settings of each group that go on.
    """

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
            if len(numbers) != 3 or not all(map(_COUNT.fullmatch, numbers)):
                raise InputError(
                    f"rung {shown(part)}: it is prompts x seeds : how many a group go on; write 32x1:3,64x8:1."
                )
            prompts, seeds, keep = map(int, numbers)
            rungs.append(cls(prompts=prompts, seeds=seeds, keep=keep))
        if rungs[-1].keep != 1:
            raise InputError(f"rungs {shown(text)}: the last one keeps one setting a group; write :1 at its end.")
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
    """Return the best setting of every group in the mean of one metric; round i is the run `folder/choose-i`.

    A setting of which an image failed is not chosen: its mean would be over other images than those of the rest.

    Args:
        experiment: the experiment; plain guidance is one group with the baseline.
        folder: the folder of the runs.
        rungs: the rounds, the last one with `keep` 1.
        by: a metric of images.
        better: the better direction.
        budget: the largest number of denoiser rows of all rounds.
        run: a function that runs an experiment in a folder; None is `cfglab.run`.
        tell: called with one line per round.

    Raises:
        InputError: if a round has more prompts than the experiment, the next one would exceed the budget (finished
            images are kept), or the images do not have the metric.
        MachineError: if the model failed in an image that another attempt may draw.
    """
    settings, spent, results_so_far = list(experiment.settings), 0.0, list[Result]()
    for number, rung in enumerate(rungs):
        part = _part(experiment, settings, rung, number, rungs)
        expected = rows_of(part)
        if spent + expected > budget:
            raise InputError(
                f"rung {number + 1} needs about {expected:,} rows, and {max(0, budget - round(spent)):,} of {budget:,} "
                "are left; give fewer prompts or seeds in --rungs, or a larger --rows."
            )
        run_folder = folder / f"choose-{number + 1}"
        tell(f"rung {number + 1}: {len(settings)} settings, {len(part.prompts)} x {len(part.seeds)} images each")
        (run or _run)(part, run_folder)
        with Store.open(run_folder) as store:
            refuse_unsettled(store)
            results = store.results()
        spent += sum(result.rows_run for result in results)
        results_so_far = [
            *(result for result in results_so_far if result.setting in {setting.name for setting in settings}),
            *results,
        ]
        settings = survivors(settings, means(without_failures(results_so_far), by), rung.keep, better)
    return {method(setting): setting for setting in settings}


def survivors(settings: Sequence[Setting], means: Mapping[str, float], keep: int, better: Better) -> list[Setting]:
    """Return the `keep` best settings of every group, in their order.

    Settings that tie with the last of them stay as well; where one is kept, the first of a tie stays.

    Args:
        settings: the settings.
        means: setting -> its mean; a setting without a mean is dropped.
        keep: the number of settings per group.
        better: the better direction.
    """
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        if setting.name in means:
            groups.setdefault(method(setting), []).append(setting)
    survivor_names: set[str] = set()
    for group in groups.values():
        ranked = sorted(group, key=lambda setting: rank(means[setting.name], better))
        worst = means[ranked[min(keep, len(ranked)) - 1].name]
        survivor_names |= {
            setting.name
            for rank_index, setting in enumerate(ranked)
            if rank_index < keep or (keep > 1 and means[setting.name] == worst)
        }
    return [setting for setting in settings if setting.name in survivor_names]


def without_failures(results: Sequence[Result]) -> list[Result]:
    """Return the results of the settings of which no image failed; only their means are over the same images.

    Args:
        results: the results.
    """
    failed = {result.setting for result in results if result.status == "failed"}
    return [result for result in results if result.setting not in failed]


def means(results: Sequence[Result], metric: str) -> dict[str, float]:
    """Return the mean of a metric over the images of each setting.

    Args:
        results: the results.
        metric: the name of the metric.

    Raises:
        InputError: if no image has the metric.
    """
    values: dict[str, list[float]] = {}
    for result in results:
        if metric in result.metrics:
            values.setdefault(result.setting, []).append(result.metrics[metric])
    names = sorted({name for result in results for name in result.metrics})
    if not names:
        raise InputError(
            f"no setting has {metric!r} of all its images: they failed or were not scored; look at their errors with "
            "cfglab report, and give other settings."
        )
    if not values:
        raise InputError(f"no image has {metric!r}: they have {', '.join(names)}; choose by one of those.")
    return {name: fmean(numbers) for name, numbers in values.items()}


def method(setting: Setting) -> str:
    """The group that a setting competes in."""
    return PLAIN[1] if setting.group in PLAIN else setting.group


def rows_of(experiment: Experiment) -> int:
    """Denoiser rows of all its images when none are shared; at most that for what follows the predictions."""
    images = len(experiment.prompts) * len(experiment.seeds)
    return images * sum(rows_per_image(setting.guidance, experiment.steps) for setting in experiment.settings)


def rows_per_image(guidance: Guidance, count: int, levels: Sequence[float] | None = None) -> int:
    """Return the denoiser rows of one image.

    Args:
        guidance: the guidance.
        count: the number of steps.
        levels: the noise levels of the run (sigma, one more than steps; see `stored_levels`). None estimates at those
            of Stable Diffusion.
    """
    guide = guidance.start("epsilon")
    return sum(guide.plan(step).evaluations for step in steps(count, levels or standard_sigmas(count)))


def reported(
    experiment: Experiment, chosen: Mapping[str, Setting], prompts: Sequence[str], seeds: Sequence[int]
) -> Experiment:
    """Return the experiment that reports the chosen settings on other prompts and seeds.

    Plain guidance at its own best scale is the baseline; all its other scales are there too, which shows whether the
    best one was chosen.

    Args:
        experiment: the experiment that was chosen from.
        chosen: group -> its best setting.
        prompts: the prompts to report on.
        seeds: the seeds to report on.
    """
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
    first = sum(earlier.seeds for earlier in rungs[:number])
    settings = [setting for setting in settings if setting != experiment.baseline]
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
    run_experiment(experiment, folder)
