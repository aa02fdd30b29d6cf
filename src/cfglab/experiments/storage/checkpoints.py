"""The run folders of a training's checkpoints: `step-00001500`, one beside the other. Loads no torch."""

import re
from pathlib import Path

from cfglab.experiments.storage.store import DATABASE, Store

_NAME = re.compile(r"step-(\d{8,})(?:-[0-9a-f]{8})?")


def checkpoint_folder(folder: Path, step: int, weights: str) -> Path:
    """Return the run folder of a step. If it holds a run of other weights, the name ends in the hash of these.

    Args:
        folder: the folder of all checkpoints.
        step: the training step.
        weights: the hash of the weights.
    """
    path = folder / f"step-{step:08}"
    if (path / DATABASE).is_file():
        with Store.open(path) as store:
            if store.meta("weights") not in (None, weights):
                return path.with_name(f"{path.name}-{weights[:8]}")
    return path


def checkpoint_folders(folder: Path) -> dict[int, Path]:
    """Return the run folder of each training step, in order; of two runs of one step the one that was written last.

    Args:
        folder: the folder of all checkpoints; it may be missing.

    Returns:
        Training step -> run folder.
    """
    found: list[tuple[int, int, Path]] = []
    for path in folder.glob("step-*"):
        database = path / DATABASE
        if (name := _NAME.fullmatch(path.name)) and database.is_file():
            found.append((int(name[1]), database.stat().st_mtime_ns, path))
    return {step: path for step, _, path in sorted(found)}
