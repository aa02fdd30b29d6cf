"""Attention to the text that pladis computes itself: with dense weights it has to be the network's own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.perturbations.sparse_attention import SparseAttention
from cfglab.pipelines import guide
from tests.pipelines.families import case, parts

OTHER = "a grey dog, asleep"
NAMES = [
    *("PixArtAlphaPipeline", "SanaPipeline", "SanaVideoPipeline", "AllegroPipeline", "LattePipeline"),
    *("CosmosTextToWorldPipeline", "Cosmos2TextToImagePipeline", "Cosmos2_5_PredictBasePipeline"),
    *("WanVACEPipeline", "SkyReelsV2Pipeline", "ChronoEditPipeline", "HeliosPipeline", "LucyEditPipeline"),
    *("StableAudioPipeline", "AmusedPipeline", "VQDiffusionPipeline", "Kandinsky3Pipeline", "I2VGenXLPipeline"),
    *("StableDiffusion3Pipeline", "FluxPipeline", "ChromaPipeline", "QwenImagePipeline"),
]
SHARPER = 6.0
"""The queries of tiny networks are so small that they read every token alike; times this they choose."""


def sharper(name: str) -> Any:
    """A pipeline of new networks with larger queries."""
    pipe = case(name).build()
    for denoiser in case(name).denoisers:
        for path, parameter in getattr(pipe, denoiser).named_parameters():
            if "to_q.weight" in path:
                with torch.no_grad():
                    parameter.mul_(SHARPER)
    return pipe


def flat(result: Any) -> Tensor:
    if isinstance(result, list | tuple):
        return torch.cat([flat(part) for part in result])
    return torch.as_tensor(result).flatten().double()


@pytest.mark.parametrize("name", NAMES)
def test_dense_weights_are_the_networks_own(name: str) -> None:
    pipe, made = sharper(name), case(name)

    def run(text: str) -> Tensor:
        with guide(pipe, text):
            return flat(made.call(pipe, made.scales[1], steps=2))

    plain = run("4")
    torch.testing.assert_close(run("4 | pladis(s=0)"), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.parametrize("name", ["HunyuanDiTPipeline", "LuminaPipeline", "OmniGenPipeline", "AceStepPipeline"])
def test_attention_that_is_more_than_a_softmax_is_refused(name: str) -> None:
    made = case(name)
    pipe = made.build()
    reason = r"pladis: this network's \w+ is more than a softmax"
    with pytest.raises(InputError, match=reason), guide(pipe, "4 | pladis()"):
        made.call(pipe, made.scales[1], steps=2)


def test_products_that_are_scaled_otherwise_are_refused() -> None:
    network = sharper("PixArtAlphaPipeline").transformer
    sample, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, parts.WIDTH)
    attention = next(module for name, module in network.named_modules() if name.endswith("attn2"))
    time = torch.tensor([500])
    more = {"resolution": torch.ones(1, 2), "aspect_ratio": torch.ones(1, 1)}
    changed = SparseAttention("cond", 2.0, "entmax15", ()).applied(network)
    with torch.no_grad(), changed as module:
        attention.to_q.register_forward_hook(lambda _, __, output: output / 9)  # after pladis has read the queries
        with pytest.raises(InputError, match="this network's Attention is more than a softmax"):
            module(sample, timestep=time, encoder_hidden_states=text, added_cond_kwargs=more)


@pytest.mark.parametrize("method", ["nag(s=5", "vsf(s=2"])
def test_an_image_behind_the_text_is_not_taken_for_a_text(method: str) -> None:
    made = case("I2VGenXLPipeline")
    pipe = made.build()
    reason = r"(nag|vsf): I2VGenXLUNet puts the tokens of an image behind those of its text"
    with pytest.raises(InputError, match=reason), guide(pipe, f"4 | {method}, prompt='{OTHER}')"):
        made.call(pipe, made.scales[1], steps=2)
