"""Access to the layers of a denoiser: found by name, and hooked inside a context. Loads torch when called."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

STACKS = ("transformer_blocks", "blocks", "layers", "single_transformer_blocks")
"""What transformers call their list of blocks; a layer that is a number is one of the first of these."""


def self_attentions(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[Module]":
    """Every self-attention in the named layers: modules with to_q, to_v and to_out that read no text.

    Args:
        denoiser: The network.
        layers: Parts of dotted names, such as `mid`, `up_blocks.1` or `blocks.14`, as in diffusers' pag_applied_layers.
        method: The kind of the transform, for the messages.

    Returns:
        The modules.

    Raises:
        InputError: A layer has no self-attention, or text and image share one attention.
    """
    check_hooks(denoiser, method)
    candidates = {name: module for name, module in denoiser.named_modules() if _is_self_attention(module)}
    modules: list[Module] = []
    for layer in layers:
        attentions = _in_layers(candidates, denoiser, (layer,), method, "self-attention")
        if any(getattr(module, "add_k_proj", None) is not None for module in attentions):
            raise InputError(
                f"{method}: in layer {layer!r} of {_class_name(denoiser)} text and image share one attention, of which "
                "the method says nothing; use skip_layers there."
            )
        modules += [module for module in attentions if module not in modules]
    return modules


def cross_attentions(denoiser: "Module", method: str, layers: tuple[str, ...] = ()) -> "list[Module]":
    """Every attention from the image to the text alone.

    Args:
        denoiser: The network.
        method: The kind of the transform, for the messages.
        layers: Parts of dotted names of the layers that are searched; none for the whole network.

    Returns:
        The modules.

    Raises:
        InputError: There is none, or none in a layer.
    """
    check_hooks(denoiser, method)
    modules = {
        name: module
        for name, module in denoiser.named_modules()
        if _is_attention(module)
        and getattr(module, "is_cross_attention", False)
        and getattr(module, "add_k_proj", None) is None
    }
    if not modules:
        raise InputError(
            f"{method}: no cross-attention in {_class_name(denoiser)}, where text and image share one attention or "
            "there is no text; use a negative prompt and a schedule there."
        )
    return _in_layers(modules, denoiser, layers, method, "cross-attention") if layers else list(modules.values())


def blocks(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[Module]":
    """The module of each layer.

    Args:
        denoiser: The network.
        layers: `mid`, dotted names, or numbers of blocks.
        method: The kind of the transform, for the messages.

    Returns:
        The modules, in the order of the layers.

    Raises:
        InputError: A layer does not exist.
    """
    check_hooks(denoiser, method)
    modules = dict(denoiser.named_modules())
    blocks_found = []
    for layer in layers:
        name = _layer_path(layer, denoiser)
        if not layer or name not in modules:
            raise InputError(f"{method}: no layer {layer!r} in {_class_name(denoiser)}; {_layer_choices(denoiser)}")
        blocks_found.append(modules[name])
    return blocks_found


def transformer_blocks(denoiser: "Module") -> list[str]:
    """The names of the transformer blocks in order.

    Args:
        denoiser: The network.

    Returns:
        The names of the blocks in a transformer's stacks, or inside a UNet's levels.
    """
    stacks = [name for name in STACKS if hasattr(denoiser, name)]
    if stacks:
        return [f"{name}.{index}" for name in stacks for index in range(len(getattr(denoiser, name)))]
    parts = (name.rpartition(".") for name, _ in denoiser.named_modules())
    return [f"{stack}.{index}" for stack, _, index in parts if index.isdigit() and stack.endswith("transformer_blocks")]


def transformer_blocks_in(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[Module]":
    """Every transformer block in the named layers.

    Args:
        denoiser: The network.
        layers: Parts of dotted names, such as `mid`, `down_blocks` or `blocks.14`.
        method: The kind of the transform, for the messages.

    Returns:
        The modules.

    Raises:
        InputError: A layer has no transformer block.
    """
    check_hooks(denoiser, method)
    names = dict.fromkeys(transformer_blocks(denoiser))
    modules = {name: module for name, module in denoiser.named_modules() if name in names}
    return _in_layers(modules, denoiser, layers, method, "transformer block")


def _in_layers(
    modules: "dict[str, Module]", denoiser: "Module", layers: tuple[str, ...], method: str, noun: str
) -> "list[Module]":
    """The modules inside the layers, each once; every layer has one at least."""
    inside: list[Module] = []
    for layer in layers:
        members = [module for name, module in modules.items() if _within(name, layer, denoiser)]
        if not members:
            raise InputError(
                f"{method}: no {noun} in layer {layer!r} of {_class_name(denoiser)}; {_layer_choices(denoiser)}"
            )
        inside += [module for module in members if module not in inside]
    return inside


def check_hooks(denoiser: "Module", method: str) -> None:
    """Refuse a denoiser on whose layers hooks cannot work.

    Args:
        denoiser: The denoiser.
        method: The kind of the transform, for the messages.

    Raises:
        InputError: It is not a network, or it is compiled: a compiled network ignores hooks set afterwards, so nothing
            would be perturbed.
    """
    if not hasattr(denoiser, "named_modules"):
        raise InputError(
            f"{method} on a {_class_name(denoiser)}: it reaches into the layers of a network, and this has none; use a "
            "method that acts on the predictions."
        )
    for module in denoiser.modules():
        # what stands there while a pipeline is guided is false, unless the network is compiled in place
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
            raise InputError(
                f"{method} on a compiled {_class_name(getattr(module, '_orig_mod', module))}: it reaches into the "
                "network by hooks, which a compiled one ignores; use the model uncompiled."
            )


@contextmanager
def hooked(denoiser: "Module", add_hooks: Callable[[list[Any]], None]) -> Iterator[None]:
    """A context in which hooks are set.

    A denoiser that was compiled as a whole, and has kept its own forward as `uncompiled`, runs that one inside.

    Args:
        denoiser: The network.
        add_hooks: Sets the hooks and appends their handles to the list that it is given.

    Yields:
        Nothing; on exit all hooks are removed.
    """
    handles: list[Any] = []
    compiled, uncompiled = denoiser.forward, getattr(denoiser, "uncompiled", None)
    try:
        add_hooks(handles)
        if uncompiled is not None:
            denoiser.forward = uncompiled
        yield
    finally:
        for handle in handles:
            handle.remove()
        if uncompiled is not None:
            denoiser.forward = compiled


def _layer_path(layer: str, denoiser: "Module") -> str:
    """The dotted name that a layer stands for."""
    if layer == "mid":
        return "mid_block"
    if layer.isdigit():
        stack = next((name for name in STACKS if hasattr(denoiser, name)), STACKS[0])
        return f"{stack}.{layer}"
    return layer


def _within(name: str, layer: str, denoiser: "Module") -> bool:
    return bool(layer) and f".{_layer_path(layer, denoiser)}." in f".{name}."


def _is_attention(module: "Module") -> bool:
    return all(hasattr(module, part) for part in ("to_q", "to_k", "to_v", "to_out"))


def _is_self_attention(module: "Module") -> bool:
    return _is_attention(module) and not getattr(module, "is_cross_attention", False)


def _class_name(module: Any) -> str:
    return type(module).__name__


def _layer_choices(denoiser: "Module") -> str:
    """The layers that may be named instead."""
    mid = ["mid"] if getattr(denoiser, "mid_block", None) is not None else []
    stacks = [f"0 to {len(getattr(denoiser, name)) - 1}" for name in STACKS if hasattr(denoiser, name)][:1]
    sides = [f"{side}.0" for side in ("down_blocks", "up_blocks") if hasattr(denoiser, side)]
    choices = ", ".join([*mid, *stacks, *sides]) or "parts of dotted names"
    return f"it has {choices}; name one as layers=…"
