"""A run as one page for people: `report(folder)` writes `report.html`. Loads no torch, and the rest when called."""

from pathlib import Path

__all__ = ["report"]


def report(folder: Path | str) -> Path:
    """Write `report.html` into a run folder and return its path.

    One self-contained file: pictures and curves are inside, nothing is requested from anywhere. Pictures beyond 40 MB
    are linked from `images/` beside it. Raises InputError where the folder holds no run, MachineError where the file
    cannot be written.
    """
    from cfglab.experiments.files import write_whole
    from cfglab.experiments.store import Store
    from cfglab.report.html import render

    path = Path(folder) / "report.html"
    with Store.open(Path(folder)) as store:
        page = render(store, Path(folder))
    write_whole(path, page.encode())
    return path
