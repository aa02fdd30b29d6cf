"""Transformers whose attention reads text and image in one sequence, or turns queries by their positions.

There the product itself is replaced, `softmax(Q K / sqrt d) V`: its queries and keys are normalized and turned by their
positions, and it is known which of its tokens are the image.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from cfglab.errors import InputError
from cfglab.guidance.perturbations.hooks import arguments_by_name, check_hooks, hooked, in_layers, parameters_of
from cfglab.guidance.perturbations.layer_names import transformer_blocks

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class TokenOrder:
    """Where the tokens of the image are in the attentions of a transformer.

    Attributes:
        order: The order of text and image in a joint attention; "image" if no attention reads both as one sequence.
        single: Whether attentions without projections of their own for the text (`add_k_proj`) read both, too.
        texts: Stacks whose blocks read the text alone.
        images: Stacks whose blocks read the image alone.
    """

    order: Literal["image, text", "text, image", "image"]
    single: bool = False
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


Grid = tuple[int, int, int]
"""Frames, rows and columns of the tokens of an image."""
Z_MULTIPLE = 32
"""Z-Image fills text and image up to a multiple of so many tokens."""

ORDERS = {
    "SD3Transformer2DModel": TokenOrder("image, text"),
    "FluxTransformer2DModel": TokenOrder("text, image", single=True),
    "ChromaTransformer2DModel": TokenOrder("text, image", single=True),
    "QwenImageTransformer2DModel": TokenOrder("text, image"),
    "ZImageTransformer2DModel": TokenOrder(
        "image, text", single=True, texts=("context_refiner", "siglip_refiner"), images=("noise_refiner",)
    ),
    "WanTransformer3DModel": TokenOrder("image"),
}
"""The transformers of diffusers of which it is known, by class."""


def token_order(denoiser: Any) -> TokenOrder | None:
    """The order of the tokens of a network.

    Args:
        denoiser: The network.

    Returns:
        None for a network that is not in the table, such as a UNet.
    """
    return next((ORDERS[kind.__name__] for kind in type(denoiser).__mro__ if kind.__name__ in ORDERS), None)


@dataclass(eq=False)
class NetworkCall:
    """The arguments of the call of a network that is under way.

    Attributes:
        denoiser: The network.
        arguments: Its arguments by name.
    """

    denoiser: Any
    arguments: dict[str, Any] = field(default_factory=dict)

    def read(self, _: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the network."""
        self.arguments = arguments_by_name(self.denoiser, args, kwargs)

    @property
    def sample(self) -> Any:
        """The sample: a tensor, or a list of one tensor a row."""
        return self.arguments[parameters_of(self.denoiser)[0]]

    def image(self, length: int, *, joint: bool = True) -> slice:
        """Where the image is in a sequence.

        Args:
            length: The number of tokens.
            joint: False for a sequence without text.

        Returns:
            A slice of the tokens.

        Raises:
            InputError: There are several images in one sequence.
        """
        order, sample = token_order(self.denoiser), self.sample
        if isinstance(sample, list | tuple):  # filled up to a multiple of Z_MULTIPLE: the image is in front
            return slice(0, prod(self._patches(sample[0])))
        if not joint or order is None or order.order == "image":
            return slice(0, length)
        text = self.arguments["encoder_hidden_states"].shape[1]
        return slice(text, length) if order.order == "text, image" else slice(0, length - text)

    def text(self, length: int) -> slice:
        """Where the text is in a sequence of text and image.

        Args:
            length: The number of tokens.

        Returns:
            A slice of the tokens.
        """
        image = self.image(length)
        if image.start:
            return slice(0, image.start)
        if isinstance(self.sample, list | tuple):
            return slice(-(-image.stop // Z_MULTIPLE) * Z_MULTIPLE, length)
        return slice(image.stop, length)

    def grid(self, positions: int) -> Grid | None:
        """The frames, rows and columns of the image's tokens.

        Args:
            positions: The number of tokens of the image.

        Returns:
            Three numbers whose product is `positions`; None if the tokens are no such grid.
        """
        sample, shapes, ids = self.sample, self.arguments.get("img_shapes"), self.arguments.get("img_ids")
        if isinstance(sample, list | tuple):
            grid = self._patches(sample[0])
        elif shapes:
            first = shapes[0] if isinstance(shapes[0], list) else [shapes[0]]
            grid = (int(first[0][0]), int(first[0][1]), int(first[0][2]))
        elif ids is not None:
            frames, rows, columns = (int(size) + 1 for size in ids.reshape(-1, ids.shape[-1])[:positions].amax(0)[:3])
            grid = (frames, rows, columns)
        else:
            patch = self.denoiser.config.patch_size
            patches = (patch,) * (sample.ndim - 2) if isinstance(patch, int) else patch
            sizes = tuple(size // step for size, step in zip(sample.shape[2:], patches, strict=True))
            grid = (sizes[0] if len(sizes) == 3 else 1, sizes[-2], sizes[-1])
        return grid if prod(grid) == positions else None

    def _patches(self, image: Any) -> Grid:
        """Frames, rows and columns of the tokens of one (channels, frames, height, width)."""
        if isinstance(image, list | tuple):
            raise InputError(
                f"{type(self.denoiser).__name__} with several images in one sequence: which tokens are the image that "
                "is made is not known there; leave the method out."
            )
        frames, size = self.arguments.get("f_patch_size", 1), self.arguments.get("patch_size", 2)
        return image.shape[-3] // frames, image.shape[-2] // size, image.shape[-1] // size


@dataclass(frozen=True, eq=False)
class Product:
    """One product of attention: `softmax(Q K / sqrt d) V`.

    Attributes:
        query: (n, heads, tokens, channels), as are key and value.
        key: The keys.
        value: The values.
        mask: What is added to the logits, or which of them are kept; None for all.
        options: The other arguments of `scaled_dot_product_attention`.
        image: Where the image is among the queries.
        text: Where the text is among the keys; None if there is none, as where an image is read beside the text.
        grid: The frames, rows and columns of so many tokens of the image; None if they are no such grid.
        attention: The attention.
    """

    query: "Tensor"
    key: "Tensor"
    value: "Tensor"
    mask: "Tensor | None"
    options: dict[str, Any]
    image: slice
    text: slice | None
    grid: Callable[[int], Grid | None]
    attention: Any

    def output(self, query: "Tensor | None" = None, mask: "Tensor | None" = None) -> "Tensor":
        """The product.

        Args:
            query: Other queries; None for its own.
            mask: Positions to keep beside its own mask, (queries, keys), True for those that are kept.

        Returns:
            (n, heads, tokens, channels).
        """
        from torch.nn.functional import scaled_dot_product_attention

        kept = mask if self.mask is None else self.mask
        if mask is not None and self.mask is not None:
            kept = self.mask & mask if self.mask.dtype == mask.dtype else self.mask.where(mask, -float("inf"))
        query = self.query if query is None else query
        return scaled_dot_product_attention(query, self.key, self.value, attn_mask=kept, **self.options)

    def heads(self) -> "Iterator[Product]":
        """The product of each head alone, whose logits take less memory than those of all.

        Yields:
            Products of one head.
        """
        for number in range(self.query.shape[1]):
            one = slice(number, number + 1)
            mask = self.mask if self.mask is None or self.mask.ndim < 4 or len(self.mask[0]) == 1 else self.mask[:, one]
            query, key, value = (tensor[:, one] for tensor in (self.query, self.key, self.value))
            yield replace(self, query=query, key=key, value=value, mask=mask)

    def logits(self) -> "Tensor":
        """The scaled products of queries and keys with the mask, (n, heads, tokens, keys), float32 or float64."""
        import torch

        from cfglab.guidance.parameterization import upcast

        scale = self.options.get("scale") or self.query.shape[-1] ** -0.5
        logits = upcast(self.query) @ upcast(self.key).transpose(2, 3) * scale
        if self.mask is None:
            return logits
        return logits.where(self.mask, -float("inf")) if self.mask.dtype == torch.bool else logits + self.mask

    def with_bias(self, key: "Tensor", value: "Tensor", bias: "Tensor") -> "Tensor":
        """The product with other keys and values, whose own mask is not read.

        Args:
            key: (n, heads, keys, channels).
            value: The same shape.
            bias: What is added to the logits, which broadcasts to (n, heads, tokens, keys).

        Returns:
            (n, heads, tokens, channels).
        """
        from torch.nn.functional import scaled_dot_product_attention

        return scaled_dot_product_attention(self.query, key, value, attn_mask=bias, **self.options)


Replace = Callable[[Product], "Tensor"]
"""The output in place of a product's own."""


def image_attentions(denoiser: "Module", layers: tuple[str, ...], method: str) -> "list[Module]":
    """Every attention that the image's queries read the image with, in the named layers.

    Args:
        denoiser: A network of `ORDERS`.
        layers: Names of layers; none for every block.
        method: The kind of the transform, for the messages.

    Returns:
        The modules.

    Raises:
        InputError: A layer has none.
    """
    check_hooks(denoiser, method)
    candidates = _image_attentions(denoiser)
    return in_layers(candidates, denoiser, layers or tuple(transformer_blocks(denoiser)), method, "self-attention")


def _image_attentions(denoiser: "Module") -> "dict[str, Module]":
    """By its dotted name every attention that the image's queries read the image with."""
    order = token_order(denoiser)
    assert order is not None
    return {
        name: module
        for name, module in denoiser.named_modules()
        if all(hasattr(module, part) for part in ("to_q", "to_k", "to_v"))
        and not getattr(module, "is_cross_attention", False)
        and name.partition(".")[0] not in order.texts
    }


def reads_both(denoiser: Any, attention: Any) -> bool:
    """Whether an attention reads text and image as one sequence.

    Args:
        denoiser: A network of `ORDERS`.
        attention: One of its attentions.

    Returns:
        True if it does.
    """
    order = token_order(denoiser)
    return (
        order is not None
        and order.order != "image"
        and (order.single or getattr(attention, "add_k_proj", None) is not None)
    )


def text_attentions(denoiser: "Module", method: str, layers: tuple[str, ...] = ()) -> "list[Module]":
    """Every attention with which the image reads the text: as one sequence, or the text alone or beside an image.

    Args:
        denoiser: A network of `ORDERS`.
        method: The kind of the transform, for the messages.
        layers: Names of layers; none for every block.

    Returns:
        The modules.

    Raises:
        InputError: A layer has none.
    """
    check_hooks(denoiser, method)
    order = token_order(denoiser)
    assert order is not None
    if order.order == "image":
        candidates = {
            name: module for name, module in denoiser.named_modules() if getattr(module, "is_cross_attention", False)
        }
    else:
        candidates = {
            name: module
            for name, module in _image_attentions(denoiser).items()
            if reads_both(denoiser, module) and name.partition(".")[0] not in order.images
        }
    noun = "attention to the text"
    return in_layers(candidates, denoiser, layers or tuple(transformer_blocks(denoiser)), method, noun)


@contextmanager
def products_replaced(
    denoiser: "Module", attentions: "list[Module]", method: str, replace: Replace
) -> "Iterator[NetworkCall]":
    """A context in which the products of some attentions are replaced.

    Args:
        denoiser: A network of `ORDERS`.
        attentions: The attentions.
        method: The kind of the transform, for the messages.
        replace: The replacement.

    Yields:
        The call under way, whose arguments are read when the network is called.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    call = NetworkCall(denoiser)
    running: list[tuple[Any, list[Product]]] = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not scaled_dot_product_attention or not running:
                return func(*args, **kwargs)
            attention, products = running[-1]
            names = ("query", "key", "value", "attn_mask")
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            query, key, value, mask = (given.pop(name, None) for name in names)
            joint = reads_both(denoiser, attention)
            image, text = call.image(query.shape[2], joint=joint), None
            if joint:
                text = call.text(key.shape[2])
            elif getattr(attention, "is_cross_attention", False) and len(products) == _reads_an_image(attention):
                text = slice(0, key.shape[2])
            products.append(product := Product(query, key, value, mask, given, image, text, call.grid, attention))
            return replace(product)

    def begin(attention: Any, *_: Any) -> None:
        running.append((attention, []))

    def end(_: Any, __: Any, output: Any) -> None:
        _, products = running.pop()
        if not products and output is not None:
            raise InputError(
                f"{method}: the attention of this {type(denoiser).__name__} runs by another backend than torch's, and "
                'cannot be changed there; use set_attention_backend("native") of the network.'
            )

    def add_hooks(handles: list[Any]) -> None:
        handles.append(denoiser.register_forward_pre_hook(call.read, with_kwargs=True))
        for attention in attentions:
            handles.append(attention.register_forward_pre_hook(begin))
            handles.append(attention.register_forward_hook(end, always_call=True))

    with hooked(denoiser, add_hooks), Mode():
        yield call


def _reads_an_image(attention: Any) -> bool:
    """Whether a cross-attention reads an image beside the text: its first product does."""
    return getattr(attention, "add_k_proj", None) is not None
