"""Run an experiment: generate what its folder does not hold yet, score it, and read it again later.

The batch is the unit of sharing rows, of resuming and of reproducing. An interrupted run repeats the same batches and
ends with the same images; a finished run loads no model.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.backends.load import as_backend, load_model
from cfglab.experiments.execution.outcome import Batch, Executor, Load, Outcome, Workers, in_process
from cfglab.experiments.spec.batching import batches, first_pass
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import ModelFacts, is_mixture, model_facts
from cfglab.experiments.spec.prompts import refuse_same_noise
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.png import add_infotext
from cfglab.experiments.storage.session import Session
from cfglab.experiments.storage.store import DATABASE, INFOTEXT, Result, ResultRow, Store
from cfglab.file_input import given_path, read_bytes
from cfglab.limits import IMAGE_BYTES
from cfglab.progress import progress_bar
from cfglab.schedules.fields import shown
from cfglab.terminal import inline

if TYPE_CHECKING:
    from cfglab.experiments.analysis.compare import Comparison
    from cfglab.experiments.analysis.split_choice import SplitChoice

Placements = dict[str, list[tuple[int, Setting, int]]]
"""Cell id -> position in the experiment, setting and seed of each result that has this cell."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is, before its first batch and after each.

    Attributes:
        folder: the run folder.
        done: images that are there, and cells that failed.
        total: the cells of the run.
        first_pass: the value of `done` from which on every setting has an image.
    """

    folder: Path
    done: int
    total: int
    first_pass: int


@dataclass(frozen=True)
class Run:
    """A run folder with the counts of the last session.

    Attributes:
        folder: the run folder.
        drawn: images generated in the last session.
        failed: failed cells.
        refused: failed cells whose guidance the model cannot run; another attempt fails again.
    """

    folder: Path
    drawn: int = 0
    failed: int = 0
    refused: int = 0

    @cached_property
    def store(self) -> Store:
        """The store of the run, open for reading."""
        return Store.open(self.folder)

    def compare(self, metric: str, baseline: str | None = None, **options: Any) -> "Comparison":
        """Compare every setting with the baseline, paired by prompt and seed.

        Args:
            metric: a metric that was measured.
            baseline: the name of a setting; None is the baseline of the experiment.
            **options: as in `cfglab.experiments.analysis.compare.compare`.

        Returns:
            The Comparison.

        Raises:
            InputError: if the metric was not measured or there is no such setting.
        """
        from cfglab.experiments.analysis.compare import compare

        if baseline is not None and options.get("equal") == "dose":
            raise InputError(
                f"baseline {shown(baseline)} with equal dose: each setting stands against the constant scale of its "
                "dose, and no baseline is used; leave one of them out."
            )
        return compare(self.store, metric, baseline or self.store.experiment.baseline.name, **options)

    def best_on_split(self, metric: str, baseline: str | None = None, **options: Any) -> "SplitChoice":
        """Choose the best setting on one half of the prompts (or seeds) and compare it on the other half.

        Args:
            metric: a metric of images that was measured.
            baseline: the name of a setting; None is the baseline of the experiment.
            **options: as in `cfglab.experiments.analysis.split_choice.best_on_split`.

        Returns:
            The SplitChoice.

        Raises:
            InputError: if the metric was not measured or there is no such setting.
        """
        from cfglab.experiments.analysis.split_choice import best_on_split

        return best_on_split(self.store, metric, baseline or self.store.experiment.baseline.name, **options)

    def report(self, live: bool | None = None) -> Path:
        """Write report.html and return its path.

        Args:
            live: as in `cfglab.report.report`.

        Raises:
            MachineError: if the folder cannot be written.
        """
        layer_above = "cfglab.report"  # looked up by name on request; nothing here depends on it
        return Path(import_module(layer_above).report(self.folder, live=live))

    def save_images(self, path: Path | str, **options: Any) -> Path:
        """Write images of the run to one file: a contact sheet (.png) or an animation of a sweep (.gif, .webp).

        Args:
            path: the file.
            **options: `rows`, `columns`, `over`, `at`, `size` and `seconds`, as in `cfglab export`.

        Returns:
            The path.

        Raises:
            InputError: for another kind of file, or an axis or value that the run does not have.
            MachineError: if the file cannot be written.

        Examples:
            cfglab.Run("runs/k-decay").save_images("sheet.png", rows="seed", columns="k", at={"group": "k-decay"})
        """
        layer_above = "cfglab.report.saving"
        return Path(import_module(layer_above).save_images(self.folder, given_path(path), **options))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """A short report, for notebooks; it writes nothing."""
        from cfglab.notebook import bundle

        layer_above = "cfglab.report.figure"
        counts = f"{self.drawn:,} images generated, {self.failed:,} failed cells"
        return bundle(
            f"run in {inline(str(self.folder))}: {counts}",
            lambda: import_module(layer_above).draw(self.folder),
            include,
            exclude,
        )


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
    pipe: Any = None,
    load: Callable[[Experiment], Any] | None = None,
    executor: Executor = in_process,
    watch: Callable[[RunProgress], object] = lambda _: None,
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
        pipe: a diffusers pipeline in memory, of any class that `guide` knows, or its InMemoryBackend. It generates the
            images as it is: the run records the hash of its weights, and its name, scheduler and dtype in place of the
            model, sampler and dtype of the experiment. `device` and `executor` are not used.
        load: returns a diffusers pipeline or a Backend for the experiment; use it to share one model between runs.
        executor: runs the batches; by default in this process, else one of `cfglab.integrations`.
        watch: called with the progress before the first batch that is generated and after each.

    Returns:
        The Run; its `failed` counts both kinds of failed cells.

    Raises:
        InputError: if the model, sampler, size or a prompt is not valid, or the folder holds something else or has
            another writer.
        MachineError: if the folder or the disk cannot be written.
        KeyboardInterrupt: after Ctrl-C, or between batches if another process requested a stop (`cfglab show`).

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> experiment = Experiment.from_yaml('''
        ... name: example
        ... model: mixture:tree
        ... prompts: [class 0]
        ... sampler: euler
        ... steps: 4
        ... baseline: {name: constant, guidance: 3}
        ... ''')
        >>> with TemporaryDirectory() as folder:
        ...     done = run(experiment, folder, quiet=True)
        ...     with Store.open(folder) as store:
        ...         print(done.drawn, [result.status for result in store.results()])
        1 ['done']
    """
    folder = given_path(folder)
    if not isinstance(experiment, Experiment):
        raise InputError(
            f"experiment {shown(experiment)}: an Experiment is needed; write Experiment.preset('k-decay') or "
            "Experiment.from_yaml('experiment.yaml')."
        )
    hub: dict[str, Any] = {
        "revision": revision,
        "allow_pickle": allow_pickle,
        "allow_download": allow_download,
    }
    model: ModelFacts
    if pipe is None:
        model = model_facts(experiment.model, **hub)
    else:
        from cfglab.experiments.backends.in_memory import InMemoryBackend

        backend = pipe if isinstance(pipe, InMemoryBackend) else InMemoryBackend(pipe)
        model, experiment = backend.facts, backend.run_by(experiment)
        load, executor = lambda _: backend, in_process
    if device == "auto" and is_mixture(experiment.model):
        device = "cpu"  # of a cluster, too: an executor keeps its GPUs free
    experiment = _as_stored(folder, experiment)
    cells = experiment.cells(model)
    placements: Placements = {}
    for position, (setting, cell) in enumerate(cells):
        seed = experiment.seeds[position % len(experiment.seeds)]
        placements.setdefault(cell.id, []).append((position, setting, seed))
    loading: Load = (
        partial(load_model, experiment, hub=hub, weights=model.weights)
        if load is None
        else lambda _: as_backend(load(experiment))
    )
    with ExitStack() as worker_stack, ExitStack() as store_stack:

        def start_workers(work: Sequence[Batch]) -> Workers:
            return worker_stack.enter_context(executor(loading, device, len(work)))

        # A new run starts its workers first: an invalid model or prompt leaves no folder. An existing run takes the
        # lock first: with another writer no model is loaded.
        workers = None
        all_cells = [cell for _, cell in cells]
        begun = Store.check(folder, experiment)
        if not begun:
            refuse_same_noise(experiment.seeds)
            workers = start_workers(batches(all_cells, model.factor))
        store = store_stack.enter_context(Store.create(folder, experiment))
        session = store_stack.enter_context(Session(folder))
        plan = batches(all_cells, model.factor, store.meta("plan") or "1")  # the plan that the run was begun with
        intact = _intact(store, model)
        todo = [
            batch
            for batch in plan
            if any(position not in intact for cell in batch for position, *_ in placements[cell.id])
        ]
        workers = (workers or start_workers(todo)) if todo else None
        drawn = refused = 0
        try:
            if workers:
                store.set_meta("weights", model.weights)
                store.note_versions(workers.environment)
                total = len(placements)
                progress = RunProgress(folder, total - sum(map(len, todo)), total, first_pass(all_cells))
                drawn, refused = _draw_all(
                    store, workers, todo, placements, intact, score, quiet, progress, _noted(session, workers, watch)
                )
            worker_stack.close()
            if score:
                session.scoring()
                from cfglab.experiments.scoring.scorer import score as score_run

                score_run(store, quiet)
        except BaseException:
            with suppress(Exception):  # the error that stopped the run is raised, not one that follows from it
                store.write_csv()
            raise
        store.write_csv()
        failed = store.counts()["failed"]
    return Run(folder, drawn, failed, refused)


def _as_stored(folder: Path, experiment: Experiment) -> Experiment:
    """The experiment, with the noise of the run in the folder if the experiment states none."""
    if not (folder / DATABASE).is_file():
        return experiment
    with Store.open(folder) as store:
        return experiment.as_stored(store.experiment)


def _intact(store: Store, model: ModelFacts) -> set[int]:
    """Positions with nothing left to do: the image is as it was recorded, or the cell failed for good."""
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


def _noted(session: Session, workers: Workers, watch: Callable[[RunProgress], object]) -> Callable[[RunProgress], None]:
    """`watch`, after the session has noted the progress and before it stops if that was requested."""

    def noted(progress: RunProgress) -> None:
        session.update(progress.done, progress.total, workers.crew())
        watch(progress)
        session.obey()

    return noted


def _draw_all(
    store: Store,
    workers: Workers,
    todo: Sequence[Batch],
    placements: Placements,
    intact: Set[int],
    score: bool,
    quiet: bool,
    progress: RunProgress,
    watch: Callable[[RunProgress], object],
) -> tuple[int, int]:
    """Write the outcomes of the workers, batch after batch, scored if requested; returns the number of images, and of
    failed cells that the model refuses.

    A cell that fails while its batch is generated again does not remove an image that is intact.
    """
    from cfglab.experiments.scoring.scorer import Scorer

    drawn, refused, infotext = 0, 0, store.meta(INFOTEXT) is not None
    watch(progress)
    with ExitStack() as stack:
        scorer = stack.enter_context(Scorer(store)) if score else None
        advance = stack.enter_context(progress_bar(sum(map(len, todo)), quiet))
        for outcomes in workers.draw(todo):
            _check_baseline(store.experiment, outcomes, placements)
            written = [row for outcome in outcomes for row in _written(store.folder, outcome, placements, infotext)]
            rows = [row for row in written if row.result.image or row.result.position not in intact]
            try:
                scored_rows = scorer.scored(rows) if scorer else rows
            except MachineError:  # the images of the batch are kept
                store.record(rows)
                raise
            store.record(scored_rows)
            drawn += sum(row.result.status == "done" for row in rows)
            cells = {outcome.cell.id for outcome in outcomes if outcome.refused}
            refused += sum(row.result.cell in cells for row in rows)
            advance(len(outcomes))
            progress = replace(progress, done=progress.done + len(outcomes))
            watch(progress)
    return drawn, refused


def _check_baseline(experiment: Experiment, outcomes: Sequence[Outcome], placements: Placements) -> None:
    """Raise InputError if the model refuses the baseline: nothing can be compared then, and the fault is rarely in one
    guidance. Another setting that the model refuses (it names a layer of other networks) fails for itself."""
    for outcome in outcomes:
        if outcome.refused and any(setting == experiment.baseline for _, setting, _ in placements[outcome.cell.id]):
            raise InputError(str(outcome.error))


def _written(folder: Path, outcome: Outcome, placements: Placements, infotext: bool) -> Iterator[ResultRow]:
    """Write the image of an outcome, with infotext if the run has it, then yield one row for each setting."""
    cell, image, digest = outcome.cell, None, None
    if outcome.file is not None:
        file = add_infotext(outcome.file, cell, outcome.torch_seed) if infotext else outcome.file
        image, digest = f"images/{cell.id}.png", hashlib.sha256(file).hexdigest()
        write_whole(folder / image, file)
    for position, setting, seed in placements[cell.id]:
        result = Result(
            cell=cell.id,
            position=position,
            setting=setting.name,
            prompt=cell.prompt,
            seed=seed,
            torch_seed=outcome.torch_seed,
            status="done" if image else "failed",
            image=image,
            error=outcome.error,
            metrics=dict(outcome.metrics),
            rows_run=outcome.rows_run,
            rows_saved=outcome.rows_saved,
        )
        yield ResultRow(result=result, settled=outcome.settled, sha256=digest, trace=outcome.trace)
