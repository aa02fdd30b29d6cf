"""Noise per row, from a seed, the step and the sample: the same in any batch. Loads torch."""

from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor


def signatures(sample: Tensor | list[Tensor]) -> list[int]:
    """32 bits per row: the signs of fixed projections of at most 4096 of its values.

    A rounding error seldom changes one: where a projection is near 0. The samples of float16 and bfloat16 are further
    from those of float32: a run may have other bits there from some step on, and then the noise of another seed.

    Args:
        sample: (n, ...), any floating dtype, or a list of n tensors of one shape.

    Returns:
        n whole numbers.
    """
    rows = (torch.stack(sample) if isinstance(sample, list) else sample).detach().flatten(1)
    rows = rows[:, :: max(1, rows.shape[1] // 4096)][:, :4096].float().cpu()
    bits = (rows @ _directions(rows.shape[1]) > 0).int().tolist()
    return [sum(bit << position for position, bit in enumerate(row)) for row in bits]


@lru_cache(maxsize=8)
def _directions(length: int) -> Tensor:
    return torch.randn(length, 32, generator=torch.Generator().manual_seed(0))


def row_seeds(sample: Tensor | list[Tensor], seed: int, index: int) -> list[str]:
    """The seed of each row's noise at a step.

    Args:
        sample: (n, ...), any floating dtype, or a list of n tensors of one shape.
        seed: The seed of the transform.
        index: The step's index.

    Returns:
        n texts.
    """
    return [f"{seed} {index} {signature} " for signature in signatures(sample)]


def normal(seed: str, like: Tensor) -> Tensor:
    """Standard normal noise.

    Args:
        seed: Any text.
        like: A tensor whose shape the noise gets.

    Returns:
        A float32 tensor on the CPU.
    """
    number = int.from_bytes(blake2b(seed.encode(), digest_size=7).digest(), "little")
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(number))
