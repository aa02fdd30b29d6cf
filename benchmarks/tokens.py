"""The exact distance of guided masked diffusion to its target, for three schedules of equal mean: docs/laboratory.md.

python -m benchmarks.tokens
"""

import numpy as np
import torch

from cfglab.mixtures.tokens import guided_table, tilted_table

SIZES = ((2, 4, 60), (3, 3, 60), (4, 3, 20))
"""Tokens, values and tables of each row."""


def main() -> None:
    """Print one row for each size."""
    for length, values, count in SIZES:
        distances = np.array([_distances(length, values, seed) for seed in range(count)])
        constant, rising, falling = distances.mean(0)
        nearer = (distances[:, 1] < distances[:, 2]).mean()
        print(f"{length} x {values}: constant {constant:.3f}, rising {rising:.3f}, falling {falling:.3f}, {nearer:.0%}")


def _distances(length: int, values: int, seed: int) -> list[float]:
    random = np.random.default_rng(seed)
    tables = [torch.tensor(random.dirichlet([0.5] * values**length) + 1e-4) for _ in range(3)]
    tables = [table.reshape((values,) * length) / table.sum() for table in tables]
    cond, uncond = tables[0], torch.stack(tables).mean(0)
    rising = np.linspace(1.0, 3.0, length).tolist()
    target = tilted_table(cond, uncond, 2.0)
    generated = [guided_table(cond, uncond, guidance) for guidance in (2.0, rising, rising[::-1])]
    return [float((table - target).abs().sum() / 2) for table in generated]


if __name__ == "__main__":
    main()
