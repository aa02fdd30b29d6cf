"""Tokens in another order before chosen transformer blocks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.perturbations.hooks import (
    IMAGE_KNOWN,
    TEXTS,
    all_run,
    arguments_by_name,
    hooked,
    joins_text,
    parameters_of,
    transformer_blocks_in,
)
from cfglab.guidance.perturbations.joint_attention import NetworkCall, token_order

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class ShuffledTokens(ConditionalPass):
    """A perturbed pass: each transformer block in these layers gets its tokens in another order, and keeps it.

    One order for all the rows, another one for each block and each step.

    Attributes:
        layers: Parts of dotted names, such as `down_blocks`.
        seed: The seed of the orders.
        index: The step's index.
    """

    layers: tuple[str, ...]
    seed: int
    index: int

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        blocks, call = transformer_blocks_in(denoiser, self.layers, "tpg"), NetworkCall(denoiser)
        order = token_order(denoiser)
        unknown = order is None and joins_text(denoiser)

        def add_hooks(handles: list[Any]) -> None:
            handles.append(denoiser.register_forward_pre_hook(call.read, with_kwargs=True))
            checked = _stacks_of(denoiser, blocks) if unknown else []
            handles.extend(block.register_forward_pre_hook(_check_text, with_kwargs=True) for block in checked)
            for number, block in enumerate(blocks):
                joint = order is not None and order.single and "encoder_hidden_states" not in parameters_of(block)
                shuffler = self.shuffler(number, call.image if joint else None)
                handles.append(block.register_forward_pre_hook(shuffler, with_kwargs=True))

        with all_run(denoiser, blocks, "tpg"), hooked(denoiser, add_hooks):
            yield denoiser

    def shuffler(self, number: int, image: Callable[[int], slice] | None = None) -> Any:
        """The hook of one block: its hidden states, (n, tokens, channels), in another order.

        Args:
            number: The number of the block among those that are shuffled.
            image: Where the image is among so many tokens; the others stay. None if all are the image's.

        Returns:
            A forward pre-hook with keyword arguments.
        """

        def hook(block: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
            hidden: Any = args[0] if args else kwargs.get("hidden_states")
            if getattr(hidden, "ndim", 0) != 3:
                raise InputError(
                    f"tpg: a {type(block).__name__} that is given no tokens, (n, tokens, channels), first; name other "
                    "blocks as layers=…"
                )
            part = slice(0, hidden.shape[1]) if image is None else image(hidden.shape[1])
            shuffled = hidden.clone()
            shuffled[:, part] = hidden[:, part][:, self.order(number, hidden[:, part])]
            return ((shuffled, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": shuffled})

        return hook

    def order(self, number: int, hidden: "Tensor") -> "Tensor":
        """The order of the tokens for one block.

        Args:
            number: The number of the block among those that are shuffled.
            hidden: (n, tokens, channels).

        Returns:
            A permutation of the tokens, (tokens,), on the device of `hidden`.
        """
        import torch

        generator = torch.Generator().manual_seed(Random(f"{self.seed} {self.index} {number}").getrandbits(63))
        return torch.randperm(hidden.shape[1], generator=generator).to(hidden.device)


def _stacks_of(denoiser: "Module", blocks: "list[Module]") -> "list[Module]":
    """Every block in the stacks of some blocks: those of one stack read the same tokens one after another."""
    names = {module: name for name, module in denoiser.named_modules()}
    stacks = {names[block].rpartition(".")[0] for block in blocks}
    return [module for module, name in names.items() if name.rpartition(".")[0] in stacks]


def _check_text(block: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse a block that is given no tokens of a text, (n, tokens, channels), behind its first argument."""
    behind = arguments_by_name(block, args, kwargs)
    first = next(iter(parameters_of(block)), "")
    if not any(name in TEXTS and name != first and getattr(value, "ndim", 0) > 2 for name, value in behind.items()):
        raise InputError(
            f"tpg: a {type(block).__name__} is given no text beside the image, so both may be one sequence; "
            f"{IMAGE_KNOWN}; name other blocks as layers=…, or use skip_layers."
        )
