"""What a pipeline's own source says of its layout: for classes that are not in the table, and to see that the table
still fits the diffusers that is installed."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from cfglab.errors import InputError
from cfglab.pipelines.profiles.profile import Profile

NETWORKS = (
    *("unet", "image_unet", "transformer", "transformer_2", "unconditional_transformer"),
    *("current_model", "prior", "decoder"),
)
UNCOND = ("uncond", "neg", "null")


@dataclass(frozen=True)
class Source:
    """What was read; "" and empty where nothing was found."""

    parts: tuple[str, ...] = ()
    """Names of the chunks of the batch, in order, as "uncond", "cond" or the name itself."""
    calls: int = 0
    """Calls of a denoiser in the loop."""
    formula: str = ""
    """Of u, c and g."""
    post_combine: tuple[str, ...] = ()
    """Functions or arguments that follow the combine: "rescale", "norm"."""
    networks: tuple[str, ...] = ()
    """Components that are called in the loop."""

    @property
    def layout(self) -> str:
        """As a Profile has it, or "" where it is not clear."""
        if len(self.parts) in (2, 3) and self.calls <= 1:
            return "batched"
        return "two calls" if self.calls == 2 and not self.parts else ""

    @property
    def description(self) -> str:
        """One line for people."""
        if not self.parts and not self.formula:
            return "no combine of two predictions was found in its source"
        batch = f"a batch of [{'; '.join(self.parts)}]" if self.parts else f"{self.calls or 'no'} denoiser calls a step"
        return f"its source has {batch}" + (f", combined as {self.formula}" if self.formula else "")


@cache
def read_source(kind: Any) -> Source:
    """Read the layout of a pipeline class from its source: `__call__`, and a loop in another method.

    Args:
        kind: The class.

    Returns:
        What was found; an empty Source without source code.
    """
    names = [name for name in ("__call__", "denoise", "_denoise_loop") if hasattr(kind, name)]
    try:
        texts = [inspect.getsource(inspect.unwrap(getattr(kind, name))) for name in names]
    except (OSError, TypeError):
        return Source()
    nodes = [node for text in texts for node in ast.walk(ast.parse(textwrap.dedent(text)))]
    text = "\n".join(texts)
    chunks = [tuple(map(_part, chunk)) for node in nodes if (chunk := _chunks(node))]
    parts: tuple[str, ...] = next((names for names in chunks if {"uncond", "cond"} <= set(names)), ())
    if "_apply_perturbed_attention_guidance(" in text:
        parts = ("uncond", "cond", "perturbed")
    loops = [node for node in nodes if isinstance(node, ast.For)]
    called = {id(node): name for loop in loops for node in ast.walk(loop) if (name := _network(node))}
    formula = next((words for node in nodes if (words := _formula(node))), "")
    post_combine = tuple(
        name for name, sign in (("rescale", "rescale_noise_cfg("), ("norm", "_norm = torch.")) if sign in text
    )
    return Source(parts, len(called), formula, post_combine, tuple(dict.fromkeys(called.values())))


def check_source(kind: Any, profile: Profile) -> None:
    """Compare the installed diffusers with a profile.

    Args:
        kind: The pipeline class.
        profile: Its profile.

    Raises:
        InputError: The source has another layout than the profile.
    """
    source = read_source(kind)
    if not source.layout or profile.layout == "embedded":
        return
    plain = [part for part in source.parts if part in ("uncond", "cond")]
    expected = [part for part in profile.parts if part in ("uncond", "cond")]
    has_third_part = "neither" in profile.parts  # whose names mean something else
    counts = {len(profile.parts)}
    if has_third_part and profile.third_from:  # the source may have a branch for each
        counts.add(2)
    if source.layout != profile.layout or (source.parts and len(source.parts) not in counts):
        layout = f"{profile.layout}, {len(profile.parts)} parts"
    elif source.layout == "batched" and len(plain) == 2 and plain != expected and not has_third_part:
        layout = f"[{'; '.join(profile.parts)}]"
    else:
        return
    raise InputError(
        f"{kind.__name__} of the installed diffusers is not laid out as cfglab knows it ({layout}): "
        f"{source.description}; use the diffusers that cfglab was tested with, or pass profile=Profile(...)."
    )


def _chunks(node: ast.AST) -> tuple[str, ...]:
    """`a, b = x.chunk(2)`."""
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Call(func=ast.Attribute(attr="chunk" | "split"))):
            targets = tuple(ast.unparse(name) for name in names)
            return targets if all(name.isidentifier() for name in targets) and "_" not in targets else ()
    return ()


def _network(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name if name in NETWORKS else ""
    return ""


def _formula(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="lerp"), args=[_, _, _]):
            return "lerp(u, c, g)"
        case ast.BinOp(left=start, op=ast.Add(), right=ast.BinOp(op=ast.Mult()) as product):
            for minuend, subtrahend in _differences(product):
                if _is_uncond(subtrahend) and not _is_uncond(minuend):
                    return "u + g (c - u)" if _is_uncond(ast.unparse(start)) else "c + g (c - u)"
        case ast.BinOp(left=ast.BinOp(op=ast.Mult()) as one, op=ast.Sub(), right=ast.BinOp(op=ast.Mult()) as other):
            if _is_uncond(ast.unparse(other)) and "+ 1" in ast.unparse(one):
                return "(g + 1) c - g u"
    return ""


def _differences(product: ast.BinOp) -> Iterator[tuple[str, str]]:
    for side in (product.left, product.right):
        if isinstance(side, ast.BinOp) and isinstance(side.op, ast.Sub):
            yield ast.unparse(side.left), ast.unparse(side.right)


def _is_uncond(name: str) -> bool:
    return any(word in name for word in UNCOND)


def _part(name: str) -> str:
    return "uncond" if _is_uncond(name) else "cond" if any(word in name for word in ("text", "cond", "pos")) else name
