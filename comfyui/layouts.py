"""ComfyUI's transformers: their blocks, what these are called with, and the arguments of the networks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError


@dataclass(frozen=True)
class Stack:
    """A list of blocks of a network.

    Attributes:
        blocks: ComfyUI's name of it.
        image: The argument of a block that holds the image, by its place or its name.
        text: The one that holds the text; None if there is none.
        joint: Whether the argument `image` holds the text in front of the image.
        patch: The name by which ComfyUI replaces one of the blocks; "" if it cannot.
    """

    blocks: str
    image: int | str
    text: int | str | None = None
    joint: bool = False
    patch: str = ""


_FLUX = {
    "transformer_blocks": Stack("double_blocks", "img", "txt", patch="double_block"),
    "single_transformer_blocks": Stack("single_blocks", 0, joint=True, patch="single_block"),
}
_WAN = {"blocks": Stack("blocks", 0, patch="double_block")}
LAYOUTS: dict[str, dict[str, Stack]] = {
    "Flux": _FLUX,
    "Chroma": _FLUX,
    "OpenAISignatureMMDITWrapper": {"transformer_blocks": Stack("joint_blocks", 1, 0, patch="double_block")},
    "QwenImageTransformer2DModel": {
        "transformer_blocks": Stack(
            "transformer_blocks", "hidden_states", "encoder_hidden_states", patch="double_block"
        )
    },
    "NextDiT": {"noise_refiner": Stack("noise_refiner", 0), "layers": Stack("layers", 0, joint=True)},
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
    "CameraWanModel": _WAN,
}
"""The stacks of ComfyUI's networks, by class and by the names that diffusers gives them. Text stands in
front of the image."""


def layout_of(network: Any) -> dict[str, Stack] | None:
    """The stacks of a network.

    Args:
        network: The `diffusion_model` of a MODEL.

    Returns:
        None for a network that is not in the table.
    """
    return LAYOUTS.get(type(network).__name__)


def with_names_of_diffusers(network: Any) -> Any:
    """A module of the network's class name that has its blocks under the names that diffusers gives them.

    Args:
        network: One of `LAYOUTS`.

    Returns:
        The module, which shares the blocks.
    """
    named: Any = type(type(network).__name__, (torch.nn.Module,), {})()
    for name, stack in LAYOUTS[type(network).__name__].items():
        setattr(named, name, getattr(network, stack.blocks))
    return named


def encoded(prompt: Any) -> dict[str, Any]:
    """What a network is given of a further prompt.

    Args:
        prompt: Its conditions, as a guider has them.

    Returns:
        The text `context` (1, tokens, width), a pooled one `y`, and `attention_mask`; None for what there is not.
    """
    conditions = prompt[0]["model_conds"]
    names = {"context": "c_crossattn", "y": "y", "attention_mask": "attention_mask"}
    return {name: conditions[key].cond if key in conditions else None for name, key in names.items()}


def without_zeros(text: Tensor) -> Tensor:
    """A text without the zeros behind its last token.

    Args:
        text: (1, tokens, width).

    Returns:
        The same with as many tokens as it needs, one at least.
    """
    used = text[0].any(-1).nonzero()
    return text[:, : int(used[-1]) + 1 if len(used) else 1]


def refuse_masks(method: str, *texts: dict[str, Any]) -> None:
    """Refuse texts with a mask.

    Args:
        method: The kind of the transform, for the message.
        texts: Arguments of a network by name.

    Raises:
        InputError: One of them has an `attention_mask`.
    """
    if any(text.get("attention_mask") is not None for text in texts):
        raise InputError(
            f"{method} with a text that has a mask: which of its tokens are read beside those of the other prompt is "
            "not known; use conditions without one."
        )


def twice(value: Any, rows: int) -> Any:
    """A value of a network's call for twice the rows.

    Args:
        value: A tensor, a list of values, a dictionary of them, or something else, which stays.
        rows: How many rows a tensor of rows has.

    Returns:
        The value.
    """
    if isinstance(value, dict):
        return {name: twice(part, rows) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [twice(part, rows) for part in value]
    return value.tile(2, *(1,) * (value.ndim - 1)) if getattr(value, "ndim", 0) and len(value) == rows else value
