"""Which cells are generated together. A pure function of the cells, so that a resumed run repeats the same batches."""

from collections.abc import Sequence

from cfglab.experiments.spec.cell import Cell

MOST = 48
"""Images of a batch, at most."""
PLAN = "2"
"""The version of the batch plan of a new run; its folder keeps it. "1" puts the first prompt and seed in no batch of
its own."""
LATENTS = 48 * 16 * 16
"""Latents of a batch along width and height, at most, where a batch has more than four images."""


def batches(cells: Sequence[Cell], factor: int, version: str = PLAN) -> list[tuple[Cell, ...]]:
    """Return every distinct cell once, in batches.

    All settings of one prompt and seed are in one batch, because they start from the same noise and share rows. A
    batch holds as many whole prompts and seeds as fit; a set of settings that is too large for one batch is split.
    Where one batch does not hold all cells, the first prompt and seed has its own: every setting has an image soon.

    Args:
        cells: the cells, in the order of the experiment.
        factor: pixels per latent along a side.
        version: the version of the plan, "1" or "2".

    Returns:
        The batches, each with at most `largest` cells.
    """
    cells_by_start: dict[tuple[str, int], dict[str, Cell]] = {}
    for cell in cells:
        cells_by_start.setdefault((cell.prompt, cell.seed), {})[cell.id] = cell
    planned: list[tuple[Cell, ...]] = []
    current: list[Cell] = []
    groups = [list(settings.values()) for settings in cells_by_start.values()]
    first_alone = version != "1" and sum(map(len, groups)) > largest(cells[0], factor)
    for index, group in enumerate(groups):
        limit = largest(group[0], factor)
        if current and (len(current) + len(group) > limit or (first_alone and index == 1)):
            planned.append(tuple(current))
            current = []
        if len(group) > limit:
            planned += [tuple(group[start : start + limit]) for start in range(0, len(group), limit)]
        else:
            current += group
    return [*planned, tuple(current)] if current else planned


def first_pass(cells: Sequence[Cell]) -> int:
    """Return how many images the plan generates until every setting has one.

    Args:
        cells: the cells, in the order of the experiment.
    """
    return len({cell.id for cell in cells if (cell.prompt, cell.seed) == (cells[0].prompt, cells[0].seed)})


def largest(cell: Cell, factor: int) -> int:
    """Return how many images of this size a batch holds: 48 with 16×16 latents, 4 with 64×64.

    Args:
        cell: a cell of the batch.
        factor: pixels per latent along a side.
    """
    size = (cell.width // factor) * (cell.height // factor)
    return max(4, min(MOST, LATENTS // size))
