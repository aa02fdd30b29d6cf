"""What the page says of a run folder: how far the run is, what is left, what failed. It writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cfglab.errors import CfglabError
from cfglab.experiments.storage.files import is_locked
from cfglab.experiments.storage.results import CellPlace
from cfglab.experiments.storage.session import SessionRecord, read_session, stop_requested
from cfglab.experiments.storage.store import DATABASE, Store
from cfglab.progress import duration
from cfglab.report.formatting import count

IMAGES = 24
"""The newest images that the page shows."""
FAILURES = 40
"""The failed cells that the page lists."""

State = Literal["waiting", "starting", "running", "stopping", "complete", "stopped", "failed", "gone", "damaged"]


@dataclass(frozen=True)
class Counts:
    """The cells of a run: with an image, failed, failed for good, and all."""

    done: int
    failed: int
    for_good: int
    total: int

    @property
    def open(self) -> int:
        """The cells that another session would try."""
        return self.total - self.done - self.for_good


@dataclass(frozen=True)
class RunState:
    """A run folder at one moment.

    Attributes:
        state: what the run does, or how it ended.
        sentence: the same for people.
        title: the title of the experiment.
        model: its model.
        counts: its cells; None if they cannot be read.
        seconds_left: the time left, None if it is not known.
        images: the newest images.
        failures: failed cells.
        session: the last session, if it noted itself.
        may_stop: whether a request to stop would be obeyed.
        may_continue: whether `cfglab run` has something left to do there.
    """

    state: State
    sentence: str
    title: str = ""
    model: str = ""
    counts: Counts | None = None
    seconds_left: float | None = None
    images: Sequence[CellPlace] = ()
    failures: Sequence[CellPlace] = ()
    session: SessionRecord | None = None
    may_stop: bool = False
    may_continue: bool = False

    def line(self) -> str:
        """The state in one line, for a terminal."""
        if self.counts is None:
            return self.sentence
        done = f"{self.counts.done + self.counts.failed} of {self.counts.total} images"
        failed = f", {self.counts.failed} failed" if self.counts.failed else ""
        return f"{done}{failed}: {self.sentence}"

    def as_json(self) -> dict[str, Any]:
        """The state for the page's script, which shows every text as text."""
        counts, session = self.counts, self.session
        return {
            "state": self.state,
            "sentence": self.sentence,
            "title": self.title,
            "model": self.model,
            "done": counts.done if counts else 0,
            "failed": counts.failed if counts else 0,
            "total": counts.total if counts else 0,
            "left": f"about {duration(self.seconds_left)} left" if self.seconds_left is not None else "",
            "images": [image.model_dump(exclude={"error"}) | {"seed": str(image.seed)} for image in self.images],
            "failures": [cell.model_dump(exclude={"image"}) | {"seed": str(cell.seed)} for cell in self.failures],
            "workers": [worker.model_dump() for worker in session.workers] if session else [],
            "may_stop": self.may_stop,
            "may_continue": self.may_continue,
        }


def read_state(folder: Path, now: float) -> RunState:
    """Read the state of a run folder.

    Args:
        folder: the run folder; it may be missing yet.
        now: the time, in seconds since 1970.
    """
    if not (folder / DATABASE).is_file():
        return RunState("waiting", "There is no run here yet; this page shows it once it begins.")
    try:
        with Store.open(folder) as store:
            experiment = store.experiment
            numbers = store.counts()
            total = len(experiment.settings) * len(experiment.prompts) * len(experiment.seeds)
            counts = Counts(numbers["done"], numbers["failed"], numbers["good"], total)
            images, failures = store.latest(IMAGES), store.failures(FAILURES)
    except CfglabError as error:
        return RunState("damaged", str(error))
    session = read_session(folder)
    state, sentence = _state(folder, session, counts, is_locked(folder), experiment.imported)
    return RunState(
        state,
        sentence,
        experiment.title or experiment.name,
        experiment.model,
        counts,
        session.seconds_left(now) if session and state in ("running", "stopping") else None,
        images,
        failures,
        session if state in ("running", "stopping") else None,
        may_stop=state == "running" and session is not None and not session.ended,
        may_continue=state not in ("running", "stopping")
        and not experiment.imported
        and not experiment.in_memory
        and (counts.open > 0 or state in ("stopped", "failed", "gone")),
    )


def _state(
    folder: Path, session: SessionRecord | None, counts: Counts, locked: bool, imported: bool
) -> tuple[State, str]:
    if locked and session is not None and not session.ended:
        if stop_requested(folder, session):
            return "stopping", "It stops after the batch that it generates now."
        return "running", {
            "loading": "The model is loading.",
            "generating": "It generates images.",
            "scoring": "All images are there; the metrics of sets are measured.",
        }[session.phase]
    if locked:
        return "running", "Another process is writing in this folder."
    if session is not None and session.phase == "failed":
        return "failed", f"It ended with an error: {session.error}"
    if session is not None and session.phase == "stopped":
        return "stopped", "It was stopped; it continues where it was."
    if session is not None and not session.ended:
        return "gone", f"Process {session.process} on {session.host} ended without a word; what it generated is here."
    if imported:
        return "complete", "These are imported images."
    if missing := counts.total - counts.done - counts.failed:
        return "stopped", f"{count(missing, 'image')} missing; it continues where it was."
    if counts.open:
        return "complete", f"{count(counts.open, 'failed image')} can be tried again."
    return "complete", "It is complete."
