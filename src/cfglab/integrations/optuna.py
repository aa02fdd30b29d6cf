"""Optuna proposes the guidances of a search; what they score, and what that is worth, is cfglab's own.

Two studies in one file: constant scales, then the guidance with gaps, with the same images, trials and rules.
A trial is a pure function of the finished trials before it, so a search that was stopped goes on to the same ones.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.storage.files import only_writer, remove_temp_files, write_whole
from cfglab.experiments.tuning.objective import Draw, Objective, SharedModel
from cfglab.experiments.tuning.search import SEARCH, Search, as_stored, check_folder
from cfglab.experiments.tuning.search_space import Parameter, SearchSpace, Value
from cfglab.experiments.tuning.verdict import MeasuredPoint, Side, Tuned, evaluate_held_out, evenly_spaced
from cfglab.file_input import given_path
from cfglab.guidance import Guidance
from cfglab.integrations.metric_models import metric_models_of
from cfglab.metrics.registry import METRICS
from cfglab.progress import progress_bar
from cfglab.schedules.fields import counted

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

TRIALS = "trials.sqlite"


def tune(
    search: Search,
    folder: Path | str,
    device: str = "auto",
    *,
    trials: int = 40,
    rows: int | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = print,
    draw: Draw | None = None,
) -> Tuned:
    """Tune both texts of a search, evaluate the best of either on held-out images, and write `tuned.json`.

    Of a frontier that is `tuned-1.json`, … in the order of the first metric. `trials` are for each text, and no new one
    begins once half of `rows` (denoiser rows drawn for tuning) went into its text. More trials or rows than before go
    on where the folder stands. `draw` runs an experiment in a folder, in place of drawing with the search's model.

    Raises:
        InputError: Optuna is not installed, the folder holds another search or something else, no guidance of a text
            could be measured; whatever drawing raises.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("tuning needs Optuna, which is not installed; pip install 'cfglab[tune]'") from None
    if trials < 1:
        raise InputError(f"trials {trials}: at least one is needed; write 40.")
    if rows is not None and rows < 1:
        raise InputError(f"rows {rows}: at least one is needed; write 100000, or leave it out.")
    folder = given_path(folder)
    search = as_stored(folder, search)
    known = check_folder(folder, search)
    if draw is None:
        model_metrics = [metric for metric in search.metrics if METRICS[metric].model]
        draw = SharedModel(search, device, revision, allow_pickle, metric_models_of(model_metrics, device=device))
        if not known:
            draw.load(search.base)  # first, so that a model or prompt that is refused leaves nothing
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective = Objective(search, folder, draw)
    images = len(search.base.prompts) * len(search.base.seeds)
    with ExitStack() as held:
        held.enter_context(only_writer(folder))
        remove_temp_files(folder)
        write_whole(folder / SEARCH, (search.model_dump_json(indent=1) + "\n").encode())
        storage = held.enter_context(_storage(folder))
        sides = []
        with progress_bar(2 * trials * images, quiet) as advance:
            for name, text in search.texts.items():
                study = optuna.create_study(
                    study_name=name,
                    storage=storage,
                    load_if_exists=True,
                    directions=["maximize" if METRICS[it].sign > 0 else "minimize" for it in search.metrics],
                )
                _name_metrics(study, search.metrics)
                one = _Tuning(study, objective, SearchSpace.of(text, search.base.steps), name, advance, tell)
                one.run(trials, rows / 2 if rows else None)
                sides.append(one.side())
        tell(f"held out: {counted(len(search.held_prompts), 'prompt')} x {counted(len(search.held_seeds), 'seed')}")
        done = evaluate_held_out(search, sides[0], sides[1], folder, draw)
        places = written(folder, len(sides[1].points))
        for stale in folder.glob("tuned*.json"):  # of an earlier frontier, which had other points
            if re.fullmatch(r"tuned(-[0-9]+)?\.json", stale.name) and stale not in places:
                stale.unlink()
        for place, point in zip(places, sides[1].points, strict=True):
            write_whole(place, (point.guidance.model_dump_json(indent=1) + "\n").encode())
    return done


def written(folder: Path, points: int) -> list[Path]:
    """Where the tuned guidances lie: `tuned.json`, or a numbered file for each of a frontier."""
    return [folder / "tuned.json"] if points == 1 else [folder / f"tuned-{i + 1}.json" for i in range(points)]


class _Tuning:
    """The trials of one text."""

    def __init__(
        self,
        study: "Study",
        objective: Objective,
        space: SearchSpace,
        name: str,
        advance: Callable[[int], object],
        tell: Callable[[str], None],
    ) -> None:
        self.study, self.objective, self.space = study, objective, space
        self.name, self.advance, self.tell = name, advance, tell
        self.images = len(objective.search.base.prompts) * len(objective.search.base.seeds)

    def run(self, trials: int, rows: float | None) -> None:
        from optuna.trial import TrialState

        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # by a process that died
            self.study.tell(left.number, state=TrialState.FAIL)
        for number in range(trials):
            if number >= len(self._finished()):
                if rows is not None and self._rows() >= rows:
                    self.tell(f"{self.name}: half of the rows are spent after {number} of {trials} trials")
                    return
                self._try(number)
            self.advance(self.images)

    def _try(self, number: int) -> None:
        from optuna.trial import TrialState

        self.study.sampler = _sampler(self.objective.search.seed + number)
        trial = self.study.ask()
        values = {one.name: _suggest(trial, one) for one in self.space.parameters}
        try:
            guidance = self.space.guidance(values)
        except InputError as error:
            trial.set_user_attr("why", str(error))
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        trial.set_user_attr("guidance", str(guidance))
        best = self._best()
        found = self.objective.evaluate_with_early_stop(guidance, best)
        trial.set_user_attr("rows", found.rows)
        if found.why:
            trial.set_user_attr("why", found.why)
        if found.cut:
            trial.report(found.values[0], len(found.by_image))
        if found.why or found.cut:
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self.study.tell(trial, list(found.values))
        metric = self.objective.search.metrics[0]
        if len(found.values) == 1 and (best is None or METRICS[metric].is_better(found.values[0], best[1])):
            self.tell(f"{self.name}, trial {number + 1}: {metric} {found.values[0]:.4g} with {guidance}")

    def _finished(self) -> "list[FrozenTrial]":
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def _complete(self) -> "list[FrozenTrial]":
        return [one for one in self._finished() if one.values and one.state.name == "COMPLETE"]

    def _best(self) -> tuple[Guidance, float] | None:
        """The best of the trials that went to the end, the first of equals, where one metric is tuned."""
        if len(self.objective.search.metrics) > 1 or not (complete := self._complete()):
            return None
        sign = METRICS[self.objective.search.metrics[0]].sign
        best = max(complete, key=lambda one: sign * one.values[0])
        return _guidance(best), float(best.values[0])

    def _rows(self) -> float:
        """Rows of all trials; a guidance that came twice was drawn once."""
        rows = {one.user_attrs.get("guidance", ""): one.user_attrs.get("rows", 0.0) for one in self._finished()}
        return sum(rows.values())

    def side(self) -> Side:
        """What the trials ended with."""
        finished, complete = self._finished(), self._complete()
        refused = [one for one in finished if "why" in one.user_attrs]
        if not complete:
            why = refused[0].user_attrs["why"] if refused else "no trial began"
            raise InputError(
                f"'{self.space.text}': none of {len(finished)} trials could be measured ({why}); change its ranges."
            )
        if len(self.objective.search.metrics) == 1:
            guidance, value = self._best()  # type: ignore[misc]
            points = [MeasuredPoint(name=self.name, guidance=guidance, values=(value,))]
        else:
            front = {one.user_attrs["guidance"]: one for one in self.study.best_trials}
            ordered = sorted(front.values(), key=lambda one: one.values[0])
            points = evenly_spaced(
                [
                    MeasuredPoint(name=f"{self.name} {i + 1}", guidance=_guidance(one), values=tuple(one.values))
                    for i, one in enumerate(ordered)
                ]
            )
        return Side(
            text=self.space.text,
            full=len(complete),
            cut=len(finished) - len(complete) - len(refused),
            refused=len(refused),
            rows=self._rows(),
            points=tuple(points),
        )


@contextmanager
def _storage(folder: Path) -> Iterator[Any]:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    def refused(error: Exception) -> MachineError:
        said = str(error).splitlines()[0]
        return MachineError(
            f"{folder / TRIALS}: cannot be read or written ({said}); look after the file and the room on its disk, or "
            "choose another --out."
        )

    try:
        storage = RDBStorage(f"sqlite:///{folder / TRIALS}")
    except (SQLAlchemyError, RuntimeError) as error:
        raise refused(error) from None
    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        raise refused(error) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _name_metrics(study: "Study", metrics: Sequence[str]) -> None:
    """Give the values of a study their names, for optuna-dashboard and Optuna's own plots."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(metrics))


def _sampler(seed: int) -> Any:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True)


def _suggest(trial: "Trial", one: Parameter) -> Value:
    if one.choices:
        return str(trial.suggest_categorical(one.name, one.choices))
    if one.whole:
        return trial.suggest_int(one.name, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(one.name, one.low, one.high, log=one.log)


def _guidance(trial: "FrozenTrial") -> Guidance:
    return Guidance(trial.user_attrs["guidance"])
