"""Access to the layers of a denoiser: found by name, and hooked inside a context. Loads torch when called."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.layer_names import layer_choices, layer_paths, transformer_blocks

if TYPE_CHECKING:
    from torch.nn import Module

IMAGE_KNOWN = "which tokens are the image is known for SD 3, Flux, Chroma, Qwen-Image and Z-Image"
"""Of networks that read text and image as one sequence, for messages."""

TEXTS = ("encoder_hidden_states", "text_embed", "text_v", "context", "txt", "caption", "cond", "y")
"""What blocks call the tokens of the text that they are given beside those of the image."""

_BESIDE = {
    "time_caption_embed": "reads a mean of its text beside attention",
    "add_time_condition": "reads a mean of its text beside attention",
    "image_latents_context_embedding": "puts the tokens of an image behind those of its text",
}
"""Parts of Lumina, Kandinsky 3 and I2VGen-XL, and what these networks do with their text outside of attention."""

_TEXT = re.compile(r"encoder_hidden_states|text|txt|cap_feats|caption|input_ids|prompt")
"""In the names of the arguments that networks call their text."""


def self_attentions(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[Module]":
    """Every self-attention in the named layers: modules with to_q, to_v and to_out that read no text.

    Args:
        denoiser: The network.
        layers: Names of layers, such as `mid` or `up_blocks.1`, as in diffusers' pag_applied_layers.
        method: The kind of the transform, for the messages.

    Returns:
        The modules.

    Raises:
        InputError: A layer has no self-attention, or text and image share one attention.
    """
    check_hooks(denoiser, method)
    candidates = {name: module for name, module in denoiser.named_modules() if _is_self_attention(module)}
    modules: list[Module] = []
    joint = joins_text(denoiser)
    for layer in layers:
        if joint and candidates:  # then no other layer would do
            raise InputError(
                f"{method}: in {_class_name(denoiser)} text and image share one attention; {IMAGE_KNOWN}; use "
                "skip_layers here."
            )
        attentions = in_layers(candidates, denoiser, (layer,), method, "self-attention")
        if any(getattr(module, "add_k_proj", None) is not None for module in attentions):
            raise InputError(
                f"{method}: in layer {layer!r} of {_class_name(denoiser)} text and image share one attention; "
                f"{IMAGE_KNOWN}; use skip_layers here."
            )
        modules += [module for module in attentions if module not in modules]
    return modules


def joins_text(denoiser: "Module") -> bool:
    """Whether a network may read text and image as one sequence: it is given a text, and no attention reads it alone.

    Args:
        denoiser: The network.

    Returns:
        True if it may.
    """
    modules = dict(denoiser.named_modules())
    given = {name for name, module in modules.items() if name and not set(parameters_of(module)).isdisjoint(TEXTS)}
    for name, module in modules.items():
        parts = name.split(".") if getattr(module, "is_cross_attention", False) else []
        if any(".".join(parts[:length]) in given for length in range(1, len(parts))):  # inside a block with a text
            return False
    return any(_TEXT.search(name) for name in parameters_of(denoiser))


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
    return in_layers(modules, denoiser, layers, method, "cross-attention") if layers else list(modules.values())


def check_attention_alone_reads(denoiser: "Module", method: str) -> None:
    """Refuse a network that does more with its text than to read it in attention.

    Args:
        denoiser: The network.
        method: The kind of the transform, for the message.

    Raises:
        InputError: It puts a mean of the text into the embedding of its timestep, or an image beside the text.
    """
    for name, what in _BESIDE.items():
        if hasattr(denoiser, name):
            raise InputError(
                f"{method}: {_class_name(denoiser)} {what}, of which the method says nothing; leave it out for this "
                "network."
            )


def beside_the_text(attention: "Module", method: str) -> InputError:
    """The error for an attention that reads more than a text, such as an image or a face.

    Args:
        attention: The attention.
        method: The kind of the transform.

    Returns:
        The error.
    """
    return InputError(
        f"{method}: a {type(attention).__name__} of this network reads something beside the text, of which the method "
        "says nothing; leave it out for this network."
    )


def blocks(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[tuple[str, Module]]":
    """The modules of each layer.

    Args:
        denoiser: The network.
        layers: `mid`, dotted names, numbers of blocks, or other names of `layer_paths`.
        method: The kind of the transform, for the messages.

    Returns:
        Each module with its layer, in the order of the layers.

    Raises:
        InputError: A layer does not exist, or is a list of layers, which does not run itself.
    """
    check_hooks(denoiser, method)
    modules = {name: module for name, module in denoiser.named_modules() if name and _runs(module)}
    blocks_found = []
    for layer in layers:
        paths = layer_paths(layer, denoiser)
        if not paths or not all(path in modules for path in paths):
            raise InputError(
                f"{method}: no layer {layer!r} in {_class_name(denoiser)} that can be left out; "
                f"{layer_choices(denoiser, transformer_blocks(denoiser), skipped=True)}"
            )
        blocks_found += [(layer, modules[path]) for path in paths]
    return blocks_found


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
    return in_layers(modules, denoiser, layers, method, "transformer block")


def in_layers(
    modules: "dict[str, Module]", denoiser: "Module", layers: tuple[str, ...], method: str, noun: str
) -> "list[Module]":
    """The modules inside the layers.

    Args:
        modules: The candidates by their dotted names.
        denoiser: The network.
        layers: Names of layers, as in `layer_paths`, or parts of dotted names.
        method: The kind of the transform, for the messages.
        noun: What the candidates are, for the messages.

    Returns:
        The modules, each once, in the order of the layers.

    Raises:
        InputError: A layer has none.
    """
    inside: list[Module] = []
    for layer in layers:
        for path in layer_paths(layer, denoiser) or [""]:
            members = [module for name, module in modules.items() if path and f".{path}." in f".{name}."]
            if not members:
                raise InputError(
                    f"{method}: no {noun} in layer {layer!r} of {_class_name(denoiser)}; "
                    f"{layer_choices(denoiser, modules)}"
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


@contextmanager
def all_run(denoiser: "Module", parts: "Iterable[Module]", method: str) -> Iterator[None]:
    """A context in which parts of a network have to run if it runs: a hook on another one changes nothing.

    Args:
        denoiser: The network.
        parts: The modules that are changed by hooks.
        method: The kind of the transform, for the messages.

    Yields:
        Nothing.

    Raises:
        InputError: The network has run, and one of the parts has not.
    """
    expected, ran = [denoiser, *parts], set()
    handles = [module.register_forward_pre_hook(lambda module, _: ran.add(module)) for module in expected]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    idle = {*expected} - ran if denoiser in ran else set()
    if idle and (left := [name for name, module in denoiser.named_modules() if module in idle]):
        raise InputError(
            f"{method}: {left[0]!r} of {_class_name(denoiser)} is not used where it runs, so nothing is changed there: "
            "fused projections, or a part that is switched off; unfuse them, or name other layers as layers=…"
        )


def parameters_of(module: "Module") -> list[str]:
    """The arguments of a module's `forward`.

    Args:
        module: The module.

    Returns:
        Their names, in order.
    """
    return list(_parameters(type(module).forward))


@lru_cache(maxsize=1024)  # passes ask for those of every module of a network
def _parameters(forward: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(forward).parameters)[1:]


def arguments_by_name(module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call of a module.

    Args:
        module: The module.
        args: Those by position.
        kwargs: Those by name.

    Returns:
        All of them by name.
    """
    return dict(zip(parameters_of(module), args, strict=False)) | kwargs


def _runs(module: "Module") -> bool:
    """Whether a module is called: a list of modules is not, and has no `forward` of its own."""
    return getattr(module.forward, "__name__", "") != "_forward_unimplemented"


def _is_attention(module: "Module") -> bool:
    return all(hasattr(module, part) for part in ("to_q", "to_k", "to_v", "to_out"))


def _is_self_attention(module: "Module") -> bool:
    return _is_attention(module) and not getattr(module, "is_cross_attention", False)


def _class_name(module: Any) -> str:
    return type(module).__name__
