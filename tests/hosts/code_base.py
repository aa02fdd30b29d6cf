"""A network of random weights in the ways of several code bases, and functions of a checkout run as they stand there.

Nothing of a code base is kept here: the functions are read from the checkout that an environment variable names.
"""

import ast
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


def functions_of(variable: str, file: str, *names: str, **known: Any) -> list[Callable[..., Any]]:
    """Functions (or methods) of one file of a checkout; the test is skipped where there is none."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable}=/path/to/checkout runs this against the code base itself")
    tree = ast.parse((Path(folder) / file).read_text(encoding="utf-8"))
    chosen: list[ast.stmt] = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names
    ]
    space: dict[str, Any] = {"torch": torch, "np": np, "math": math, "th": torch, **known}
    exec(compile(ast.Module(chosen, []), file, "exec"), space)
    return [space[name] for name in names]


class Network(nn.Module):
    """A small network of a sample, a level and a class; class 10 is none. Counts the rows that it ran."""

    def __init__(self, channels: int = 4, out: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rows = 0
        self.first = nn.Parameter(torch.randn(16, channels, generator=generator) / 4)
        self.last = nn.Parameter(torch.randn(out or channels, 16, generator=generator) / 4)
        self.classes = nn.Parameter(torch.randn(11, 16, generator=generator))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.rows += len(x)
        level = torch.log1p(t.reshape(-1, 1).to(x).abs()).expand(len(x), 1)
        hidden = torch.einsum("ij,njhw->nihw", self.first, x)
        hidden = torch.tanh(hidden + (self.classes[y] * (1 + level))[:, :, None, None])
        return torch.einsum("ij,njhw->nihw", self.last, hidden)


def sample(images: int = 3, channels: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(images, channels, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def euler(denoise: Callable[..., Tensor], x: Tensor, sigmas: list[float], **conditioning: Any) -> Tensor:
    """Algorithm 2 of 2206.00364 without its second evaluation."""
    for now, after in itertools.pairwise(sigmas):
        x = x + (after - now) * (x - denoise(x, x.new_full((len(x),), now), **conditioning)) / now
    return x


def heun(denoise: Callable[..., Tensor], x: Tensor, sigmas: list[float], **conditioning: Any) -> Tensor:
    """Algorithm 2 of 2206.00364."""
    for now, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, x.new_full((len(x),), now), **conditioning)) / now
        ahead = x + (after - now) * slope
        if after > 0:
            second = (ahead - denoise(ahead, x.new_full((len(x),), after), **conditioning)) / after
            slope = (slope + second) / 2
        x = x + (after - now) * slope
    return x


def dpmpp_2m(denoise: Callable[..., Tensor], x: Tensor, sigmas: list[float], **conditioning: Any) -> Tensor:
    """Algorithm 2 of 2211.01095 (DPM-Solver++ 2M) in log sigma."""
    before, old = None, 0.0
    for now, after in itertools.pairwise(sigmas):
        D = denoise(x, x.new_full((len(x),), now), **conditioning)
        if before is None or after == 0:
            mixed = D
        else:
            r = math.log(old / now) / math.log(now / after)
            mixed = (1 + 1 / (2 * r)) * D - 1 / (2 * r) * before
        x = (after / now) * x - (after / now - 1) * mixed
        before, old = D, now
    return x
