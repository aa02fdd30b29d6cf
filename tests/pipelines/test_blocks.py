"""A denoiser compiled in blocks: the same numbers, whatever the number of rows, and nothing said beside them."""

import functools
from typing import Any

import pytest
import torch

from cfglab.pipelines.loading.compiled_blocks import compile_in_blocks


@functools.lru_cache
def doubled(number: int) -> int:
    return 2 * number


class Cached(torch.nn.Module):
    """Reads a cache on its way, as the upsampling of diffusers does in bfloat16."""

    def forward(self, sample: torch.Tensor, timestep: Any, return_dict: bool = True) -> Any:
        assert not return_dict
        return (doubled(3) * sample + timestep,)


def compiled_in_blocks(monkeypatch: pytest.MonkeyPatch, seen: list[int], rows: int) -> torch.nn.Module:
    """A denoiser that adds to `seen` the rows of every compiled call."""

    def counted(forward: Any, **_: Any) -> Any:
        def call(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(len(sample))
            return forward(sample, *args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", counted)
    denoiser = Cached()
    compile_in_blocks(denoiser, rows)
    return denoiser


@pytest.mark.parametrize(
    ("asked", "compiled"), [(1, []), (4, []), (5, [8]), (8, [8]), (12, [8]), (13, [8, 8]), (17, [8, 8])]
)
def test_blocks_are_filled_up_unless_few_rows_are_left(
    monkeypatch: pytest.MonkeyPatch, asked: int, compiled: list[int]
) -> None:
    seen: list[int] = []
    denoiser = compiled_in_blocks(monkeypatch, seen, rows=8)
    sample = torch.arange(float(asked)).view(asked, 1, 1, 1)
    torch.testing.assert_close(denoiser(sample, 1, return_dict=False)[0], 6 * sample + 1)
    assert seen == compiled


def test_a_compiled_cache_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    denoiser = Cached()
    compile_in_blocks(denoiser, rows=4)
    sample = torch.arange(6.0).view(6, 1, 1, 1)
    torch.testing.assert_close(denoiser(sample, 1, return_dict=False)[0], 6 * sample + 1)  # warnings are errors
