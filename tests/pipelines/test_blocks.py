"""A denoiser compiled in blocks: the same numbers, whatever the number of rows, and nothing said beside them."""

import functools
from typing import Any

import pytest
import torch

from cfglab.pipelines.blocks import compile_in_blocks


@functools.lru_cache
def doubled(number: int) -> int:
    return 2 * number


class Cached(torch.nn.Module):
    """Reads a cache on its way, as the upsampling of diffusers does in bfloat16."""

    def forward(self, sample: torch.Tensor, timestep: Any, return_dict: bool = True) -> Any:
        assert not return_dict
        return (doubled(3) * sample + timestep,)


def test_a_compiled_cache_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    denoiser = Cached()
    compile_in_blocks(denoiser, rows=4)
    sample = torch.arange(6.0).view(6, 1, 1, 1)
    torch.testing.assert_close(denoiser(sample, 1, return_dict=False)[0], 6 * sample + 1)  # warnings are errors
