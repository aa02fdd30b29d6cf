"""Batches drawn by Ray: each worker is an actor that loads the model once. The only file that imports ray.

A worker has as many threads as torch has in this process, and asks Ray for as many CPUs (or for one GPU): a sum in
float32 depends on the number of threads, so the same number everywhere gives the same bytes everywhere.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cfglab.errors import InputError, MachineError
from cfglab.experiments.outcome import Batch, Executor, Load, Outcome, Workers
from cfglab.hosts.ray_address import check_head, first_line
from cfglab.hosts.ray_worker import Worker

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise InputError("--ray needs Ray, which is not installed: pip install 'cfglab[ray]'.") from error

ATTEMPTS = 3  # a batch that has cost so many workers is recorded as failed
LOST = f"{ATTEMPTS} Ray workers were lost while they drew this batch, out of memory perhaps; Ray's logs say more"


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
                yield Workers(crew.wait(), crew.draw)
            finally:
                crew.dismiss()

    return executor


class _Crew:
    """The workers of one run, and what each of them is at."""

    def __init__(self, hire: Callable[[], Any], count: int) -> None:
        self._hire = hire
        self._hired: list[Any] = []
        self._idle: list[Any] = []
        self._jobs: dict[ray.ObjectRef[Any], tuple[Any, int | None]] = {}  # worker, batch; None: it loads the model
        self._about: dict[str, str] | None = None
        for _ in range(count):
            self._add()

    def wait(self) -> dict[str, str]:
        """Wait until the first worker has loaded the model; returns what its pixels depend on."""
        while self._about is None:
            self._next()
        return self._about

    def draw(self, batches: Sequence[Batch]) -> Iterator[list[Outcome]]:
        """The outcomes of every batch, as they come. A worker has its next batch before the last one is written."""
        waiting, lost = deque(range(len(batches))), Counter[int]()
        left = len(batches)
        self._give(batches, waiting)
        while left:
            number, outcomes = self._next()
            if number is not None and outcomes is None:
                self._add()
                lost[number] += 1
                if lost[number] < ATTEMPTS:
                    waiting.appendleft(number)
                else:
                    outcomes = [Outcome(cell, error=LOST, settled=False) for cell in batches[number]]
            self._give(batches, waiting)
            if number is not None and outcomes is not None:
                left -= 1
                yield outcomes

    def dismiss(self) -> None:
        for worker in self._hired:
            ray.kill(worker)

    def _add(self) -> None:
        worker = self._hire()
        self._hired.append(worker)
        self._jobs[worker.start.remote()] = worker, None

    def _give(self, batches: Sequence[Batch], waiting: deque[int]) -> None:
        while waiting and self._idle:
            worker, number = self._idle.pop(), waiting.popleft()
            self._jobs[worker.draw.remote(batches[number])] = worker, number

    def _next(self) -> tuple[int | None, Any]:
        """What is done next: the batch's number (None: a model was loaded) and its result, None if the worker is lost.

        One that is lost while it loads the model is not replaced: the next would fare no better.
        """
        if not self._jobs:
            raise MachineError(
                "every Ray worker was lost while it loaded the model, out of memory perhaps (Ray's logs say more); "
                "use fewer --workers, or larger nodes, and run it again."
            )
        (ref, *_), _ = ray.wait(list(self._jobs))
        worker, number = self._jobs.pop(ref)
        try:
            result: Any = ray.get(ref)
        except RayTaskError as error:
            raise error.cause from None
        except RayError:  # the worker, its node or the result it held
            ray.kill(worker)
            return number, None
        self._idle.append(worker)
        if number is None:
            self._compare(result)
        return number, result

    def _compare(self, found: dict[str, str]) -> None:
        self._about = self._about or found
        for name, value in found.items():
            if value != self._about.get(name):
                raise InputError(
                    f"Ray workers differ: {name} {self._about.get(name)} and {value}; pictures of one run are drawn "
                    "alike: install the same on every node."
                )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["_system_config"] = {"worker_niceness": 0}  # Ray's 15 is for workers beside something else
    elif address != "auto":
        check_head(address)
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
        wanted = " and ".join(f"{count} {kind}" for kind, count in needs.items())
        raise InputError(
            f"--ray {address}: no node has the {wanted} that a worker asks for; use --device cpu, or fewer threads "
            "(OMP_NUM_THREADS=1)."
        )
    return room
