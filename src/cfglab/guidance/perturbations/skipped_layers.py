"""Perturbed passes without some layers: named ones, or random transformer blocks."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.perturbations.hooks import all_run, blocks, hooked
from cfglab.guidance.perturbations.joint_attention import token_order
from cfglab.guidance.perturbations.layer_names import transformer_blocks

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class SkippedLayers(ConditionalPass):
    """A perturbed pass: these layers return their input.

    Attributes:
        layers: `mid`, dotted names, or numbers of blocks.
        method: The kind of the transform, for the messages.
    """

    layers: tuple[str, ...]
    method: str = "skip_layers"

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        names = {block: layer for layer, block in blocks(denoiser, self.layers, self.method)}
        text_first = token_order(denoiser) is not None

        def skipped(block: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return self._input_of(names[block], block, args, kwargs, output, text_first)

        def add_hooks(handles: list[Any]) -> None:
            handles.extend(block.register_forward_hook(skipped, with_kwargs=True) for block in names)

        with all_run(denoiser, names, self.method), hooked(denoiser, add_hooks):
            yield denoiser

    def _input_of(
        self,
        layer: str,
        block: "Module",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        text_first: bool,
    ) -> Any:
        """The inputs that a block's outputs stand for: one of the same shape each, in the block's own order.

        Every block of two streams in `joint_attention.ORDERS` returns (text, image): `text_first`.
        """
        arguments = inspect.signature(type(block).forward).bind(block, *args, **kwargs).arguments
        hidden = arguments.get("hidden_states", next((tensor for tensor in args if hasattr(tensor, "shape")), None))
        streams = [tensor for tensor in (hidden, arguments.get("encoder_hidden_states")) if tensor is not None]

        def stream(tensor: "Tensor") -> "Tensor":
            fitting = [candidate for candidate in streams if candidate.shape == tensor.shape]
            several = isinstance(output, tuple) and sum(hasattr(part, "shape") for part in output) > 1
            if not fitting or (several and len(fitting) > 1):
                fault = "changes the shape" if not fitting else "has two streams of one shape"
                raise InputError(
                    f"{self.method}: layer {layer!r}, a {type(block).__name__}, {fault}, so it cannot be skipped; name "
                    "another one as layers=…"
                )
            return fitting[0]

        if text_first and isinstance(output, tuple) and all(hasattr(part, "shape") for part in output):
            return tuple(reversed(streams))
        if isinstance(output, tuple | list):
            return type(output)(stream(part) if hasattr(part, "shape") else part for part in output)
        return stream(output)


@dataclass(frozen=True)
class RandomBlocks(ConditionalPass):
    """A perturbed pass: a random share of the transformer blocks, never the first one, is left out.

    Attributes:
        share: The share of the blocks, 0 to 1; at least one block.
        seed: The seed of the draw.
        index: The step's index; each step has its own draw.
    """

    share: float
    seed: int
    index: int

    def layers(self, denoiser: "Module") -> tuple[str, ...]:
        """The names of the blocks that are left out; at least one.

        Args:
            denoiser: The network.

        Returns:
            The dotted names.

        Raises:
            InputError: The network has fewer than two blocks.
        """
        names = transformer_blocks(denoiser)[1:]
        if not names:
            raise InputError(
                f"s2: {type(denoiser).__name__} has no two transformer blocks, one of which could be left out; use "
                "skip_layers and name a layer."
            )
        count = max(1, round(self.share * len(names)))
        return tuple(Random(f"{self.seed} {self.index}").sample(names, min(count, len(names))))

    def applied(self, denoiser: "Module") -> "AbstractContextManager[Module]":
        return SkippedLayers(self.layers(denoiser), "s2").applied(denoiser)
