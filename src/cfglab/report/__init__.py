"""A run as one page for people: `report(folder)` writes `report.html`. Loads no torch, and the rest when called."""

import hashlib
from pathlib import Path

__all__ = ["report"]

MOST = 5000
"""Images that one self-contained file is for; the page of a larger run reads them from files beside it."""

VERSION_FILE = "report.js"
"""A script that tells the version of the page beside it: a page on a disk may run scripts, but read no files."""
NO_VERSION = '<meta name="version" content="">'


def report(folder: Path | str, *, most: int = MOST, live: bool | None = None) -> Path:
    """Write `report.html`, `report.csv` and `report.json` into a run folder.

    Up to `most` images, the page is one self-contained file that requests nothing from the network; images beyond 40 MB
    are linked from `images/`. The page of a larger run loads images from `images/` and data from the folder `report/`;
    keep them together.

    Args:
        folder: a run folder, or a folder of checkpoints (`cfglab.validation`), whose page compares them.
        most: the largest number of images of a self-contained page.
        live: True while a run continues: the page looks for a newer one every few seconds, and offers it. False for
            its last page: pages that are open learn of it. None for any other page.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: if the folder holds no run, or `report/` holds other files.
        MachineError: if a file cannot be written.
    """
    from cfglab.experiments.storage.checkpoints import checkpoint_folders
    from cfglab.experiments.storage.files import write_whole
    from cfglab.experiments.storage.store import DATABASE, Store
    from cfglab.file_input import given_path
    from cfglab.report import exports
    from cfglab.report.page import paged_data as pages
    from cfglab.report.page.render import render
    from cfglab.report.summary.tables import build

    folder = given_path(folder)
    if not (folder / DATABASE).is_file() and (checkpoints := checkpoint_folders(folder)):
        from cfglab.report.training import render_training

        write_whole(folder / "report.html", render_training(folder, checkpoints).encode())
        return folder / "report.html"
    with Store.open(folder) as store:
        tables, traces = build(store), pages.Traces.of(store)
    large = sum(row.done for row in tables.rows) > most
    page = render(tables, folder, traces, large=large, live=bool(live))
    if large:
        pages.write(folder, tables.columns, traces, [metric.name for metric in tables.metrics])
    else:
        pages.remove(folder)
    write_whole(folder / "report.csv", exports.as_csv(tables).encode())
    write_whole(folder / "report.json", exports.as_json(tables).encode())
    path = folder / "report.html"
    version = hashlib.sha256(page.encode()).hexdigest()[:16]
    write_whole(path, page.replace(NO_VERSION, f'<meta name="version" content="{version}">', 1).encode())
    if live is not None or (folder / VERSION_FILE).is_file():
        write_whole(folder / VERSION_FILE, f'cfglab("version",0,"{version}")\n'.encode())
    return path
