"""Tiny transformers whose attention reads text and image together, and the call of one of them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import torch
from torch import Tensor

from cfglab.guidance.context import Perturbation

WIDTH = 32
FLUX: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "axes_dims_rope": (4, 4, 8),
}

WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": WIDTH,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}


@dataclass(frozen=True)
class Layout:
    """A network, and its arguments for two rows: a sample, texts and what else it reads."""

    build: Callable[[], Any]
    sample: tuple[int, ...]
    image: int  # tokens of the image
    grid: tuple[int, int, int]  # frames, rows, columns


TEXT, ROWS = 7, 2

LAYOUTS = {
    "sd3": Layout(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8,
            in_channels=16,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=WIDTH,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            out_channels=16,
            qk_norm="rms_norm",
            dual_attention_layers=(1,),
        ),
        (16, 4, 6),
        6,
        (1, 2, 3),
    ),
    "flux": Layout(
        lambda: diffusers.FluxTransformer2DModel(**FLUX, pooled_projection_dim=WIDTH), (6, 16), 6, (1, 2, 3)
    ),
    "chroma": Layout(
        lambda: diffusers.ChromaTransformer2DModel(
            **FLUX, approximator_hidden_dim=32, approximator_layers=1, approximator_num_channels=16
        ),
        (6, 16),
        6,
        (1, 2, 3),
    ),
    "qwen": Layout(
        lambda: diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(8, 4, 4),
        ),
        (6, 16),
        6,
        (1, 2, 3),
    ),
    "z": Layout(
        lambda: diffusers.ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        ),
        (4, 1, 4, 6),
        6,
        (1, 2, 3),
    ),
    "wan": Layout(lambda: diffusers.WanTransformer3DModel(**WAN), (4, 2, 4, 6), 12, (2, 2, 3)),
    "wan_image": Layout(
        lambda: diffusers.WanTransformer3DModel(**WAN, image_dim=16, added_kv_proj_dim=24), (4, 2, 4, 6), 12, (2, 2, 3)
    ),
}


@cache
def network(name: str) -> Any:
    """A tiny random one, in float64, whose attention is far from uniform and whose text is heard."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Chroma's own code
        torch.manual_seed(3)
        made: Any = LAYOUTS[name].build().double().eval()
        with torch.no_grad():
            for key, parameter in made.named_parameters():
                if parameter.ndim < 2 or "pad_token" in key or "scale_shift" in key:
                    parameter.copy_(1 + 0.3 * torch.randn_like(parameter) if "norm" in key else parameter * 0 + 0.1)
                else:
                    torch.nn.init.normal_(parameter, std=1.2 * parameter[0].numel() ** -0.5)
                if parameter.ndim == 2 and ".to_q." in key:
                    parameter.mul_(2.0)
    return made


def texts(name: str, seed: int, tokens: int = TEXT) -> dict[str, Any]:
    """The arguments that are a text."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 512 if name == "wan_image" else tokens  # as many as its attention takes off the end
    text = torch.randn(ROWS, tokens, WIDTH, generator=generator).double()
    if name == "z":
        return {"cap_feats": list(text)}
    if name == "qwen":
        return {"encoder_hidden_states": text, "encoder_hidden_states_mask": None}
    pooled = {"pooled_projections": torch.randn(ROWS, WIDTH, generator=generator).double()}
    if name == "chroma":  # a number for each token of text and image: the last of the text is not read
        mask = torch.ones(ROWS, tokens + LAYOUTS[name].image).double()
        mask[:, tokens - 1] = 0
        return {"encoder_hidden_states": text, "attention_mask": mask}
    return {"encoder_hidden_states": text, **(pooled if name in ("sd3", "flux") else {})}


def inputs(name: str, seed: int = 0) -> tuple[Any, Tensor, dict[str, Any]]:
    """The sample, the timestep and the other arguments, but for the text."""
    layout, generator = LAYOUTS[name], torch.Generator().manual_seed(seed)
    sample: Any = torch.randn(ROWS, *layout.sample, generator=generator).double()
    more: dict[str, Any] = {}
    if name in ("flux", "chroma"):
        frames, rows, columns = (torch.arange(size) for size in layout.grid)
        more["img_ids"] = torch.cartesian_prod(frames, rows, columns).double()
        more["txt_ids"] = torch.zeros(TEXT, 3).double()
    if name == "qwen":
        more["img_shapes"] = [[layout.grid]] * ROWS
    if name == "wan_image":
        more["encoder_hidden_states_image"] = torch.randn(ROWS, 3, 16, generator=generator).double()
    time = 0.5 if name in ("flux", "chroma", "qwen", "z") else 500.0
    return list(sample) if name == "z" else sample, torch.full((ROWS,), time).double(), more


def run(
    name: str, perturbation: Perturbation | None = None, *, negative: dict[str, Any] | None = None, **beside: Any
) -> Tensor:
    """The prediction of both rows; `negative` is another text beside their own."""
    denoiser = network(name)
    first, time = ("x", "t") if name == "z" else ("hidden_states", "timestep")
    sample, timestep, more = inputs(name)
    conditioning = {**texts(name, 1), **more, "return_dict": False, **beside}
    if perturbation is None:
        with torch.no_grad():
            return _stacked(denoiser(**{first: sample, time: timestep}, **conditioning))
    if negative is not None:
        conditioning["prompted"] = {**conditioning, **negative}
    with torch.no_grad(), perturbation.applied(denoiser) as module:
        sample, timestep, arguments = perturbation.inputs(sample, timestep, conditioning)
        return _stacked(module(**{first: sample, time: timestep}, **arguments))


def _stacked(output: Any) -> Tensor:
    value = output[0]
    return torch.stack(list(value)) if isinstance(value, list | tuple) else value
