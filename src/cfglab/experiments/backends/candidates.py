"""Which starting noise each cell with `best_of` takes (CFG-Rejection, arXiv:2505.23343). Runs torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cfglab.experiments.spec.batching import largest
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.starting_noise import candidate_seed
from cfglab.guidance import Guidance
from cfglab.pipelines.best_of import first_steps, mean_differences

Arguments = Callable[[Sequence[Cell], Sequence[int]], dict[str, Any]]
"""Returns the arguments of the pipeline for cells and the torch seeds of their starting noises."""


@dataclass(frozen=True)
class Candidates:
    """The choices of a batch.

    Attributes:
        numbers: the number of the candidate that each cell takes, from 0.
        seeds: its torch seed.
        rows_run: denoiser rows that the candidates needed.
        rows_saved: denoiser rows that they did not need because equal rows are run once.
    """

    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    rows_run: int = 0
    rows_saved: int = 0


def choose_candidates(pipe: Any, batch: Sequence[Cell], factor: int, arguments: Arguments) -> Candidates:
    """Run the first steps of all candidates of a batch, and choose for each cell the one with the largest difference.

    A candidate that several cells have is run once. Of equal differences the first candidate is chosen.

    Args:
        pipe: a diffusers pipeline.
        batch: cells that have all fields in common except prompt, seed, guidance and candidates.
        factor: pixels per latent along a side.
        arguments: returns the arguments of the pipeline.

    Raises:
        InputError: if a guidance does not run both predictions in the first steps.
    """
    runs: dict[tuple[str, int, Guidance, int], Cell] = {}
    for cell in batch:
        if cell.best_of > 1:
            runs |= {_key(cell, number): cell for number in range(cell.best_of)}
    differences: dict[tuple[str, int, Guidance, int], float] = {}
    run = saved = 0
    todo, most = list(runs.items()), largest(batch[0], factor)
    for part in (todo[start : start + most] for start in range(0, len(todo), most)):
        cells, early = [cell for _, cell in part], [cell.early for _, cell in part]
        guidances = [cell.guidance for cell in cells]
        trace = first_steps(pipe, guidances, max(early), arguments(cells, [key[1] for key, _ in part]))
        means = mean_differences(trace, early, guidances)
        differences |= {key: mean for (key, _), mean in zip(part, means, strict=True)}
        run, saved = run + trace.rows_run, saved + trace.rows_saved
    numbers = tuple(
        max(range(cell.best_of), key=lambda number: differences[_key(cell, number)]) if cell.best_of > 1 else 0
        for cell in batch
    )
    seeds = tuple(candidate_seed(cell.seed, number) for cell, number in zip(batch, numbers, strict=True))
    return Candidates(numbers, seeds, run, saved)


def _key(cell: Cell, number: int) -> tuple[str, int, Guidance, int]:
    return cell.prompt, candidate_seed(cell.seed, number), cell.guidance, cell.early
