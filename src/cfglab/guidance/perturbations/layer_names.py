"""The names of layers: dotted names of diffusers, numbers of blocks, and what published code calls them."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cfglab.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

STACKS = (
    "transformer_blocks",
    "blocks",
    "layers",
    "single_transformer_blocks",
    "transformer_layers",
    "double_stream_blocks",
    "single_stream_blocks",
)
"""What transformers call their list of blocks; a layer that is a number is one of the first of these."""

ALIASES = {
    "double": "transformer_blocks",
    "double_blocks": "transformer_blocks",
    "joint_blocks": "transformer_blocks",
    "single": "single_transformer_blocks",
    "single_blocks": "single_transformer_blocks",
}
"""Names of stacks in the code of Black Forest Labs, Stability AI and ComfyUI; `blocks` is the first stack there is."""

_RANGE = re.compile(r"(?P<before>(?:.*\.)?)(?P<first>[0-9]{1,4})-(?P<last>[0-9]{1,4})")
_UNET = re.compile(
    r"(?P<side>[dmu])(?P<first>[0-9]{1,4})(?:-(?P<last>[0-9]{1,4}))?"
    r"(?:\.(?P<inner>[0-9]{1,4}(?:-[0-9]{1,4})?))?"
)
_NUMBERED = re.compile(r"(?P<stack>.*?)\.(?P<number>\d+)(?:\.|$)")
_SIDES = {"d": "down_blocks", "m": "mid_block", "u": "up_blocks"}
_LETTERS = {side: letter for letter, side in _SIDES.items()}


def layer_paths(layer: str, denoiser: "Module") -> list[str]:
    """The dotted names that a layer stands for.

    Args:
        layer: `mid`; a dotted name of diffusers; a number, that of a block of the first stack; `double.3` or `single.3`
            (Flux), also as `double_blocks.3` and `single_blocks.3`; `joint_blocks.7` (SD 3); `blocks.7` for any
            transformer; `d2.2-9`, `m0`, `u1` as in pamparamm's nodes for UNets: the third group of transformer blocks
            on the way down, of it the blocks 2 to 9. A number may be a range, `7-9`.
        denoiser: The network.

    Returns:
        Dotted names, of which some may not exist; none for a number where the network has no stack.

    Raises:
        InputError: A range runs downwards.
    """
    if layer == "mid":
        return ["mid_block"]
    if hasattr(denoiser, "down_blocks") and (groups := _UNET.fullmatch(layer)):
        return _unet_paths(groups, denoiser)
    if span := _RANGE.fullmatch(layer):
        numbers = _span(layer, span["first"], span["last"])
        return [path for number in numbers for path in layer_paths(f"{span['before']}{number}", denoiser)]
    first = next((name for name in STACKS if hasattr(denoiser, name)), None)
    if layer.isdigit():
        return [] if first is None else [f"{first}.{layer}"]
    stack, dot, rest = layer.partition(".")
    children = dict(denoiser.named_children())
    own = first if stack == "blocks" and first is not None else ALIASES.get(stack, stack)
    return [f"{stack if stack in children or own not in children else own}{dot}{rest}"]


def layer_choices(denoiser: "Module", names: Iterable[str], *, skipped: bool = False) -> str:
    """The layers that may be named, for messages.

    Args:
        denoiser: The network.
        names: The dotted names of what a method changes, or of the blocks that can be left out.
        skipped: Whether they are left out: then not those of a UNet that change the size of the image.

    Returns:
        A clause.
    """
    names = list(names)
    first = next((name for name in STACKS if hasattr(denoiser, name)), None)
    stacks: dict[str, list[int]] = {}
    for name in names:
        if (found := _NUMBERED.match(name)) and not name.startswith("mid_block"):
            stacks.setdefault(found["stack"], []).append(int(found["number"]))
    middle = getattr(denoiser, "mid_block", None) is not None
    choices = ["mid"] if middle and (skipped or any(name.startswith("mid_block") for name in names)) else []
    for stack in sorted(stacks, key=lambda stack: stack != first):
        low, high = min(stacks[stack]), max(stacks[stack])
        if stack in _LETTERS:
            choices.append(f"{_LETTERS[stack]}0" if skipped else f"{stack}.{low}")
            continue
        short = {first: "", ALIASES["single"]: "single."}.get(stack, f"{stack}.")
        gapless = {*stacks[stack]} == {*range(low, high + 1)}
        choices.append(f"{short}{low} to {short}{high}" if gapless and low < high else f"{short}{low}")
    if not (choices := choices or names[:1]):
        return "no layer of this network is known to have it; leave the method out."
    return f"it has {', '.join(choices)}; name one as layers=…"


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


def _unet_paths(wanted: "re.Match[str]", denoiser: "Module") -> list[str]:
    """`d2.2-9`: transformer blocks 2 to 9 of the third group of the UNet's way down."""
    groups: dict[str, list[str]] = {}
    for name in transformer_blocks(denoiser):
        if name.startswith(_SIDES[wanted["side"]]):
            groups.setdefault(name.rpartition(".")[0], []).append(name)
    numbers = _span(wanted[0], wanted["first"], wanted["last"])
    chosen = list(groups.values())[numbers.start : numbers.stop] if numbers[-1] < len(groups) else []
    if wanted["inner"] is None:
        return [name for group in chosen for name in group] or [wanted[0]]
    begin, _, end = wanted["inner"].partition("-")
    inside = _span(wanted[0], begin, end)
    return [f"{group[0].rpartition('.')[0]}.{number}" for group in chosen for number in inside] or [wanted[0]]


def _span(layer: str, first: str, last: str | None) -> range:
    """The numbers of a layer that is a number or a range of them."""
    numbers = range(int(first), int(last or first) + 1)
    if not numbers:
        raise InputError(f"layer {layer!r}: {first}-{last} has no number in it, a range goes up; write {last}-{first}.")
    return numbers
