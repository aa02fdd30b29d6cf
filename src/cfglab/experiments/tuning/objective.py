"""What one guidance of a search scores: chunk after chunk of the same prompts and seeds.

The images of a chunk are a run of their own, in a folder named by the guidance: no image is generated twice, and every
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
from cfglab.experiments.backends.load import load_model
from cfglab.experiments.execution.outcome import is_refusal
from cfglab.experiments.execution.run import run
from cfglab.experiments.scoring.metric_models import MetricModel, measure
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.search import TRIAL, Search
from cfglab.file_input import last_line
from cfglab.guidance import Guidance
from cfglab.metrics.registry import METRICS
from cfglab.schedules.fields import counted

Draw = Callable[[Experiment, Path], object]
WORSE = 0.1
"""A trial ends where it is worse than the best one with a p below this, two-sided, over the prompts so far."""


class SharedModel:
    """Run the experiments of a search with one model, which is loaded when the first image is needed.

    Args:
        search: the search.
        device: the device, such as "cpu" or "auto".
        revision: the revision of a model from the hub.
        allow_pickle: whether weights in pickle files are read.
        metric_models: metric models that score every image as well.
    """

    def __init__(
        self,
        search: Search,
        device: str,
        revision: str | None,
        allow_pickle: bool,
        metric_models: Sequence[MetricModel] = (),
    ) -> None:
        self.search, self.device, self.metric_models = search, device, metric_models
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
        count = len(experiment.settings) * len(experiment.prompts) * len(experiment.seeds)
        if self.metric_models and done.failed < count:
            with Store.create(folder, experiment) as store:
                for metric_model in self.metric_models:
                    measure(store, metric_model)


@dataclass(frozen=True)
class Measured:
    """The scores of the images of one guidance.

    Attributes:
        by_image: (prompt, seed) -> value, for a metric of images.
        values: the value of each metric over all images.
        rows: the denoiser rows that the images needed.
        why: why the images have no use: one is not finite.
        cut: whether the trial ended after a few images that were clearly worse than those of the best guidance.
            `values` is then the value of the best guidance plus the paired difference.
    """

    by_image: dict[Key, float]
    values: tuple[float, ...]
    rows: float
    why: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Objective:
    """Measure guidances on the images of a search.

    Attributes:
        search: the search.
        folder: the folder of the search; trials are in `folder/trials`.
        draw: a function that runs an experiment in a folder.
    """

    search: Search
    folder: Path
    draw: Draw
    _known: dict[tuple[Guidance, int], Measured] = field(default_factory=dict)

    def measure(self, guidance: Guidance, chunk: int) -> Measured:
        """Return the scores of one chunk of images.

        Args:
            guidance: the guidance.
            chunk: the index of the chunk in `search.chunks`.

        Raises:
            InputError: if the images do not have the metric.
            MachineError: if the model failed.
        """
        key = guidance, chunk
        if key not in self._known:
            name = hashlib.sha256(guidance.model_dump_json().encode()).hexdigest()[:16]
            run_folder = self.folder / "trials" / name / str(chunk + 1)
            plain = Setting(name=TRIAL, group="baseline", title=TRIAL, guidance=guidance)
            prompts = self.search.chunks[chunk]
            self.draw(self.search.part(f"tune-{chunk + 1}", [plain], prompts, self.search.base.seeds), run_folder)
            self._known[key] = read(run_folder, self.search.metrics)
        return self._known[key]

    def evaluate_with_early_stop(self, guidance: Guidance, best: tuple[Guidance, float] | None) -> Measured:
        """Return the scores of all chunks, or of as many as show that the best guidance so far is better.

        Args:
            guidance: the guidance.
            best: the best guidance so far with its value; None before there is one.
        """
        chunks, rows = len(self.search.chunks), 0.0
        metric = METRICS[self.search.metrics[0]]
        values: dict[Key, float] = {}
        best_values: dict[Key, float] = {}
        for chunk in range(chunks):
            part = self.measure(guidance, chunk)
            rows += part.rows
            if part.why or chunks == 1:
                return replace(part, rows=rows)
            values |= part.by_image
            if best is None or chunk == chunks - 1:
                continue
            best_values |= self.measure(best[0], chunk).by_image
            gain = paired(values, best_values, crossed=self.search.base.noise == "crossed")
            if gain.difference and gain.p is not None and gain.p < WORSE and metric.is_better(0.0, gain.difference):
                return Measured(values, (best[1] + gain.difference,), rows, cut=True)
        return Measured(values, (fmean(values.values()),), rows)


def refuse_unsettled(store: Store) -> None:
    """Check that no image of a run failed that another attempt may draw.

    Images of a guidance that the model refuses are not among them: another attempt ends the same way.

    Args:
        store: the run.

    Raises:
        MachineError: if there is such an image; nothing is said about half of a set.
    """
    failed = [row for row in store.rows() if row.result.status == "failed" and not row.settled]
    lost = [row.result for row in failed if not is_refusal(row.result.error)]
    if lost:
        raise MachineError(
            f"{store.folder}: the model failed in {counted(len(lost), 'image')} ({_last_line(lost[0].error)}); run it "
            "again to continue."
        )


def _last_line(error: str | None) -> str:
    return last_line(error or "") or "failed without a message"


def read(folder: Path, metrics: Sequence[str]) -> Measured:
    """Return the scores of the one setting of a run.

    Args:
        folder: the run folder.
        metrics: the names of the metrics.

    Raises:
        InputError: if the images do not have a metric.
        MachineError: if the model failed.
    """
    with Store.open(folder) as store:
        rows = store.rows()
        sets = store.set_metrics().get(TRIAL, {})
        refuse_unsettled(store)
    spent = sum(row.result.rows_run for row in rows)
    for row in rows:
        if row.result.status == "failed":
            return Measured({}, (), spent, _last_line(row.result.error))
    metric_values: list[float] = []
    by_image: dict[Key, float] = {}
    for metric in metrics:
        if METRICS[metric].of == "image":
            by_image = {
                (row.result.prompt, row.result.seed): row.result.metrics[metric]
                for row in rows
                if metric in row.result.metrics
            }
            measured = {name for row in rows for name in row.result.metrics}
            value = fmean(by_image.values()) if by_image else None
        else:
            measured = set(sets)
            value = sets[metric].value if metric in sets else None
        if value is None:
            raise InputError(
                f"metric '{metric}': these images do not have it, they have {join_names(measured)}; tune one of those."
            )
        metric_values.append(value)
    return Measured(by_image, tuple(metric_values), spent)
