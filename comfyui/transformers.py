"""Perturbed passes of ComfyUI's transformers: hooks on their blocks, and its override of attention."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.perturbations.flipped_values import FlippedValues
from cfglab.guidance.perturbations.hooks import in_layers
from cfglab.guidance.perturbations.joint_attention import Z_MULTIPLE, Grid, Product
from cfglab.guidance.perturbations.layer_names import layer_choices, layer_paths, transformer_blocks
from cfglab.guidance.perturbations.normalized_attention import NormalizedAttention
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.skipped_layers import RandomBlocks, SkippedLayers
from cfglab.guidance.perturbations.sparse_attention import LEVELS, SparseAttention

from .layouts import LAYOUTS, Stack, encoded, refuse_masks, twice, with_names_of_diffusers, without_zeros

PASSES = (
    *(IdentityAttention, BlurredQueries, ShuffledTokens, SkippedLayers, RandomBlocks, SparseAttention),
    *(NormalizedAttention, FlippedValues),
)
"""Perturbed passes of the networks in `LAYOUTS`."""


def last_of_text(product: Product, count: int) -> Tensor:
    """The places in the text of its last tokens, those of a further prompt behind the own one.

    Args:
        product: A product with the text.
        count: How many tokens the further prompt has.

    Returns:
        (1, count), as `FlippedValues.of_product` takes them.
    """
    start, stop, _ = (product.text or slice(0, count)).indices(product.key.shape[2])
    return torch.arange(stop - start - count, stop - start, device=product.key.device)[None]


@dataclass(eq=False)
class _Attention:
    """An attention that runs, and how many products it has had."""

    module: Any
    text: int | None
    """The number of tokens of the text in a sequence of text and image; 0 for the image alone, None for the text."""
    products: int = 0


@dataclass(eq=False)
class TransformerPatches:
    """Options of a run, and hooks, with which a transformer makes one perturbed pass.

    Attributes:
        options: The options.
        network: The network, one of `LAYOUTS`.
        called: Whether the network ran what was changed.
        handles: The hooks; to be removed after the pass.
    """

    options: dict[str, Any]
    network: Any
    called: bool = False
    handles: list[Any] = field(default_factory=list)
    names: Any = field(init=False)
    """The network's blocks under the names that diffusers gives them."""
    _running: list[_Attention] = field(default_factory=list)
    _sample: tuple[int, ...] = ()
    _texts: int = 0
    """The tokens of the text in the last block that was given text and image apart."""
    _images: int = 0
    """Those of the image in the last block that was given it alone."""
    _missing: Tensor | None = None
    """By how many tokens the text of each row is shorter than the longest."""

    def __post_init__(self) -> None:
        self.names = with_names_of_diffusers(self.network)

    def set(self, wanted: Perturbation, prompt: Any) -> None:
        """Prepare one pass.

        Args:
            wanted: The pass, one of `PASSES`.
            prompt: The conditions of its further prompt; None if it has none.

        Raises:
            InputError: The network has no such layer, or says nothing of the method.
        """
        match wanted:
            case IdentityAttention():
                self._replace(self._chosen(wanted.layers, "pag", text=False), wanted.of_product)
            case BlurredQueries():
                self._replace(self._chosen(wanted.layers, "seg", text=False), wanted.of_product)
            case SparseAttention():
                layers = () if wanted.layers == LEVELS else wanted.layers
                self._replace(self._chosen(layers, "pladis", text=True), wanted.of_product)
            case ShuffledTokens():
                self._shuffle(wanted)
            case RandomBlocks():
                self._skip(wanted.layers(self.names), "s2")
            case SkippedLayers():
                self._skip(wanted.layers, wanted.method)
            case NormalizedAttention():
                self._normalize(wanted, prompt)
            case FlippedValues():
                self._flip(wanted, prompt)

    # -- layers --------------------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[tuple[str, Any, Stack]]:
        """Every block with its name and its stack."""
        for name, stack in LAYOUTS[type(self.network).__name__].items():
            for number, block in enumerate(getattr(self.network, stack.blocks)):
                yield f"{name}.{number}", block, stack

    def _chosen(self, layers: tuple[str, ...], method: str, *, text: bool) -> list[Any]:
        """The attentions in these layers, or in every block, that read the image or that read the text."""
        candidates = {}
        for name, block, stack in self._blocks():
            if hasattr(block, "cross_attn"):
                candidates[name] = block.cross_attn if text else block.self_attn
            elif not text or stack.text is not None or stack.joint:
                candidates[name] = block
        noun = "attention to the text" if text else "self-attention"
        return in_layers(candidates, self.names, layers or tuple(transformer_blocks(self.names)), method, noun)

    def _skip(self, layers: tuple[str, ...], method: str) -> None:
        from comfy.model_patcher import set_model_options_patch_replace

        def skipped(args: dict[str, Any], _: Any) -> dict[str, Any]:
            self.called = True
            return args

        def unchanged(_: Any, args: tuple[Any, ...], __: Any) -> Any:
            self.called = True
            return args[0]

        blocks = {name: (block, stack) for name, block, stack in self._blocks()}
        for path in (path for layer in layers for path in layer_paths(layer, self.names) or [layer]):
            if path not in blocks:
                raise InputError(
                    f"{method}: no layer {path!r} in {type(self.network).__name__}; {layer_choices(self.names, blocks)}"
                )
            block, stack = blocks[path]
            if stack.patch:
                number = int(path.rpartition(".")[2])
                self.options = set_model_options_patch_replace(self.options, skipped, "dit", stack.patch, number)
            else:
                self.handles.append(block.register_forward_hook(unchanged))

    def _shuffle(self, wanted: ShuffledTokens) -> None:
        self._observe()
        blocks = {name: block for name, block, _ in self._blocks()}
        stacks = {block: stack for _, block, stack in self._blocks()}
        chosen = in_layers(blocks, self.names, wanted.layers, "tpg", "transformer block")
        for number, block in enumerate(chosen):

            def shuffle(
                block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], number: int = number
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                self.called, stack = True, stacks[block]
                hidden = args[stack.image] if isinstance(stack.image, int) else kwargs[stack.image]
                part = slice(self._text_in(hidden.shape[1]) if stack.joint else 0, None)
                shuffled = hidden.clone()
                shuffled[:, part] = hidden[:, part][:, wanted.order(number, hidden[:, part])]
                if isinstance(stack.image, int):
                    return (*args[: stack.image], shuffled, *args[stack.image + 1 :]), kwargs
                return args, {**kwargs, stack.image: shuffled}

            self.handles.append(block.register_forward_pre_hook(shuffle, with_kwargs=True))

    # -- products ------------------------------------------------------------------------------------------------------

    def _observe(self) -> None:
        """Hooks that note the sample of the network, and the numbers of tokens that its blocks are given."""

        def read(_: Any, args: tuple[Any, ...], __: Any) -> None:
            self._sample = tuple(args[0].shape)

        def count(stack: Stack) -> Callable[..., None]:
            def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if stack.text is not None:
                    text = args[stack.text] if isinstance(stack.text, int) else kwargs[stack.text]
                    self._texts = text.shape[1]
                elif not stack.joint:
                    self._images = args[0].shape[1]

            return hook

        self.handles.append(self.network.register_forward_pre_hook(read, with_kwargs=True))
        for _, block, stack in self._blocks():
            self.handles.append(block.register_forward_pre_hook(count(stack), with_kwargs=True))

    def _text_in(self, length: int) -> int:
        """The number of tokens of the text in a sequence of text and image."""
        return self._texts or length - self._images

    def _replace(self, attentions: list[Any], replacement: Callable[[Product], Tensor]) -> None:
        """Put `replacement` in the place of the products of these attentions."""
        self._observe()
        stacks = {block: stack for _, block, stack in self._blocks()}

        def begin(attention: Any, args: tuple[Any, ...], _: Any) -> None:
            stack = stacks.get(attention)
            if stack is None:  # one of two in a block
                text = 0 if attention in self_attentions else None
            elif stack.joint:
                text = self._text_in(args[0].shape[1])
            else:
                text = 0 if stack.text is None else self._texts
            self._running.append(_Attention(attention, text))

        def end(*_: Any) -> None:
            self._running.pop()

        self_attentions = {getattr(block, "self_attn", None) for block in stacks}
        for attention in attentions:
            self.handles.append(attention.register_forward_pre_hook(begin, with_kwargs=True))
            self.handles.append(attention.register_forward_hook(end, always_call=True))
        transformer = dict(self.options["transformer_options"])
        previous = transformer.get("optimized_attention_override")

        def override(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
            if self._running:
                self.called = True
                return self._product(self._running[-1], replacement, *args, **kwargs)
            return function(*args, **kwargs) if previous is None else previous(function, *args, **kwargs)

        transformer["optimized_attention_override"] = override
        self.options["transformer_options"] = transformer

    def _product(
        self,
        attention: _Attention,
        replacement: Callable[[Product], Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        attn_precision: Any = None,  # noqa: ARG002
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        **_: Any,
    ) -> Tensor:
        """One product: the tensors are (n, tokens, channels of all heads), or (n, heads, tokens, channels)."""
        if not skip_reshape:
            q, k, v = (tensor.reshape(len(q), -1, heads, q.shape[2] // heads).transpose(1, 2) for tensor in (q, k, v))
        if mask is not None:
            mask = mask[(None,) * (mask.ndim == 2)]
            mask = mask[:, None] if mask.ndim == 3 else mask
        number, attention.products = attention.products, attention.products + 1
        image, text = slice(0, q.shape[2]), None
        if attention.text is None:
            if number == hasattr(attention.module, "k_img"):  # its first product reads an image
                text = slice(0, k.shape[2])
        elif attention.text and not number:  # SD 3's second one reads the image alone
            text = slice(0, attention.text)
            image = slice(attention.text, self._end(attention.text, q.shape[2]))
        output = replacement(Product(q, k, v, mask, {}, image, text, self._grid, attention.module))
        return output if skip_output_reshape else output.transpose(1, 2).flatten(2)

    def _end(self, text: int, length: int) -> int:
        """The end of the image, behind which Z-Image fills a sequence up."""
        tokens = prod(self._sizes())
        return text + tokens if not self._texts and 0 < length - text - tokens < Z_MULTIPLE else length

    def _sizes(self) -> Grid:
        """The frames, rows and columns of the sample's tokens."""
        patch, sizes = self.network.patch_size, self._sample[2:]
        patches = (*(1,) * (len(sizes) - 2), patch, patch) if isinstance(patch, int) else patch
        counts = [ceil(size / step) for size, step in zip(sizes, patches, strict=True)]
        return (counts[0] if len(counts) == 3 else 1, counts[-2], counts[-1])

    def _grid(self, positions: int) -> Grid | None:
        sizes = self._sizes()
        return sizes if prod(sizes) == positions else None

    # -- a further text ------------------------------------------------------------------------------------------------

    def _normalize(self, wanted: NormalizedAttention, prompt: Any) -> None:
        """Both texts go through the network: as twice the rows, or one behind the other where they are read alone."""
        if attentions := self._cross_attentions():
            tokens = self._lengthen(prompt, "nag")

            def guided(product: Product) -> Tensor:
                if product.text is None:
                    return product.output()
                parts = (slice(0, -tokens), slice(-tokens, None))
                own, other = (
                    replace(product, key=product.key[:, :, part], value=product.value[:, :, part]).output()
                    for part in parts
                )
                flat = wanted.guided(own.transpose(1, 2).flatten(2), other.transpose(1, 2).flatten(2))
                return flat.unflatten(2, (own.shape[1], -1)).transpose(1, 2)

            self._replace(attentions, guided)
            return
        self._double(prompt)

        def of_both(product: Product) -> Tensor:
            return wanted.of_product(replace(product, mask=self._without_missing(product)))

        self._replace(self._chosen((), "nag", text=True), of_both)

    def _flip(self, wanted: FlippedValues, prompt: Any) -> None:
        if type(self.network).__name__ == "NextDiT":
            raise InputError(
                "vsf on a NextDiT: there the image stands at another position for another length of the text, of which "
                "the method says nothing; leave it out."
            )
        tokens = self._lengthen(prompt, "vsf", filled=False)
        attentions = self._cross_attentions() or self._chosen((), "vsf", text=True)
        self._replace(attentions, lambda product: wanted.of_product(product, last_of_text(product, tokens)))

    def _cross_attentions(self) -> list[Any]:
        """Every attention to the text alone, those outside of `LAYOUTS` too: the further text is in front of all."""
        return [module for name, module in self.network.named_modules() if name.endswith(".cross_attn")]

    def _lengthen(self, prompt: Any, method: str, *, filled: bool = True) -> int:
        """Put the tokens of the further prompt behind those of the own text.

        Args:
            prompt: Its conditions.
            method: The kind of the transform, for messages.
            filled: False to leave out the zeros by which Wan's text is filled up.

        Returns:
            Their number.
        """
        other = encoded(prompt)
        if not filled:
            other["context"] = without_zeros(other["context"])

        def longer(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            refuse_masks(method, kwargs, other)
            context = kwargs["context"]
            behind = other["context"].to(context).expand(len(context), -1, -1)
            return args, {**kwargs, "context": torch.cat([context, behind], 1)}

        self.handles.append(self.network.register_forward_pre_hook(longer, with_kwargs=True))
        return int(other["context"].shape[1])

    def _double(self, prompt: Any) -> None:
        """Every row twice, with its own text and with the further one, of which the first half is the output."""
        other, rows = encoded(prompt), 0

        def doubled(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            nonlocal rows
            refuse_masks("nag", kwargs, other)
            rows, own = len(args[0]), kwargs["context"]
            lengths = [own.shape[1], other["context"].shape[1]]
            if lengths[0] != lengths[1] and "num_tokens" in kwargs:
                raise InputError(
                    f"nag on a {type(self.network).__name__}: a prompt of {lengths[0]} tokens and a negative one of "
                    f"{lengths[1]}, where the image stands at another position for another length; write them equally "
                    "long."
                )
            self._missing = torch.tensor([max(lengths) - length for length in lengths]).repeat_interleave(rows)
            named = {
                name: value if name in ("transformer_options", "num_tokens") else twice(value, rows)
                for name, value in kwargs.items()
            }
            behind = other["context"].to(own).expand(rows, -1, -1)
            named["context"] = torch.cat([pad(text, (0, 0, 0, max(lengths) - text.shape[1])) for text in (own, behind)])
            if (pooled := named.get("y")) is not None and other["y"] is not None:
                named["y"] = torch.cat([pooled[:rows], other["y"].to(pooled).expand(rows, -1)])
            return tuple(twice(value, rows) for value in args), named

        def first_half(_: Any, __: Any, output: Tensor) -> Tensor:
            return output[:rows]

        def own_embedding(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            """The image is modulated by the embedding of its own text in both rows, where it has a modulation apart."""
            return (args[0][:rows].tile(2, *(1,) * (args[0].ndim - 1)), *args[1:])

        self.handles.append(self.network.register_forward_pre_hook(doubled, with_kwargs=True))
        self.handles.append(self.network.register_forward_hook(first_half))
        for _, block, _ in self._blocks():
            modulation = getattr(block, "img_mod", getattr(getattr(block, "x_block", None), "adaLN_modulation", None))
            if modulation is not None:
                self.handles.append(modulation.register_forward_pre_hook(own_embedding))

    def _without_missing(self, product: Product) -> Tensor | None:
        """The mask of a product of both texts, in which the tokens that fill up the shorter text are not read."""
        if self._missing is None or product.text is None or not self._missing.any():
            return product.mask
        missing = self._missing.to(product.key.device)[:, None]
        places = torch.arange(product.key.shape[2], device=missing.device)[None]
        kept = ((places < product.text.stop - missing) | (places >= product.text.stop))[:, None, None]
        if product.mask is None:
            return kept
        return product.mask & kept if product.mask.dtype == torch.bool else product.mask.where(kept, -float("inf"))
