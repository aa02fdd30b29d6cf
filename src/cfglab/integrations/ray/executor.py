"""Batches drawn by Ray: each worker is an actor that loads the model once. The only file that imports ray.

A worker has as many threads as torch has in this process, and asks Ray for as many CPUs (or for one GPU): a sum in
float32 depends on the number of threads, so the same number everywhere gives the same bytes everywhere.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.execution.outcome import LOST, Batch, Executor, Load, Outcome, Workers
from cfglab.experiments.storage.session import WorkerState
from cfglab.integrations.ray.address import check_head, first_line
from cfglab.integrations.ray.worker import Worker

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise InputError("--ray needs Ray, which is not installed: pip install 'cfglab[ray]'.") from error

ATTEMPTS = 3  # a batch that has cost so many workers is drawn in halves, and each piece that costs another, again
PATIENCE = 30.0  # seconds without a worker, after which that is said
_LOG = logging.getLogger("cfglab")


def on_ray(address: str, workers: int | None = None) -> Executor:
    """The executor that spreads batches over Ray workers: as many as the cluster has room for, or `workers`.

    `address` is `local` (a cluster of this machine that ends with the run), `auto` (the one that this machine belongs
    to) or `host:port`. Entering it raises InputError where the address, the device or the cluster cannot be used, and
    MachineError where Ray cannot be started or every worker is lost. A worker that is lost later is replaced, and its
    batch is drawn again.
    """

    @contextmanager
    def executor(load: Load, device: str, most: int) -> Iterator[Workers]:
        import torch

        with _connected(address):
            device = _device(device)
            threads = torch.get_num_threads() if device == "cpu" else 1
            room = _room(address, {"CPU": threads} if device == "cpu" else {"CPU": threads, "GPU": 1})
            options: dict[str, Any] = {
                "num_cpus": threads,
                "num_gpus": int(device == "cuda"),
                "scheduling_strategy": "SPREAD",
            }
            actor = ray.remote(Worker).options(**options)
            crew = _Crew(lambda: actor.remote(load, device, threads, str(Path.cwd())), min(workers or room, most))
            try:
                yield Workers(crew.wait(), crew.draw, crew.states)
            finally:
                crew.dismiss()

    return executor


@dataclass(frozen=True)
class _Piece:
    """A batch by its number, or a part of one, and how many workers may still be lost over it."""

    number: int
    cells: Batch
    lives: int

    def after_a_loss(self) -> "list[_Piece]":
        """What to draw instead; nothing, where a single image has used its lives up."""
        if self.lives > 1:
            return [replace(self, lives=self.lives - 1)]
        if len(self.cells) == 1:
            return []
        half = (len(self.cells) + 1) // 2
        return [replace(self, cells=cells, lives=1) for cells in (self.cells[:half], self.cells[half:])]


class _Crew:
    """The workers of one run, and what each of them is at."""

    def __init__(self, hire: Callable[[], Any], count: int) -> None:
        self._hire = hire
        self._hired: list[Any] = []
        self._states: dict[int, WorkerState] = {}  # by the id of the worker, which `_hired` keeps alive
        self._idle: list[Any] = []
        self._jobs: dict[ray.ObjectRef[Any], tuple[Any, _Piece | None]] = {}  # worker, piece; None: it loads the model
        self._about: dict[str, str] | None = None
        self._refused: list[Exception] = []  # why workers could not load the model
        for _ in range(count):
            self._add()

    def wait(self) -> dict[str, str]:
        """Wait until the first worker has loaded the model; returns what its pixels depend on."""
        if not ray.wait(list(self._jobs), timeout=PATIENCE)[0]:
            _LOG.warning("no Ray worker is ready yet: the cluster is busy, or the model is still loading; waiting")
        while self._about is None:
            self._next()
        for cause in self._refused:
            _say_left_out(cause)
        return self._about

    def draw(self, batches: Sequence[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of every batch, as they come. A worker has its next batch before the last one is written."""
        waiting = deque(_Piece(number, batch, ATTEMPTS) for number, batch in enumerate(batches))
        finished: list[list[Outcome]] = [[] for _ in batches]
        remaining = len(batches)
        self._give(waiting)
        while remaining:
            piece, outcomes = self._next()
            if piece is not None and outcomes is None:
                self._add()
                waiting.extendleft(reversed(again := piece.after_a_loss()))
                outcomes = [] if again else [Outcome(cell, error=LOST, settled=False) for cell in piece.cells]
            self._give(waiting)
            if piece is None:
                continue
            finished[piece.number] += outcomes
            if len(finished[piece.number]) == len(batches[piece.number]):
                remaining -= 1
                outcomes_of_batch, finished[piece.number] = finished[piece.number], []
                yield outcomes_of_batch

    def dismiss(self) -> None:
        for worker in self._hired:
            ray.kill(worker)

    def states(self) -> list[WorkerState]:
        """What each worker does, also those that were lost."""
        return list(self._states.values())

    def _note(self, worker: Any, images: int = 0, **changes: Any) -> None:
        before = self._states[id(worker)]
        self._states[id(worker)] = before.model_copy(update={**changes, "images": before.images + images})

    def _add(self) -> None:
        worker = self._hire()
        self._hired.append(worker)
        self._states[id(worker)] = WorkerState(number=len(self._hired), state="loading")
        self._jobs[worker.start.remote()] = worker, None

    def _give(self, waiting: deque[_Piece]) -> None:
        while waiting and self._idle:
            worker, piece = self._idle.pop(), waiting.popleft()
            self._note(worker, state="working")
            self._jobs[worker.draw.remote(piece.cells)] = worker, piece

    def _next(self) -> tuple[_Piece | None, Any]:
        """What is done next: the piece (None: a model was loaded) and its outcomes, None if the worker is lost.

        One that is lost while it loads the model is not replaced, and one that cannot load it, or has other versions,
        is let go of: the next would fare no better. Where no worker had the model before, that ends the run.
        """
        if not self._jobs and self._refused:
            raise self._refused[0] from None
        if not self._jobs:
            raise MachineError(
                "every Ray worker was lost while it loaded the model, out of memory perhaps (Ray's logs say more); "
                "use fewer --workers, or larger nodes, and run it again."
            )
        (ref, *_), _ = ray.wait(list(self._jobs))
        worker, piece = self._jobs.pop(ref)
        try:
            result: Any = ray.get(ref)
            if piece is None:
                node, facts = result
                self._note(worker, node=node)
                self._compare(facts)
        except (RayTaskError, InputError) as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if piece is not None:
                raise cause from None
            if self._about is not None:
                _say_left_out(cause)
            self._refused.append(cause)
            self._note(worker, state="lost")
            ray.kill(worker)
            return None, None
        except RayError:  # the worker, its node or the result it held
            self._note(worker, state="lost")
            ray.kill(worker)
            return piece, None
        self._note(worker, len(piece.cells) if piece else 0, state="idle")
        self._idle.append(worker)
        return piece, result

    def _compare(self, facts: dict[str, str]) -> None:
        """Raises InputError for a worker that would draw otherwise than the first one."""
        self._about = self._about or facts
        for name, value in facts.items():
            if value != self._about.get(name):
                raise InputError(
                    f"it has {name} {value}, the first one {self._about.get(name)}, and images of one run are drawn "
                    "alike; install the same on every node."
                )


def _say_left_out(cause: Exception) -> None:
    _LOG.warning("the run goes on without one of the Ray workers: %s", first_line(cause))


@contextmanager
def _connected(address: str) -> Iterator[None]:
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["_system_config"] = {"worker_niceness": 0}  # Ray's 15 is for workers beside something else
    elif address != "auto":
        check_head(address)
    elif head := _cluster():
        check_head(head, f"auto ({head})")
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        hint = "no Ray runs on this machine; `ray start --head` starts one" if address == "auto" else first_line(error)
        raise InputError(f"--ray {address}: {hint}, or use --ray local.") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise MachineError(f"--ray {address}: Ray could not be used ({first_line(error)}); see docs/ray.md.") from error
    try:
        yield
    finally:
        ray.shutdown()


def _cluster() -> str | None:
    """The host:port that `auto` means to Ray; None where it knows of none, or where only Ray can look at it."""
    try:
        from ray._private.services import get_ray_address_from_environment

        address = str(get_ray_address_from_environment("auto", None))
    except (ImportError, TypeError, ConnectionError, ValueError):
        return None
    return address if re.fullmatch(r"[^/]+:\d+", address) else None


def _device(name: str) -> str:
    """cpu or cuda; auto is cuda where the cluster has any."""
    if name == "auto":
        return "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}: Ray hands out CPUs and whole GPUs; use auto, cpu or cuda.")
    return name


def _room(address: str, needs: dict[str, int]) -> int:
    """How many workers that need so much the nodes of the cluster have room for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(min(int(node.get(kind, 0) // count) for kind, count in needs.items()) for node in nodes)
    if not room:
        needed = " and ".join(f"{count} {kind}" for kind, count in needs.items())
        raise InputError(
            f"--ray {address}: no node has the {needed} that a worker asks for; use --device cpu, or fewer threads "
            "(OMP_NUM_THREADS=1)."
        )
    return room
