"""Ways to load a model on a Ray worker, some of them fatal. Workers import this file."""

import os
import select
import signal
from pathlib import Path
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.backends.load import load_model
from cfglab.experiments.spec.experiment import Experiment


def noted(folder: Path, experiment: Experiment) -> Any:
    """The model; the process that has it leaves its number in `folder`."""
    backend = load_model(experiment, "cpu", {"revision": None, "allow_pickle": False})
    (folder / str(os.getpid())).touch()
    return backend


def mortal(folder: Path, lives: int, experiment: Experiment, at_most: int = 0) -> Any:
    """The model, on a worker that is killed when it draws a certain batch, as long as that has lives left; not where
    it has `at_most` so many cells."""
    backend = noted(folder, experiment)
    generate = type(backend).generate

    def killed(backend: Any, batch: Any) -> Any:
        deaths = len(list(folder.glob("death-*")))
        if (batch[0].prompt, batch[0].seed) == (experiment.prompts[0], 1) and deaths < lives and len(batch) > at_most:
            (folder / f"death-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return generate(backend, batch)

    type(backend).generate = killed
    return backend


def faulty(_: Experiment) -> Any:
    raise ZeroDivisionError("a fault\nin two lines")


def refused(_: Experiment) -> Any:
    raise InputError("the model is not on this node; copy it.")


def but_the_last(folder: Path, experiment: Experiment) -> Any:
    """The model, on the worker that asks first; the others wait for it to draw, and are refused."""
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        while not list(folder.glob("drew-*")):
            select.select([], [], [], 0.05)
        return refused(experiment)
    backend = load_model(experiment, "cpu", {"revision": None, "allow_pickle": False})
    generate = type(backend).generate

    def noted(backend: Any, batch: Any) -> Any:
        found = generate(backend, batch)
        (folder / f"drew-{os.getpid()}").touch()
        return found

    type(backend).generate = noted  # type: ignore[method-assign,assignment]
    return backend


def doomed(_: Experiment) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
