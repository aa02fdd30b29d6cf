"""Run an experiment: draw what its folder does not hold yet, score it, and look at it again later.

The batch is the unit of everything: of sharing work, of resuming, and of drawing a picture again. A run that was
interrupted repeats the same batches and ends with the same pictures; one that is finished loads no model.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.cell import Cell, ModelFacts, cells, model_facts
from cfglab.experiments.files import write_whole
from cfglab.experiments.picture import encode, to_bytes
from cfglab.experiments.pieces import draw_in_pieces
from cfglab.experiments.plan import batches
from cfglab.experiments.progress import progress_bar
from cfglab.experiments.reproduce import reproduce as reproduce
from cfglab.experiments.spec import Experiment, Setting
from cfglab.experiments.store import Result, Row, Store
from cfglab.experiments.versions import versions
from cfglab.metrics.pictures import clipped_share, contrast, saturation

if TYPE_CHECKING:
    from cfglab.experiments.choose import SplitChoice
    from cfglab.experiments.compare import Comparison
    from cfglab.experiments.draw import Drawn

NOT_FINITE = "the picture has values that are not finite (NaN or infinity); try dtype float32 or a smaller scale"
Places = dict[str, list[tuple[int, Setting]]]  # cell id -> position in the experiment, setting


@dataclass(frozen=True)
class Run:
    """A run folder and what the last session did there."""

    folder: Path
    drawn: int = 0
    failed: int = 0

    @cached_property
    def store(self) -> Store:
        """The folder, open for reading."""
        return Store.open(self.folder)

    def compare(self, metric: str, baseline: str | None = None, **options: Any) -> "Comparison":
        """Every setting against the baseline, paired by prompt and seed; see `cfglab.experiments.compare.compare`."""
        from cfglab.experiments.compare import compare

        return compare(self.store, metric, baseline or self.store.experiment.baseline.name, **options)

    def best_on_split(self, metric: str, baseline: str | None = None, **options: Any) -> "SplitChoice":
        """The best setting of one half of the prompts (or seeds), judged on the other half; see `compare`."""
        from cfglab.experiments.choose import best_on_split

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
    score: bool = True,
    quiet: bool = False,
    load: Callable[[Experiment], Any] | None = None,
) -> Run:
    """Draw and score every cell of `experiment` that `folder` does not hold yet.

    A batch in which the model fails is drawn in halves, down to the cell that fails alone: it is recorded as failed,
    with the traceback, and its batch is tried again next time. A picture that is not finite stays failed. `Run.failed`
    counts both. `revision` and `allow_pickle` are about hub models, see `cfglab.load`; without `score` pictures are
    only drawn. `load` gives the pipeline in place of loading one, for many runs of one model.

    Raises InputError for a model, sampler, size or prompt that cannot be drawn, for a folder that holds something else
    or has another writer, and MachineError for a folder or disk that cannot be written. What was drawn is kept.
    """
    folder = Path(folder)
    hub: dict[str, Any] = {"revision": revision, "allow_pickle": allow_pickle}
    load = load or (lambda it: _load(it, device, hub))
    model = model_facts(experiment.model, **hub)
    planned = cells(experiment, model)
    places: Places = {}
    for position, (setting, cell) in enumerate(planned):
        places.setdefault(cell.id, []).append((position, setting))
    plan = batches([cell for _, cell in planned], model.factor)

    pipe: Any = None
    if not Store.check(folder, experiment) or _unsettled(folder, plan, model, places):
        pipe = load(experiment)  # first, so that a model or prompt that is refused leaves nothing
    with Store.create(folder, experiment) as store:
        todo = _unsettled(folder, plan, model, places)
        if todo and pipe is None:
            pipe = load(experiment)
        try:
            drawn = _draw_all(store, pipe, todo, places, model, quiet) if todo else 0
            if score:
                from cfglab.experiments.scoring import score as score_run

                score_run(store)
        finally:
            store.write_csv()
        failed = sum(result.status == "failed" for result in store.results())
    return Run(folder, drawn, failed)


def _load(experiment: Experiment, device: str, hub: dict[str, Any]) -> Any:
    """The pipeline, once every prompt was found to fit its text encoder."""
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


def _unsettled(
    folder: Path, plan: Sequence[tuple[Cell, ...]], model: ModelFacts, places: Places
) -> list[tuple[Cell, ...]]:
    """The batches that still have to be drawn: not recorded, failed for a passing reason, or with a damaged picture."""
    with Store.open(folder) as store:
        weights = store.meta("weights") or model.weights
        rows = {row.result.position: row for row in store.rows()}
    if weights != model.weights:
        raise InputError(
            f"{folder}: was drawn with weights {weights[:12]}, but the model here has {model.weights[:12]}; "
            "choose another --out."
        )
    intact = {position for position, row in rows.items() if row.settled and _intact(folder, row)}
    return [batch for batch in plan if any(position not in intact for cell in batch for position, _ in places[cell.id])]


def _intact(folder: Path, row: Row) -> bool:
    if row.result.image is None:
        return True
    try:
        return hashlib.sha256((folder / row.result.image).read_bytes()).hexdigest() == row.sha256
    except OSError:
        return False


def _draw_all(
    store: Store,
    pipe: Any,
    todo: Sequence[tuple[Cell, ...]],
    places: Places,
    model: ModelFacts,
    quiet: bool,
) -> int:
    """Draw batch after batch; returns the number of pictures made."""
    seen = versions()
    store.set_meta("weights", model.weights)
    store.note_versions({**seen, "device": str(pipe.device)})
    drawn = 0
    with progress_bar(sum(map(len, todo)), quiet) as advance:
        for batch in todo:
            rows = _draw_batch(store.folder, pipe, batch, places, seen)
            store.record(rows)
            drawn += sum(row.result.status == "done" for row in rows)
            advance(len(batch))
    return drawn


def _draw_batch(folder: Path, pipe: Any, batch: Sequence[Cell], places: Places, seen: dict[str, str]) -> list[Row]:
    rows: list[Row] = []
    for piece, drawn in draw_in_pieces(pipe, batch):
        if isinstance(drawn, str):
            rows += [row for cell in piece for row in _failed(cell, places, drawn, settled=False)]
        else:
            rows += _kept(folder, piece, drawn, places, seen)
    return rows


def _kept(folder: Path, batch: Sequence[Cell], drawn: "Drawn", places: Places, seen: dict[str, str]) -> list[Row]:
    """The rows of pictures that were drawn together, once their files are written."""
    finite = np.isfinite(drawn.pixels).all(axis=(1, 2, 3))
    files = encode(to_bytes(np.nan_to_num(drawn.pixels)), batch, seen)
    metrics = _pixel_metrics(drawn.pixels[finite])
    rows: list[Row] = []
    for cell, good, file, trace in zip(batch, finite, files, drawn.traces, strict=True):
        if not good:
            rows += _failed(cell, places, NOT_FINITE, settled=True)
            continue
        image = f"images/{cell.id}.png"
        write_whole(folder / image, file)
        done: dict[str, Any] = {"status": "done", "image": image, "metrics": next(metrics)}
        done |= {"rows_run": drawn.rows_run / len(batch), "rows_saved": drawn.rows_saved / len(batch)}
        digest = hashlib.sha256(file).hexdigest()
        done_rows = _results(cell, places, **done)
        rows += [Row(result=result, settled=True, sha256=digest, trace=trace) for result in done_rows]
    return rows


def _failed(cell: Cell, places: Places, error: str, *, settled: bool) -> list[Row]:
    return [Row(result=it, settled=settled) for it in _results(cell, places, status="failed", error=error)]


def _results(cell: Cell, places: Places, **fields: Any) -> list[Result]:
    """One result for each setting that asks for this cell."""
    return [
        Result(cell=cell.id, position=position, setting=setting.name, prompt=cell.prompt, seed=cell.seed, **fields)
        for position, setting in places[cell.id]
    ]


def _pixel_metrics(pixels: np.ndarray) -> Iterator[dict[str, float]]:
    """Metrics of each picture of `(n, 3, h, w)`, measured before clamping."""
    if not len(pixels):
        return iter(())
    named = {"saturation": saturation, "clipped_share": clipped_share, "contrast": contrast}
    columns = {name: measure(pixels).tolist() for name, measure in named.items()}
    return iter([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])
