"""Which cells are generated together. A pure function of the cells, so that a resumed run repeats the same batches."""

from collections.abc import Sequence

from cfglab.experiments.spec.cell import Cell

MOST = 48
"""Images of a batch, at most."""
LATENTS = 48 * 16 * 16
"""Latents of a batch along width and height, at most, where a batch has more than four images."""


def batches(cells: Sequence[Cell], factor: int) -> list[tuple[Cell, ...]]:
    """Return every distinct cell once, in batches.

    All settings of one prompt and seed are in one batch, because they start from the same noise and share rows. A
    batch holds as many whole prompts and seeds as fit; a set of settings that is too large for one batch is split.

    Args:
        cells: the cells, in the order of the experiment.
        factor: pixels per latent along a side.

    Returns:
        The batches, each with at most `largest` cells.
    """
    cells_by_start: dict[tuple[str, int], dict[str, Cell]] = {}
    for cell in cells:
        cells_by_start.setdefault((cell.prompt, cell.seed), {})[cell.id] = cell
    planned: list[tuple[Cell, ...]] = []
    current: list[Cell] = []
    for group in (list(settings.values()) for settings in cells_by_start.values()):
        limit = largest(group[0], factor)
        if current and len(current) + len(group) > limit:
            planned.append(tuple(current))
            current = []
        if len(group) > limit:
            planned += [tuple(group[start : start + limit]) for start in range(0, len(group), limit)]
        else:
            current += group
    return [*planned, tuple(current)] if current else planned


def largest(cell: Cell, factor: int) -> int:
    """Return how many images of this size a batch holds: 48 with 16×16 latents, 4 with 64×64.

    Args:
        cell: a cell of the batch.
        factor: pixels per latent along a side.
    """
    size = (cell.width // factor) * (cell.height // factor)
    return max(4, min(MOST, LATENTS // size))
