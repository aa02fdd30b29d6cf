"""What runs on a Ray worker. It knows nothing of Ray."""

import os
import platform
from pathlib import Path

from cfglab.errors import CfglabError, MachineError
from cfglab.experiments.execution.outcome import Batch, Load, Outcome, describe_environment, generate_batch


class Worker:
    """An actor that loads a model and generates batches.

    `cwd` is where the command runs, for models in relative folders.
    """

    def __init__(self, load: Load, device: str, threads: int, cwd: str) -> None:
        self._load, self._device, self._threads, self._cwd = load, device, threads, cwd

    def start(self) -> tuple[str, dict[str, str]]:
        """Load the model; returns the name of the machine, and what pixels depend on besides the cell."""
        import torch

        torch.set_num_threads(self._threads)
        if Path(self._cwd).is_dir():
            os.chdir(self._cwd)
        try:
            self._backend = self._load(self._device)
        except CfglabError:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            raise MachineError(
                f"a Ray worker on {platform.node()} could not load the model: {words}; look after that node."
            ) from error
        return platform.node(), describe_environment(self._backend)

    def draw(self, batch: Batch) -> list[Outcome]:
        return generate_batch(self._backend, batch)
