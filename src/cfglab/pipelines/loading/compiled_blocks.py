"""A compiled denoiser that always sees the same number of rows.

A compiled network is compiled anew for every batch size it meets, and guidance asks for another number of rows at
almost every step. So the rows are run in blocks of one size, the last one filled up with rows that are thrown away. A
last one of few rows (a further prediction for one image among many) is run uncompiled instead, which costs what they
cost. Small blocks waste few rows; on a CPU with bfloat16 instructions 32 are a fifth faster than 16.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cfglab.pipelines.loading.tree import walk

ROWS = 32
SMALL_BLOCK = 0.5
"""The share of a block up to which it is not filled up."""


def compile_in_blocks(denoiser: torch.nn.Module, rows: int = ROWS) -> None:
    """Compile `denoiser.forward` for inputs of one number of rows.

    Inputs are split into blocks of that size and filled up. The uncompiled forward stays as `denoiser.uncompiled`, for
    hooks.

    Args:
        denoiser: The denoiser.
        rows: The rows of a block, 1 or more.
    """
    denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    original = denoiser.forward
    compiled = torch.compile(original, dynamic=False)

    def forward(sample: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        count, arguments = len(sample), ((sample, *args), kwargs)
        outputs = []
        for start in range(0, count, rows):
            small = count - start <= SMALL_BLOCK * rows
            block_args, block_kwargs = walk(arguments, count, partial(_block, start=start, rows=rows, full=not small))
            call = original if small else partial(_without_advice, compiled)
            outputs.append(call(*block_args, **block_kwargs, return_dict=False)[0])
        prediction = torch.cat(outputs)[:count]
        return {"sample": prediction} if return_dict else (prediction,)

    object.__setattr__(denoiser, "uncompiled", original)
    denoiser.forward = forward


def _without_advice(compiled: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Dynamo says of diffusers' own code, when it compiles it, that it looks through caches there; that is harmless."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
        return compiled(*args, **kwargs)


def _block(tensor: Tensor, start: int, rows: int, full: bool) -> Tensor:
    """Those rows; to be `full`, the first row of the last block is repeated. Images channels last."""
    part = tensor[start : start + rows]
    if full and len(part) < rows:
        part = torch.cat([part, part[:1].expand(rows - len(part), *part.shape[1:])])
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part
