"""What one guidance of a search scores: chunk after chunk of the same prompts and seeds.

The pictures of a chunk are a run of their own, in a folder named by the guidance: nothing is drawn twice, and every
trial of a search is paired with every other one.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.pairs import listed
from cfglab.experiments.run import load_model, run
from cfglab.experiments.spec import Experiment, Setting
from cfglab.experiments.statistics import Key
from cfglab.experiments.store import Store
from cfglab.experiments.tuning import TRIAL, Search
from cfglab.guidance import Guidance
from cfglab.metrics.registry import METRICS

Draw = Callable[[Experiment, Path], object]


class OneModel:
    """Runs the experiments of a search; its model is loaded once, when the first picture is needed."""

    def __init__(self, search: Search, device: str, revision: str | None, allow_pickle: bool) -> None:
        self.search, self.device = search, device
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
        run(experiment, folder, self.device, **self.hub, quiet=True, load=self.load)


@dataclass(frozen=True)
class Measured:
    """What pictures of one guidance scored: `pictures` by prompt and seed for a metric of pictures, and each metric's
    value over them all; `rows` of the denoiser that they took, pictures that `failed`, and why."""

    pictures: dict[Key, float]
    values: tuple[float, ...]
    rows: float
    why: str = ""


@dataclass(frozen=True)
class Bench:
    """Measures guidances on the pictures of a search, in `folder/trials`. `draw` runs an experiment in a folder."""

    search: Search
    folder: Path
    draw: Draw
    _known: dict[tuple[Guidance, int], Measured] = field(default_factory=dict)

    def measure(self, guidance: Guidance, chunk: int) -> Measured:
        """One chunk of pictures. `why` says why they are no use: a picture that is not finite.

        Raises InputError where the pictures do not have the metric, and MachineError where the model failed.
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


def read(folder: Path, metrics: Sequence[str]) -> Measured:
    """The one setting of a run in these metrics; see `Bench.measure` for what is raised."""
    with Store.open(folder) as store:
        rows = store.rows()
        sets = store.set_metrics().get(TRIAL, {})
    failed = [row for row in rows if row.result.status == "failed"]
    spent = sum(row.result.rows_run for row in rows)
    for row in failed:
        said = (row.result.error or "").strip().splitlines()[-1]
        if not row.settled:
            raise MachineError(f"{folder}: the model failed ({said}); run it again to continue.")
        return Measured({}, (), spent, said)
    found: list[float] = []
    pictures: dict[Key, float] = {}
    for metric in metrics:
        if METRICS[metric].of == "picture":
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
                f"metric '{metric}': these pictures do not have it, they have {listed(there)}; tune one of those."
            )
        found.append(value)
    return Measured(pictures, tuple(found), spent)
