"""Sound in its layouts: (images, channels, time), (images, channels, time, bands) and (images, time, channels)."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.pipelines import guide
from tests.pipelines.families import Case, case
from tests.pipelines.test_builders import shared

SOUNDS = [
    ("StableAudioPipeline", 1, 3),
    ("StableAudio3Pipeline", 1, 3),
    ("AudioLDM2Pipeline", 1, 4),
    ("LongCatAudioDiTPipeline", 2, 3),
    ("AceStepPipeline", 2, 3),
]
"""A class, the dimension of its channels, and how many dimensions its predictions have."""


@dataclass
class Written:
    """`g |c| / |g|` with g = u + 3 (c - u), each length over some dimensions."""

    dims: tuple[int, ...]
    ndim: int

    def start(self, _prediction: Any) -> "Written":
        return self

    def combine(self, uncond: Tensor, cond: Tensor, _step: Any, _latents: Tensor) -> Tensor:
        assert uncond.ndim == self.ndim
        guided = uncond + 3 * (cond - uncond)
        lengths = [torch.linalg.vector_norm(x, dim=self.dims, keepdim=True) for x in (cond, guided)]
        return guided * lengths[0] / lengths[1]


def guided_by(made: Case, guidance: Any) -> Tensor:
    pipe = shared(made)
    with guide(pipe, guidance):
        return made.call(pipe, made.scales[1], steps=2)


@pytest.mark.parametrize(("name", "channels", "ndim"), SOUNDS, ids=[name for name, *_ in SOUNDS])
def test_lengths_are_over_the_dimensions_of_the_layout(name: str, channels: int, ndim: int) -> None:
    made = case(name)
    if made.requires:
        pytest.importorskip(made.requires)
    whole = guided_by(made, "3 | cfg_norm(space=model)")
    torch.testing.assert_close(whole, guided_by(made, Written(tuple(range(1, ndim)), ndim)), rtol=1e-4, atol=1e-5)
    every = guided_by(made, "3 | cfg_norm(axis=channel, space=model)")
    torch.testing.assert_close(every, guided_by(made, Written((channels,), ndim)), rtol=1e-4, atol=1e-5)
    other = guided_by(made, Written((3 - channels,), ndim))
    assert not torch.allclose(every, other, rtol=1e-2, atol=1e-3)


def test_stable_audio_predicts_v() -> None:
    """Its scheduler makes the clean sound of it: rescaling that is rescaling the v of CFG (2305.08891)."""
    made = case("StableAudioPipeline")

    class Theirs:
        def start(self, prediction: Any) -> "Theirs":
            assert prediction == "v"
            return self

        def combine(self, uncond: Tensor, cond: Tensor, _step: Any, _latents: Tensor) -> Tensor:
            guided = uncond + 7 * (cond - uncond)
            factor = cond.std((1, 2), keepdim=True) / guided.std((1, 2), keepdim=True)
            return guided * (0.7 * factor + 0.3)

    rescaled = guided_by(made, "7 | rescale(strength=0.7)")
    torch.testing.assert_close(rescaled, guided_by(made, Theirs()), rtol=1e-4, atol=1e-5)
    for text in ("7 | apg()", "7 | tsr()", "7 | tsr(space=model)", "7 | epsilon_scaling()", "7 | cfg_zero_star()"):
        assert not torch.equal(guided_by(made, text), guided_by(made, "7"))


def test_ace_step_in_its_own_words() -> None:
    """Its APG at another scale, momentum and threshold than its pipeline has, against diffusers' function."""
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    class Theirs:
        def start(self, _prediction: Any) -> "Theirs":
            self.memory = MomentumBuffer(-0.3)
            return self

        def combine(self, uncond: Tensor, cond: Tensor, _step: Any, _latents: Tensor) -> Tensor:
            fields: dict[str, Any] = {"eta": 0.4, "norm_threshold": 0.5, "norm_dim": (1,)}
            return normalized_guidance(cond, uncond, 4.0, self.memory, use_original_formulation=True, **fields)

    made = case("AceStepPipeline")
    ours = guided_by(made, "5 | apg(as_in=ace_step, eta=0.4, momentum=-0.3, norm_threshold=0.5)")
    torch.testing.assert_close(ours, guided_by(made, Theirs()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, guided_by(made, "5 | apg(space=model, eta=0.4, momentum=-0.3, norm_threshold=0.5)"))
