"""What Ray costs: the same batches in this process and by one worker of a local Ray. `make bench`.

    python -m benchmarks.ray_overhead [--repeats 3]

Four prompts of the k sweep, 20 steps, on `scenes`: batches of 42 images. Ray's start and the loading of the model are
not counted, only drawing, sending and writing; both have the same number of threads.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cfglab
from benchmarks.turns import arguments, circumstances, in_turns, ratio
from cfglab.experiments import Experiment
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.execution.outcome import Executor, Workers, in_process
from cfglab.experiments.execution.run import run
from cfglab.integrations.ray.executor import on_ray


def kept(workers: Workers) -> Executor:
    """An executor whose workers are there already, and stay."""

    @contextmanager
    def executor(*_: object) -> Iterator[Workers]:
        yield workers

    return executor


def main() -> None:
    given = arguments(__doc__, repeats=3)
    one = Experiment.preset("k-decay", prompts=("scenes:4",), seeds="0", steps=20)

    def load(device: str) -> PipelineBackend:
        pipe = cfglab.load(one.model, device=device, dtype=one.dtype, sampler=one.sampler)
        pipe.set_progress_bar_config(disable=True)
        return PipelineBackend(pipe)

    said = circumstances(given.repeats)
    with ExitStack() as there, tempfile.TemporaryDirectory() as folder:

        def drawing(executor: Executor) -> Callable[[], None]:
            workers = there.enter_context(executor(load, "cpu", 1))

            def call() -> None:
                where = Path(folder) / str(time.monotonic_ns())
                done = run(one, where, "cpu", score=False, quiet=True, executor=kept(workers))
                assert done.failed == 0

            return call

        ways = {"in one process": drawing(in_process), "one Ray worker": drawing(on_ray("local", 1))}
        seconds = in_turns(ways, given.repeats)
    print(f"{len(one.prompts)} prompts x {len(one.settings)} schedules, {one.steps} steps; {said}")
    print(f"Ray over one process: {ratio(seconds, 'one Ray worker', 'in one process').replace('**', '')}")


if __name__ == "__main__":
    main()
