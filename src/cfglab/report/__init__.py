"""A run as one page for people: `report(folder)` writes `report.html`. Loads no torch, and the rest when called."""

from pathlib import Path

__all__ = ["report"]

MOST = 5000
"""Images that one self-contained file is for; the page of a larger run reads them from files beside it."""


def report(folder: Path | str, *, most: int = MOST) -> Path:
    """Write `report.html` into a run folder and return its path; beside it `report.csv` and `report.json`.

    Up to `most` images it is one self-contained file: images, curves and traces are inside, and nothing is
    requested from anywhere; images beyond 40 MB are linked from `images/` beside it. The page of a larger run loads
    what is looked at from `images/` and from pages in a folder `report/`; keep them together. Raises InputError where
    the folder holds no run (or other files in `report/`), MachineError where files cannot be written.
    """
    from cfglab.experiments.storage.files import write_whole
    from cfglab.experiments.storage.store import Store
    from cfglab.report import exports
    from cfglab.report.page import paged_data as pages
    from cfglab.report.page.render import render
    from cfglab.report.summary.tables import build

    folder = Path(folder)
    with Store.open(folder) as store:
        tables, traces = build(store), pages.Traces.of(store)
    large = sum(row.done for row in tables.rows) > most
    page = render(tables, folder, traces, large=large)
    if large:
        pages.write(folder, tables.columns, traces, [metric.name for metric in tables.metrics])
    else:
        pages.remove(folder)
    write_whole(folder / "report.csv", exports.as_csv(tables).encode())
    write_whole(folder / "report.json", exports.as_json(tables).encode())
    path = folder / "report.html"
    write_whole(path, page.encode())
    return path
