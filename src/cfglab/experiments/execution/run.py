"""Run an experiment: draw what its folder does not hold yet, score it, and look at it again later.

The batch is the unit of everything: of sharing work, of resuming, and of drawing an image again. A run that was
interrupted repeats the same batches and ends with the same images; one that is finished loads no model.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.backends.mixture import Laboratory, is_mixture
from cfglab.experiments.execution.batching import batches
from cfglab.experiments.execution.outcome import Batch, Executor, Load, Outcome, Workers, in_process
from cfglab.experiments.execution.reproduce import reproduce as reproduce
from cfglab.experiments.spec.cell import ModelFacts, cells, model_facts
from cfglab.experiments.spec.experiment import Experiment, Setting
from cfglab.experiments.spec.prompts import refuse_same_noise
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.png import add_infotext
from cfglab.experiments.storage.store import DATABASE, INFOTEXT, Result, ResultRow, Store
from cfglab.file_input import read_bytes
from cfglab.limits import IMAGE_BYTES
from cfglab.progress import progress_bar

if TYPE_CHECKING:
    from cfglab.experiments.analysis.compare import Comparison
    from cfglab.experiments.analysis.split_choice import SplitChoice

Places = dict[str, list[tuple[int, Setting, int]]]  # cell id -> position in the experiment, setting, seed


@dataclass(frozen=True)
class Run:
    """A run folder with the counts of the last session.

    Attributes:
        folder: the run folder.
        drawn: images generated in the last session.
        failed: failed cells.
    """

    folder: Path
    drawn: int = 0
    failed: int = 0

    @cached_property
    def store(self) -> Store:
        """The store of the run, open for reading."""
        return Store.open(self.folder)

    def compare(self, metric: str, baseline: str | None = None, **options: Any) -> "Comparison":
        """Every setting against the baseline, paired by prompt and seed; see `analysis.compare.compare`."""
        from cfglab.experiments.analysis.compare import compare

        return compare(self.store, metric, baseline or self.store.experiment.baseline.name, **options)

    def best_on_split(self, metric: str, baseline: str | None = None, **options: Any) -> "SplitChoice":
        """The best setting of one half of the prompts (or seeds), judged on the other half; see `compare`."""
        from cfglab.experiments.analysis.split_choice import best_on_split

        return best_on_split(self.store, metric, baseline or self.store.experiment.baseline.name, **options)

    def report(self) -> Path:
        """Write report.html and return its path."""
        above = "cfglab.report"  # the layer above is looked up by name when it is asked for, never needed here
        return Path(import_module(above).report(self.folder))


def run(
    experiment: Experiment,
    folder: Path | str,
    device: str = "auto",
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    allow_download: bool = True,
    score: bool = True,
    quiet: bool = False,
    load: Callable[[Experiment], Any] | None = None,
    executor: Executor = in_process,
) -> Run:
    """Generate and score every cell of `experiment` that `folder` does not hold yet.

    If the model fails on a batch, the batch is split in halves until the failing cell is alone. That cell is recorded
    as failed with its traceback, and its batch is tried again in the next session. An image that is not finite stays
    failed. Images that were generated before an error are kept.

    Args:
        experiment: the experiment.
        folder: the run folder.
        device: a torch device, or "auto".
        revision: the revision of a hub model, as in `cfglab.load`.
        allow_pickle: accept pickled weights, as in `cfglab.load`.
        allow_download: allow the download of a hub model, as in `cfglab.load`.
        score: False generates images without scoring them.
        quiet: show no progress.
        load: returns the pipeline of an experiment; use it to share one model between runs.
        executor: runs the batches; by default in this process, else one of `cfglab.integrations`.

    Returns:
        The Run; its `failed` counts both kinds of failed cells.

    Raises:
        InputError: if the model, sampler, size or a prompt is not valid, or the folder holds something else or has
            another writer.
        MachineError: if the folder or the disk cannot be written.
    """
    folder = Path(folder)
    hub: dict[str, Any] = {
        "revision": revision,
        "allow_pickle": allow_pickle,
        "allow_download": allow_download,
    }
    model = model_facts(experiment.model, **hub)
    experiment = _as_stored(folder, experiment)
    planned = cells(experiment, model)
    places: Places = {}
    for position, (setting, cell) in enumerate(planned):
        seed = experiment.seeds[position % len(experiment.seeds)]
        places.setdefault(cell.id, []).append((position, setting, seed))
    plan = batches([cell for _, cell in planned], model.factor)

    loading: Load = (
        partial(load_model, experiment, hub=hub, weights=model.weights) if load is None else lambda _: load(experiment)
    )
    with ExitStack() as hired, ExitStack() as held:

        def hire(work: Sequence[Batch]) -> Workers:
            return hired.enter_context(executor(loading, device, len(work)))

        # a new run begins with its workers: a model or prompt that is refused leaves nothing; one that is there already
        # begins with the lock: beside another writer no model is loaded
        workers = None
        if not Store.check(folder, experiment):
            refuse_same_noise(experiment.seeds)
            workers = hire(plan)
        store = held.enter_context(Store.create(folder, experiment))
        intact = _intact(store, model)
        todo = [batch for batch in plan if any(at not in intact for cell in batch for at, *_ in places[cell.id])]
        workers = (workers or hire(todo)) if todo else None
        drawn = 0
        try:
            if workers:
                store.set_meta("weights", model.weights)
                store.note_versions(workers.environment)
                drawn = _draw_all(store, workers, todo, places, intact, score, quiet)
            hired.close()
            if score:
                from cfglab.experiments.scoring.scorer import score as score_run

                score_run(store, quiet)
        except BaseException:
            with suppress(Exception):  # what stopped the run is said, not what comes of it
                store.write_csv()
            raise
        store.write_csv()
        failed = store.counts()["failed"]
    return Run(folder, drawn, failed)


def _as_stored(folder: Path, experiment: Experiment) -> Experiment:
    """The experiment, with the noise of the run that the folder holds where it does not state its own."""
    if not (folder / DATABASE).is_file():
        return experiment
    with Store.open(folder) as store:
        return experiment.as_stored(store.experiment)


def load_model(experiment: Experiment, device: str, hub: dict[str, Any], weights: str | None = None) -> Any:
    """The pipeline, once every prompt was found to fit its text encoder; or the mixture. On another machine than the
    run's its weights may be others than `weights`: that is refused."""
    if weights and (here := model_facts(experiment.model, **hub).weights) != weights:
        raise InputError(
            f"{experiment.model}: has weights {here[:12]} on {platform.node()}, but {weights[:12]} where the run was "
            "started; bring the same model to every machine."
        )
    if is_mixture(experiment.model):
        return Laboratory.of(experiment)

    from cfglab.pipelines import check_prompt, load

    pipe = load(
        experiment.model,
        device=device,
        dtype=experiment.dtype,
        sampler=experiment.sampler,
        compiled=experiment.compile,
        **hub,
    )
    pipe.set_progress_bar_config(disable=True)
    for prompt in experiment.prompts:
        check_prompt(pipe, prompt)
    check_prompt(pipe, experiment.negative, "negative prompt")
    return pipe


def _intact(store: Store, model: ModelFacts) -> set[int]:
    """Positions with nothing left to do: their image lies there as it was recorded, or they failed for good."""
    weights = store.meta("weights") or model.weights
    if weights != model.weights:
        raise InputError(
            f"{store.folder}: was drawn with weights {weights[:12]}, but the model here has {model.weights[:12]}; "
            "choose another --out."
        )
    return {row.result.position for row in store.rows() if row.settled and _is_there(store.folder, row)}


def _is_there(folder: Path, row: ResultRow) -> bool:
    if row.result.image is None:
        return row.result.status == "failed"
    path = folder / row.result.image
    try:
        return path.is_file() and hashlib.sha256(read_bytes(path, IMAGE_BYTES)).hexdigest() == row.sha256
    except OSError:
        return False


def _draw_all(
    store: Store, workers: Workers, todo: Sequence[Batch], places: Places, intact: Set[int], score: bool, quiet: bool
) -> int:
    """Write what the workers draw, batch after batch, judged where that is wanted; returns the number of images made.

    What fails while its batch is drawn again takes nothing from an image that is there.
    """
    from cfglab.experiments.scoring.scorer import Scorer

    drawn, infotext = 0, store.meta(INFOTEXT) is not None
    with ExitStack() as held:
        scorer = held.enter_context(Scorer(store)) if score else None
        advance = held.enter_context(progress_bar(sum(map(len, todo)), quiet))
        for outcomes in workers.draw(todo):
            written = [row for outcome in outcomes for row in _written(store.folder, outcome, places, infotext)]
            rows = [row for row in written if row.result.image or row.result.position not in intact]
            try:
                judged = scorer.judged(rows) if scorer else rows
            except MachineError:  # what was drawn is kept
                store.record(rows)
                raise
            store.record(judged)
            drawn += sum(row.result.status == "done" for row in rows)
            advance(len(outcomes))
    return drawn


def _written(folder: Path, outcome: Outcome, places: Places, infotext: bool) -> Iterable[ResultRow]:
    """One row for each setting that asks for this cell, once its image is written, with infotext if the run has it."""
    cell, image, digest = outcome.cell, None, None
    if outcome.file is not None:
        file = add_infotext(outcome.file, cell) if infotext else outcome.file
        image, digest = f"images/{cell.id}.png", hashlib.sha256(file).hexdigest()
        write_whole(folder / image, file)
    for position, setting, seed in places[cell.id]:
        result = Result(
            cell=cell.id,
            position=position,
            setting=setting.name,
            prompt=cell.prompt,
            seed=seed,
            torch_seed=cell.seed,
            status="done" if image else "failed",
            image=image,
            error=outcome.error,
            metrics=dict(outcome.metrics),
            rows_run=outcome.rows_run,
            rows_saved=outcome.rows_saved,
        )
        yield ResultRow(result=result, settled=outcome.settled, sha256=digest, trace=outcome.trace)
