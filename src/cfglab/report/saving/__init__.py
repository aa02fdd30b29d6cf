"""Parts of a run as files for papers and slides: tables and figures of a comparison, contact sheets, animations."""

from pathlib import Path
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.analysis.comparison import Comparison
from cfglab.experiments.storage.files import check_target, write_whole
from cfglab.experiments.storage.store import Store

TABLES = (".csv", ".tex")
FIGURES = (".pdf", ".svg", ".png")
ANIMATIONS = (".gif", ".webp")


def save_comparison(comparison: Comparison, path: Path, width: float | None = None) -> Path:
    """Write a comparison to a file, as `Comparison.save` describes.

    Args:
        comparison: the comparison.
        path: a file that ends in one of TABLES or FIGURES.
        width: the width of a figure in inches; None is that of many papers.

    Returns:
        The path.

    Raises:
        InputError: for another kind of file, a width that is not between 1 and 40, or a folder that is missing.
        MachineError: if the file cannot be written.
    """
    from cfglab.report.saving import comparison_plot
    from cfglab.report.saving.comparison_table import as_csv, as_latex

    kind = path.suffix.lower()
    if kind not in TABLES + FIGURES:
        raise InputError(f"{path}: a comparison is saved as {', '.join(TABLES + FIGURES)}; name the file so.")
    if width is not None and kind in TABLES:
        raise InputError(f"{path} with width {width:g}: a width is of a figure, {', '.join(FIGURES)}; leave it out.")
    if width is not None and not 1 <= width <= 40:
        raise InputError(f"width {width:g}: inches, from 1 to 40; write 5.5.")
    check_target(path)
    if kind in TABLES:
        content = (as_csv if kind == ".csv" else as_latex)(comparison).encode()
    else:
        content = comparison_plot.draw(comparison, kind[1:], comparison_plot.WIDTH if width is None else width)
    write_whole(path, content)
    return path


def save_images(folder: Path, path: Path, **options: Any) -> Path:
    """Write images of a run to a file, as `Run.save_images` describes.

    Args:
        folder: the run folder.
        path: a file that ends in .png (a contact sheet), .gif or .webp (an animation).
        **options: `rows`, `columns`, `over`, `at`, `size` and `seconds`.

    Returns:
        The path.

    Raises:
        InputError: for another kind of file, an axis or value that the run does not have, or too many images.
        MachineError: if the file cannot be written.
    """
    from cfglab.report.saving.contact_sheet import animation, sheet

    kind = path.suffix.lower()
    if kind in TABLES + FIGURES and kind != ".png":
        raise InputError(
            f"{path}: tables and figures are of a comparison; use cfglab compare {folder} --out {path.name}."
        )
    if kind not in (".png", *ANIMATIONS):
        raise InputError(f"{path}: images are saved as .png, .gif or .webp; name the file so.")
    check_target(path)
    with Store.open(folder) as store:
        content = sheet(store, **options) if kind == ".png" else animation(store, kind[1:], **options)
    write_whole(path, content)
    return path
