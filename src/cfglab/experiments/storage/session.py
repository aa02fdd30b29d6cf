"""What a run notes of itself while it works, in `.session.json`, and the request to stop it, in `.stop`.

Another process reads how far the run is, how long it takes and which workers it has. A stop request names the session
that it is for, and the run looks for it between batches: nothing that was generated is lost, it reaches a run in
another container or on Windows, and a request that comes too late stops no later session.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import CfglabError, InputError
from cfglab.experiments.storage.files import SESSION, STOP, is_locked, write_whole
from cfglab.file_input import read_text
from cfglab.limits import SESSION_BYTES
from cfglab.terminal import one_line

EVERY = 1.0
"""Seconds between two notes of one phase."""
LETTERS = 500
"""Of the error that ended a session."""

Phase = Literal["loading", "generating", "scoring", "finished", "stopped", "failed"]


class WorkerState(BaseModel):
    """One worker of a run.

    Attributes:
        number: its number, from 1.
        node: the name of its machine; empty until it has loaded the model.
        state: what it does.
        images: the images that it has generated.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    node: str = ""
    state: Literal["loading", "working", "idle", "lost"]
    images: int = 0


class SessionRecord(BaseModel):
    """The last session of a run folder, as it noted it. Times are seconds since 1970.

    Attributes:
        id: a random text; a stop request repeats it.
        process: the process number of the writer.
        host: the machine of the writer.
        phase: what it does, or how it ended.
        began: when the first batch began.
        updated: when this was written.
        before: cells that were there when the first batch began.
        done: cells that are there, failed ones included.
        total: the cells of the run.
        workers: the workers on other processes; empty if the run generates by itself.
        error: what ended it, in one line.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    process: int
    host: str
    phase: Phase
    began: float
    updated: float
    before: int = 0
    done: int = 0
    total: int = 0
    workers: tuple[WorkerState, ...] = ()
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether the session said how it ended."""
        return self.phase in ("finished", "stopped", "failed")

    def seconds_left(self, now: float) -> float | None:
        """Return the time left at the rate of this session, None before its first batch is done.

        Args:
            now: the time, in seconds since 1970.
        """
        if self.phase != "generating" or self.done <= self.before:
            return None
        rate = (self.updated - self.began) / (self.done - self.before)
        return max(0.0, rate * (self.total - self.done) - max(0.0, now - self.updated))


class StopRequested(KeyboardInterrupt):
    """A stop was requested from another process: what Ctrl-C raises, between two batches."""


class Session:
    """The session of the only writer of a run folder: notes what it does and obeys a stop request.

    A note that cannot be written stops no run.

    Args:
        folder: the run folder.
        clock: returns seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        now = clock()
        self._record = SessionRecord(
            id=uuid4().hex, process=os.getpid(), host=platform.node(), phase="loading", began=now, updated=now
        )

    def __enter__(self) -> Self:
        self._forget_stop()
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._note(phase="finished")
        elif isinstance(error, KeyboardInterrupt):
            self._note(phase="stopped")
        else:
            text = str(error) if isinstance(error, CfglabError) else f"{type(error).__name__}: {error}"
            self._note(phase="failed", error=one_line(text)[:LETTERS])
        self._forget_stop()

    def update(self, done: int, total: int, workers: Sequence[WorkerState] = ()) -> None:
        """Note the progress; written at most once in `EVERY` seconds.

        Args:
            done: cells that are there, failed ones included.
            total: the cells of the run.
            workers: the workers on other processes.
        """
        now = self._clock()
        first = self._record.phase == "loading"
        changes = {"done": done, "total": total, "workers": tuple(workers)}
        if first:
            changes |= {"phase": "generating", "began": now, "before": done}
        if first or done == total or now - self._record.updated >= EVERY:
            self._note(**changes)

    def scoring(self) -> None:
        """Note that all images are generated and the metrics of sets are measured."""
        self._note(phase="scoring")

    def obey(self) -> None:
        """Raise StopRequested if a stop of this session was requested."""
        if stop_requested(self._folder, self._record):
            raise StopRequested

    def _note(self, **changes: object) -> None:
        self._record = self._record.model_copy(update={**changes, "updated": self._clock()})
        self._write()

    def _write(self) -> None:
        with suppress(CfglabError):
            write_whole(self._folder / SESSION, (self._record.model_dump_json() + "\n").encode())

    def _forget_stop(self) -> None:
        with suppress(OSError):
            (self._folder / STOP).unlink(missing_ok=True)


def read_session(folder: Path) -> SessionRecord | None:
    """Return the last session of a run folder; None for runs of older versions, and if its note cannot be read.

    Args:
        folder: the run folder.
    """
    try:
        return SessionRecord.model_validate_json(read_text(folder / SESSION, SESSION_BYTES))
    except (OSError, ValidationError):
        return None


def stop_requested(folder: Path, session: SessionRecord) -> bool:
    """Return whether a stop of this session was requested.

    Args:
        folder: the run folder.
        session: the session.
    """
    try:
        return read_text(folder / STOP, SESSION_BYTES).strip() == session.id
    except OSError:
        return False


def request_stop(folder: Path) -> None:
    """Request that the run in a folder stops after the batch that it generates, as Ctrl-C does at once.

    Args:
        folder: the run folder.

    Raises:
        InputError: no process is writing there, or one that looks for no request.
        MachineError: the folder cannot be written.
    """
    session = read_session(folder)
    if not is_locked(folder):
        raise InputError(f"{folder}: no process is writing there; there is nothing to stop.")
    if session is None or session.ended:
        raise InputError(
            f"{folder}: the process that is writing there looks for no request to stop; press Ctrl-C where it runs."
        )
    write_whole(folder / STOP, f"{session.id}\n".encode())
