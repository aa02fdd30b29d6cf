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
from cfglab.guidance.perturbations.layer_names import layer_choices, transformer_blocks

if TYPE_CHECKING:
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
        text_first = _stack(denoiser) if token_order(denoiser) is not None else set()

        def skipped(block: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            found = _inputs_of(block, args, kwargs, output, text_first=block in text_first)
            if isinstance(found, str):
                raise InputError(
                    f"{self.method}: layer {names[block]!r}, a {type(block).__name__}, {found}, so it cannot be "
                    f"skipped; {self._advice(denoiser, block)}"
                )
            return found

        def add_hooks(handles: list[Any]) -> None:
            handles.extend(block.register_forward_hook(skipped, with_kwargs=True) for block in names)

        with all_run(denoiser, names, self.method), hooked(denoiser, add_hooks):
            yield denoiser

    def _advice(self, denoiser: "Module", block: "Module") -> str:
        """The next step after a layer that cannot be skipped."""
        stack = _stack(denoiser)
        if block in stack:
            return f"leave {self.method} out for this {type(denoiser).__name__}."
        if not stack:
            return "name a part that gives the shape it is given as layers=…"
        return layer_choices(denoiser, transformer_blocks(denoiser), skipped=True)


def _stack(denoiser: "Module") -> "set[Module]":
    """The transformer blocks of a network."""
    modules = dict(denoiser.named_modules())
    return {modules[name] for name in transformer_blocks(denoiser) if name in modules}


def _inputs_of(block: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, *, text_first: bool) -> Any:
    """The inputs that a block's outputs stand for: one of the same shape each, in the order of the outputs.

    Args:
        block: The block.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        output: What it gives.
        text_first: Whether it is a block of a network of `joint_attention.ORDERS`: with two streams these give (text,
            image), which says which is which where both have one shape. An attention inside of it gives (image, text).

    Returns:
        What stands in place of the output; a str if that cannot be told, the reason.
    """
    arguments = inspect.signature(type(block).forward).bind(block, *args, **kwargs).arguments
    first = next((value for value in args if hasattr(value, "shape")), None)
    others = (value for name, value in arguments.items() if name.endswith("_hidden_states"))
    streams = [value for value in (arguments.get("hidden_states", first), *others) if hasattr(value, "shape")]
    several = isinstance(output, tuple | list)
    parts = [part for part in output if hasattr(part, "shape")] if several else [output]
    if not all(hasattr(part, "shape") for part in parts):
        return f"gives a {type(output).__name__}"
    fitting = [[stream for stream in streams if stream.shape == part.shape] for part in parts]
    if not parts or not all(fitting):
        return "changes the shape"
    if text_first and [part.shape for part in parts] == [stream.shape for stream in reversed(streams)]:
        chosen = streams[::-1]
    elif len(parts) > 1 and any(len(candidates) > 1 for candidates in fitting):
        return "has two streams of one shape"
    else:
        chosen = [candidates[0] for candidates in fitting]
    if len({id(stream) for stream in chosen}) < len(chosen):
        return "gives several outputs for one input"
    if not several:
        return chosen[0]
    inputs = iter(chosen)
    return type(output)(next(inputs) if hasattr(part, "shape") else part for part in output)


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
