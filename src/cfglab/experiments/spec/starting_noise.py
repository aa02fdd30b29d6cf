"""Which seed of torch's generator a starting noise is drawn from. Loads no torch."""

import hashlib
from typing import Literal

Noise = Literal["nested", "crossed"]
"""`nested`: every prompt has starting noises of its own. `crossed`: all prompts share those of a seed."""
DERIVED = 2**62
"""Derived seeds are at least this and below 2**63: they fit into a signed 64-bit integer and differ from every seed
that a person would write."""


def torch_seed(seed: int, position: int, noise: Noise = "nested") -> int:
    """Return the seed n of `torch.Generator("cpu").manual_seed(n)` for one starting noise.

    Position 0 keeps the seed itself, so an experiment with one prompt has the same starting noises in both designs.
    For a later position of the nested design, n is 2**62 plus the first 62 bits of the SHA-256 of the ASCII text
    `cfglab noise SEED POSITION`. This rule does not change between versions.

    Args:
        seed: a seed of the experiment, 0 or more.
        position: the position of the prompt among the prompts of the experiment, counted from 0.
        noise: the design of the experiment.

    Returns:
        The seed, below 2**63.

    Examples:
        >>> torch_seed(3, 0)
        3
        >>> torch_seed(3, 5, "crossed")
        3
    """
    if noise == "crossed" or position == 0:
        return seed
    return _derived(f"cfglab noise {seed} {position}")


def candidate_seed(seed: int, candidate: int) -> int:
    """Return the torch seed of one candidate of a cell that chooses among several starting noises (`best_of`).

    Candidate 0 keeps the seed itself, so the candidates of 8 contain those of 4. For a later one, n is 2**62 plus the
    first 62 bits of the SHA-256 of the ASCII text `cfglab candidate SEED CANDIDATE`. This rule does not change between
    versions.

    Args:
        seed: the torch seed of the cell.
        candidate: the number of the candidate, counted from 0.

    Returns:
        The seed, below 2**63.

    Examples:
        >>> candidate_seed(3, 0)
        3
        >>> candidate_seed(3, 1) == candidate_seed(4, 1)
        False
    """
    return seed if candidate == 0 else _derived(f"cfglab candidate {seed} {candidate}")


def _derived(text: str) -> int:
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return DERIVED + (int.from_bytes(digest[:8], "big") >> 2)
