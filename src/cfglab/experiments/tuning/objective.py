"""What one guidance of a search scores: chunk after chunk of the same prompts and seeds.

The images of a chunk are a run of their own, in a folder named by the guidance: nothing is drawn twice, and every
trial of a search is paired with every other one.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.analysis.paired import Key, paired
from cfglab.experiments.analysis.pairs import join_names
from cfglab.experiments.execution.run import load_model, run
from cfglab.experiments.scoring.external_judges import Judge, measure
from cfglab.experiments.spec.experiment import Experiment, Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.search import TRIAL, Search
from cfglab.file_input import last_line
from cfglab.guidance import Guidance
from cfglab.metrics.registry import METRICS

Draw = Callable[[Experiment, Path], object]
WORSE = 0.1
"""A trial ends where it is worse than the best one with a p below this, two-sided, over the prompts drawn so far."""


class OneModel:
    """Runs the experiments of a search; its model is loaded once, when the first image is needed. `judges` look at
    the images as well."""

    def __init__(
        self, search: Search, device: str, revision: str | None, allow_pickle: bool, judges: Sequence[Judge] = ()
    ) -> None:
        self.search, self.device, self.judges = search, device, judges
        self.hub: dict[str, Any] = {"revision": revision, "allow_pickle": allow_pickle}
        self._pipe: Any = None

    def load(self, _: Experiment) -> Any:
        """The pipeline, once all prompts of the search were found to fit its text encoder."""
        if self._pipe is None:
            base = self.search.base
            everything = base.model_copy(update={"prompts": (*base.prompts, *self.search.held_prompts)})
            self._pipe = load_model(everything, self.device, self.hub)
        return self._pipe

    def __call__(self, experiment: Experiment, folder: Path) -> None:
        done = run(experiment, folder, self.device, **self.hub, quiet=True, load=self.load)
        asked = len(experiment.settings) * len(experiment.prompts) * len(experiment.seeds)
        if self.judges and done.failed < asked:
            with Store.create(folder, experiment) as store:
                for judge in self.judges:
                    measure(store, judge)


@dataclass(frozen=True)
class Measured:
    """What images of one guidance scored: `pictures` by prompt and seed for a metric of images, each metric's value
    over them all, and the denoiser's `rows` that they took.

    `why` says why they are no use: one is not finite. `cut` is after a few images that were clearly worse than the
    best guidance's; `values` is then what the rest would have made of it, as far as one can tell: the best one's value
    and the paired difference.
    """

    pictures: dict[Key, float]
    values: tuple[float, ...]
    rows: float
    why: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Bench:
    """Measures guidances on the images of a search, in `folder/trials`. `draw` runs an experiment in a folder."""

    search: Search
    folder: Path
    draw: Draw
    _known: dict[tuple[Guidance, int], Measured] = field(default_factory=dict)

    def measure(self, guidance: Guidance, chunk: int) -> Measured:
        """One chunk of images.

        Raises InputError where the images do not have the metric, and MachineError where the model failed.
        """
        key = guidance, chunk
        if key not in self._known:
            name = hashlib.sha256(guidance.model_dump_json().encode()).hexdigest()[:16]
            place = self.folder / "trials" / name / str(chunk + 1)
            plain = Setting(name=TRIAL, group="baseline", title=TRIAL, guidance=guidance)
            prompts = self.search.chunks[chunk]
            self.draw(self.search.part(f"tune-{chunk + 1}", [plain], prompts, self.search.base.seeds), place)
            self._known[key] = read(place, self.search.metrics)
        return self._known[key]

    def contest(self, guidance: Guidance, best: tuple[Guidance, float] | None) -> Measured:
        """All chunks, or as many as show that the best guidance so far, given with its value, is better."""
        chunks, rows = len(self.search.chunks), 0.0
        metric = METRICS[self.search.metrics[0]]
        mine: dict[Key, float] = {}
        other: dict[Key, float] = {}
        for chunk in range(chunks):
            part = self.measure(guidance, chunk)
            rows += part.rows
            if part.why or chunks == 1:
                return replace(part, rows=rows)
            mine |= part.pictures
            if best is None or chunk == chunks - 1:
                continue
            other |= self.measure(best[0], chunk).pictures
            gap = paired(mine, other, crossed=self.search.base.noise == "crossed")
            if gap.difference and gap.p is not None and gap.p < WORSE and metric.is_better(0.0, gap.difference):
                return Measured(mine, (best[1] + gap.difference,), rows, cut=True)
        return Measured(mine, (fmean(mine.values()),), rows)


def refuse_unsettled(store: Store) -> None:
    """Raise MachineError for images that another attempt may draw: nothing is said about half of a set."""
    lost = [row.result for row in store.rows() if row.result.status == "failed" and not row.settled]
    if lost:
        raise MachineError(
            f"{store.folder}: the model failed in {len(lost)} images ({_last_line(lost[0].error)}); run it again to "
            "continue."
        )


def _last_line(error: str | None) -> str:
    return last_line(error or "") or "failed without a message"


def read(folder: Path, metrics: Sequence[str]) -> Measured:
    """The one setting of a run in these metrics; see `Bench.measure` for what is raised."""
    with Store.open(folder) as store:
        rows = store.rows()
        sets = store.set_metrics().get(TRIAL, {})
        refuse_unsettled(store)
    spent = sum(row.result.rows_run for row in rows)
    for row in rows:
        if row.result.status == "failed":
            return Measured({}, (), spent, _last_line(row.result.error))
    found: list[float] = []
    pictures: dict[Key, float] = {}
    for metric in metrics:
        if METRICS[metric].of == "image":
            pictures = {
                (row.result.prompt, row.result.seed): row.result.metrics[metric]
                for row in rows
                if metric in row.result.metrics
            }
            there = {name for row in rows for name in row.result.metrics}
            value = fmean(pictures.values()) if pictures else None
        else:
            there = set(sets)
            value = sets[metric].value if metric in sets else None
        if value is None:
            raise InputError(
                f"metric '{metric}': these images do not have it, they have {join_names(there)}; tune one of those."
            )
        found.append(value)
    return Measured(pictures, tuple(found), spent)
