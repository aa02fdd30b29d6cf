"""Runs on a real Ray cluster of three nodes: the same bytes as in one process, whatever happens to the workers."""

import os
import platform
import select
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.run import Run
from cfglab.experiments.spec import batching as planning
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.session import read_session
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import stored_traces
from tests.experiments.examples import SMALL
from tests.integrations import loads
from tests.tiny import tiny_pipeline

# Ray itself: what it does to sockets, processes and files as it comes and goes
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*RAY_.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of three nodes with room for four workers."""
    # its own short folder (sockets have names of at most 107 letters), so that a cluster of this machine is left alone
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # a Cluster notes its address there, and expects it
        threads = torch.get_num_threads()
        node = {"object_store_memory": 100 * 1024**2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": threads, "temp_dir": folder, **node})
        try:
            cluster.add_node(num_cpus=threads, **node)
            cluster.add_node(num_cpus=2 * threads, **node)
            yield cluster.address
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Twelve images of a tiny model in four batches."""
    model = tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model", factor=4)
    return Experiment.from_yaml(SMALL, model=str(model))


@pytest.fixture(scope="module")
def mixture() -> Experiment:
    """Twelve images of a mixture in four batches: a worker has it in a moment, without diffusers."""
    return Experiment.from_yaml(SMALL, model="mixture:tree", prompts=["class 0", "class 1"], sampler="euler")


@pytest.fixture(autouse=True, scope="module")
def batches_of_three() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "largest", lambda *_: 3)
        yield


@pytest.fixture(scope="module")
def alone(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The experiment, drawn in this process."""
    return running.run(experiment, tmp_path_factory.mktemp("runs") / "alone", "cpu", score=False)


def on_ray(address: str, workers: int | None = None) -> Any:
    from cfglab.integrations.ray.executor import on_ray

    return on_ray(address, workers)


def kept(folder: Path) -> tuple[dict[str, bytes], list[Any]]:
    """Every image's bytes, and every row with its trace."""
    with Store.open(folder) as store:
        rows = store.rows(), sorted(stored_traces(store).items())
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}, list(rows)


def ended(process: int) -> bool:
    """Whether a process is gone, or is within half a minute."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


def processes(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def test_four_workers_one_of_them_killed_draw_the_same_bytes(address: str, mixture: Experiment, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    alone = running.run(mixture, tmp_path / "alone", "cpu", score=False)
    load = partial(loads.mortal, notes, 1)
    run = running.run(mixture, tmp_path / "run", "cpu", score=False, load=load, executor=on_ray(address))
    assert (run.drawn, run.failed) == (12, 0)
    assert kept(run.folder) == kept(alone.folder)
    assert (notes / "death-0").exists()
    session = read_session(run.folder)  # which `cfglab show` reads
    assert session is not None
    assert sum(worker.images for worker in session.workers) == 12
    assert [worker.number for worker in session.workers] == list(range(1, len(session.workers) + 1))
    assert [worker.state for worker in session.workers].count("lost") == 1
    assert {worker.node for worker in session.workers if worker.images} == {platform.node()}
    assert len(processes(notes)) >= 2
    assert all(map(ended, processes(notes)))
    assert (run.folder / "versions.json").read_bytes() == (alone.folder / "versions.json").read_bytes()


def test_one_worker_stopped_by_ctrl_c_keeps_what_was_drawn_and_goes_on(
    address: str, experiment: Experiment, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, write = tmp_path / "notes", running.write_whole  # type: ignore[attr-defined]
    notes.mkdir()

    def interrupted(path: Path, content: bytes) -> None:
        if len(list(path.parent.iterdir())) == 7:
            signal.raise_signal(signal.SIGINT)
        write(path, content)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, also where tests run in the background
    with monkeypatch.context() as patch:
        patch.setattr(running, "write_whole", interrupted)
        load = partial(loads.noted, notes)
        with pytest.raises(KeyboardInterrupt):
            running.run(experiment, tmp_path / "run", score=False, load=load, executor=on_ray(address, workers=1))
    assert len(processes(notes)) == 1
    assert all(map(ended, processes(notes)))
    with Store.open(tmp_path / "run") as store:
        assert len(store.results()) == 6
    again = running.run(experiment, tmp_path / "run", score=False, executor=on_ray(address, workers=1))
    assert (again.drawn, again.failed) == (6, 0)
    assert kept(again.folder) == kept(alone.folder)


def test_a_batch_that_kills_every_worker_fails_and_the_others_are_drawn(
    address: str, mixture: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfglab.integrations.ray.executor.ATTEMPTS", 1)  # the next test has them all
    notes = tmp_path / "notes"
    notes.mkdir()
    load = partial(loads.mortal, notes, 100)
    run = running.run(mixture, tmp_path / "run", "cpu", score=False, load=load, executor=on_ray(address, workers=1))
    assert (run.drawn, run.failed) == (9, 3)
    assert len(list(notes.glob("death-*"))) == 1 + 1 + 1 + 1 + 1  # three images; two, one and one; one
    errors = {str(it.error) for it in run.store.results() if it.status == "failed"}
    assert errors == {"Ray workers were lost whenever they drew this image, out of memory perhaps; Ray's logs say more"}


def test_a_batch_that_is_too_large_for_any_worker_is_drawn_in_halves(
    address: str, mixture: Experiment, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    load = partial(loads.mortal, notes, 100, at_most=2)
    run = running.run(mixture, tmp_path / "run", "cpu", score=False, load=load, executor=on_ray(address, workers=1))
    assert (run.drawn, run.failed) == (12, 0)
    assert len(list(notes.glob("death-*"))) == 3


def test_a_node_without_the_model_is_left_out(
    address: str, mixture: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    load = partial(loads.but_the_last, notes)
    run = running.run(mixture, tmp_path / "run", "cpu", score=False, load=load, executor=on_ray(address, workers=2))
    assert (run.drawn, run.failed) == (12, 0)
    said = [it.getMessage() for it in caplog.records if it.name == "cfglab"]
    assert [it for it in said if not it.startswith("no Ray worker is ready yet")] == [  # which a busy machine may say
        "the run goes on without one of the Ray workers: the model is not on this node; copy it"
    ]


@pytest.mark.parametrize(
    ("load", "error", "words"),
    [
        (loads.faulty, MachineError, "could not load the model: ZeroDivisionError: a fault; look after that node."),
        (loads.refused, InputError, "the model is not on this node; copy it."),
        (loads.doomed, MachineError, "every Ray worker was lost while it loaded the model, out of memory perhaps"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line_and_leaves_nothing(
    address: str, mixture: Experiment, tmp_path: Path, load: Any, error: type[CfglabError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        running.run(mixture, tmp_path / "run", load=load, executor=on_ray(address, workers=1))
    assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_cluster_cannot_give_is_one_line(address: str, experiment: Experiment, tmp_path: Path) -> None:
    for device, words in (("mps", "device 'mps': Ray hands out"), ("cuda", "no node has the 1 CPU and 1 GPU that a")):
        with pytest.raises(InputError, match=words):
            running.run(experiment, tmp_path / "run", device, executor=on_ray(address))
    assert list(tmp_path.iterdir()) == []
