"""Which cells are drawn together. A pure function of the cells, so that a resumed run repeats the same batches."""

from collections.abc import Sequence

from cfglab.experiments.spec.cell import Cell

MOST = 48
LATENTS = 48 * 16 * 16


def batches(cells: Sequence[Cell], factor: int) -> list[tuple[Cell, ...]]:
    """Every distinct cell once, in batches. `factor` is pixels per latent along a side.

    All settings of one prompt and seed stand together, because they begin with the same noise and share their rows; as
    many whole prompts and seeds as fit go into one batch, and a set of settings that is too large for one is cut. A
    batch has at most 48 images, and fewer of large ones: the denoiser's memory grows with the latents.
    """
    together: dict[tuple[str, int], dict[str, Cell]] = {}
    for cell in cells:
        together.setdefault((cell.prompt, cell.seed), {})[cell.id] = cell
    planned: list[tuple[Cell, ...]] = []
    current: list[Cell] = []
    for group in (list(settings.values()) for settings in together.values()):
        most = largest(group[0], factor)
        if current and len(current) + len(group) > most:
            planned.append(tuple(current))
            current = []
        if len(group) > most:
            planned += [tuple(group[start : start + most]) for start in range(0, len(group), most)]
        else:
            current += group
    return [*planned, tuple(current)] if current else planned


def largest(cell: Cell, factor: int) -> int:
    """How many images of this size a batch holds: 48 at 16×16 latents, 4 at 64×64."""
    size = (cell.width // factor) * (cell.height // factor)
    return max(4, min(MOST, LATENTS // size))
