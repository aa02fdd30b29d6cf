"""Exact masked diffusion on a table of tokens: what guided logits generate, without a network and without sampling.

A model of L tokens with V values each is a table of probabilities. The exact denoiser of masked diffusion gives, for
every masked token, the logits `log p(x_i = v | tokens that are known)`. One token is unmasked at each step, in an order
that is drawn at random; the distribution of what comes out is computed by going through every state.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.guidance import as_guidance
from cfglab.step import steps

if TYPE_CHECKING:
    from torch import Tensor

MOST = 100_000
"""The most states, (V + 1) ** L."""
State = tuple[int | None, ...]
"""The value of each token; None is a mask."""


def token_logits(table: "Tensor", state: State) -> "Tensor":
    """Return the exact denoiser's logits for one state.

    Args:
        table: probabilities (V, ..., V), one dimension for each of the L tokens, float64.
        state: the known tokens.

    Returns:
        (L, V): the logarithm of p(x_i = v | known tokens); for a known token 0 at its value and -inf elsewhere.

    Examples:
        >>> import torch
        >>> table = torch.tensor([[0.4, 0.1], [0.2, 0.3]], dtype=torch.float64)
        >>> token_logits(table, (0, None)).exp().tolist()
        [[1.0, 0.0], [0.0, 0.8]]
    """
    import torch

    known = table.clone()
    for token, value in enumerate(state):
        if value is not None:
            others = [other for other in range(table.shape[token]) if other != value]
            known.index_fill_(token, torch.tensor(others), 0.0)
    known /= known.sum()
    return torch.stack([known.movedim(token, 0).reshape(len(known), -1).sum(1) for token in range(table.ndim)]).log()


def guided_table(cond: "Tensor", uncond: "Tensor", guidance: Any) -> "Tensor":
    """Return the distribution that guided masked diffusion generates, exactly.

    At each step the guided logits are those of `Guide.combine`, and a token is drawn from their softmax. So they are
    normalized per token, as 2507.08965 asks for, and guidance cannot change how fast tokens are unmasked.

    Args:
        cond: probabilities (V, ..., V) given the condition, float64, all above 0.
        uncond: probabilities without it, the same shape.
        guidance: as in `guide`, without memory; its steps are the L tokens.

    Returns:
        Probabilities (V, ..., V).

    Raises:
        InputError: if the tables are not two of one shape with positive numbers, or too large.
    """
    import torch

    if cond.shape != uncond.shape or bool((cond <= 0).any()) or bool((uncond <= 0).any()):
        raise InputError(
            f"tables of shapes {tuple(cond.shape)} and {tuple(uncond.shape)}: two of one shape are needed, with every "
            "probability above 0; give such tables."
        )
    length, values = cond.ndim, cond.shape[0]
    if (values + 1) ** length > MOST:
        raise InputError(f"{length} tokens of {values} values: at most {MOST:,} states are gone through; give fewer.")
    guide = as_guidance(guidance).start("logits")
    states: dict[State, float] = {(None,) * length: 1.0}
    for step in steps(length):
        rows = [(state, token) for state in states for token, value in enumerate(state) if value is None]
        c, u = (_rows(table, rows) for table in (cond, uncond))
        guided = guide.combine(u, c, step).softmax(1).tolist()
        following: defaultdict[State, float] = defaultdict(float)
        for (state, token), probabilities in zip(rows, guided, strict=True):
            for value, probability in enumerate(probabilities):
                unmasked = (*state[:token], value, *state[token + 1 :])
                following[unmasked] += states[state] * probability / (length - step.index)
        states = following
    table = torch.zeros_like(cond)
    for place in product(range(values), repeat=length):
        table[place] = states.get(place, 0.0)
    return table


def _rows(table: "Tensor", rows: Sequence[tuple[State, int]]) -> "Tensor":
    """The logits of one masked token of each state, (n, V)."""
    import torch

    logits = {state: token_logits(table, state) for state, _ in rows}
    return torch.stack([logits[state][token] for state, token in rows])


def tilted_table(cond: "Tensor", uncond: "Tensor", w: float) -> "Tensor":
    """Return `p(x | c)^w p(x)^(1 - w) / Z`, the distribution that guidance is meant to generate.

    Args:
        cond: probabilities given the condition.
        uncond: probabilities without it, the same shape.
        w: the scale.
    """
    tilted = cond**w * uncond ** (1 - w)
    return tilted / tilted.sum()
