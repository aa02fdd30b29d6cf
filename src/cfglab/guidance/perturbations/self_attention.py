"""Perturbed passes of self-attention: its map the identity, or its queries blurred."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.perturbations.hooks import all_run, hooked, self_attentions
from cfglab.guidance.perturbations.joint_attention import Product, image_attentions, products_replaced, token_order

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class IdentityAttention(ConditionalPass):
    """A perturbed pass: self-attention in these layers is the identity, so every position gets its own value.

    Where text and image share an attention, the positions of the image see themselves and the text, as in diffusers'
    StableDiffusion3PAGPipeline.

    Attributes:
        layers: Names of layers, such as `mid`.
    """

    layers: tuple[str, ...]

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        if token_order(denoiser) is not None:
            products = image_attentions(denoiser, self.layers, "pag")
            with products_replaced(denoiser, products, "pag", self.of_product):
                yield denoiser
            return
        attentions = self_attentions(denoiser, self.layers, "pag")

        def add_hooks(handles: list[Any]) -> None:
            for attention in map(_untyped, attentions):
                value: list[Tensor] = []
                handles.append(attention.to_v.register_forward_hook(_record(value)))
                handles.append(_out(attention).register_forward_pre_hook(_replace_output(value)))

        with all_run(denoiser, map(_out, attentions), "pag"), hooked(denoiser, add_hooks):
            yield denoiser

    def of_product(self, product: Product) -> "Tensor":
        """The output of a product in which every position of the image sees itself and the text.

        Args:
            product: A product of the image's queries, and the text's.

        Returns:
            (n, heads, tokens, channels).
        """
        import torch

        length, image = product.query.shape[2], product.image
        if image == slice(0, length) and product.value.shape == product.query.shape:
            return product.value
        seen = torch.ones(length, length, dtype=torch.bool, device=product.query.device)
        seen[image, image] = torch.eye(image.stop - image.start, dtype=torch.bool, device=seen.device)
        return product.output(mask=seen)


@dataclass(frozen=True)
class BlurredQueries(ConditionalPass):
    """A perturbed pass: the queries of self-attention in these layers are blurred over the image by a Gaussian.

    The queries are those of the product, so that its logits are blurred. The frames of a video are blurred each alone,
    and the queries of a text stay.

    Attributes:
        layers: Names of layers, such as `mid`.
        sigma: The standard deviation in positions, above 0; None is infinite.
    """

    layers: tuple[str, ...]
    sigma: float | None = None
    """None is infinite: every query is their mean."""

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        if token_order(denoiser) is not None:
            products = image_attentions(denoiser, self.layers, "seg")
            with products_replaced(denoiser, products, "seg", self.of_product):
                yield denoiser
            return
        projections = [attention.to_q for attention in map(_untyped, self_attentions(denoiser, self.layers, "seg"))]
        size: list[tuple[int, int]] = []

        def record_size(_: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sample = next(value for value in (*args, *kwargs.values()) if hasattr(value, "shape"))
            size[:] = [(int(sample.shape[-2]), int(sample.shape[-1]))]

        def blurred(_: "Module", __: Any, queries: "Tensor") -> "Tensor":
            return self.blurred(queries, *size[0])

        def add_hooks(handles: list[Any]) -> None:
            handles.append(denoiser.register_forward_pre_hook(record_size, with_kwargs=True))
            handles.extend(projection.register_forward_hook(blurred) for projection in projections)

        with all_run(denoiser, projections, "seg"), hooked(denoiser, add_hooks):
            yield denoiser

    def blurred(self, queries: "Tensor", height: int, width: int) -> "Tensor":
        """The blurred queries of one attention.

        Args:
            queries: (n, positions, channels), the positions a smaller image of the sample's proportions.
            height: The height of the sample.
            width: The width of the sample.

        Returns:
            A tensor of the shape of `queries`.

        Raises:
            InputError: The positions are no image of these proportions.
        """
        if self.sigma is None:
            return queries.mean(1, keepdim=True).expand_as(queries)
        positions = queries.shape[1]
        grid = grid_shape(positions, height, width)
        if grid is None:
            raise InputError(
                f"seg(sigma={self.sigma:g}): {positions} positions are no image of {height} x {width}'s proportions; "
                "use sigma=None, the infinite blur."
            )
        return self._gaussian(queries, *grid)

    def _gaussian(self, queries: "Tensor", rows: int, columns: int) -> "Tensor":
        """The queries of images of these rows and columns, (n, rows * columns, channels), blurred."""
        assert self.sigma is not None
        image = queries.transpose(1, 2).unflatten(2, (rows, columns))
        for dim in (2, 3):
            image = gaussian(image, self.sigma, dim)
        return image.flatten(2).transpose(1, 2)

    def of_product(self, product: Product) -> "Tensor":
        """The output of a product with blurred queries of the image.

        Args:
            product: A product of the image's queries, and the text's.

        Returns:
            (n, heads, tokens, channels).

        Raises:
            InputError: The tokens of the image are no grid, and the blur is finite.
        """
        query, image = product.query.clone(), product.image
        heads, positions = query.shape[1], image.stop - image.start
        grid = product.grid(positions)
        if grid is None and self.sigma is not None:
            raise InputError(
                f"seg(sigma={self.sigma:g}): the {positions} tokens of the image are no grid here, as where an image "
                "is edited; use sigma=None, the infinite blur."
            )
        frames, rows, columns = grid or (1, 1, positions)
        own = query[:, :, image].transpose(1, 2).flatten(2)  # (n, positions, channels of all heads)
        images = own.unflatten(1, (frames, rows * columns)).flatten(0, 1)
        blurred = self.blurred(images, 1, positions) if self.sigma is None else self._gaussian(images, rows, columns)
        query[:, :, image] = blurred.reshape(own.shape).unflatten(2, (heads, -1)).transpose(1, 2)
        return product.output(query)


def _untyped(module: "Module") -> Any:
    """An attention's parts are modules, which torch's types do not know."""
    return module


def _out(attention: Any) -> Any:
    """The projection after the attention: to_out, or the first of its list."""
    out = attention.to_out
    return out[0] if hasattr(out, "__getitem__") else out


def _record(value: "list[Tensor]") -> Any:
    def hook(_: "Module", __: Any, output: "Tensor") -> None:
        value[:] = [output]

    return hook


def _replace_output(value: "list[Tensor]") -> Any:
    def hook(_: "Module", args: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        if not value or value[0].shape != args[0].shape:
            values_shape = tuple(value[0].shape) if value else "none"
            raise InputError(
                f"pag: the values of this attention ({values_shape}) are not of the shape of what it gives "
                f"({tuple(args[0].shape)}): fused or grouped projections; unfuse them, or name another layer."
            )
        return (value.pop(), *args[1:])

    return hook


def grid_shape(positions: int, height: int, width: int) -> tuple[int, int] | None:
    """The rows and columns of a smaller image of these proportions.

    Args:
        positions: The number of positions of the smaller image.
        height: The height of the image.
        width: The width of the image.

    Returns:
        (rows, columns); None if the positions do not form such an image.

    Examples:
        >>> grid_shape(32, 64, 128)
        (4, 8)
    """
    rows = round(math.sqrt(positions * height / width))
    return None if rows == 0 or positions % rows else (rows, positions // rows)


def gaussian(image: "Tensor", sigma: float, dim: int, taps: int | None = None) -> "Tensor":
    """The image blurred by a Gaussian along one dimension, with reflected edges.

    Args:
        image: The image, any shape, a floating dtype.
        sigma: The standard deviation in positions, above 0.
        dim: The dimension.
        taps: The number of taps of the kernel; None for 6 sigma. It spans the image at most.

    Returns:
        A tensor of the same shape.
    """
    import torch
    from torch.nn import functional

    length = image.shape[dim]
    taps = math.ceil(6 * sigma) + 1 - math.ceil(6 * sigma) % 2 if taps is None else taps
    taps = min(taps, length - (length % 2 - 1))
    half = taps // 2
    if half >= length:  # a single row or column
        return image
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(image)
    channels = image.shape[1]
    shape = (channels, 1, taps, 1) if dim == 2 else (channels, 1, 1, taps)
    pad = (0, 0, half, half) if dim == 2 else (half, half, 0, 0)
    weights = kernel.reshape(1, 1, *shape[2:]).expand(shape)
    return functional.conv2d(functional.pad(image, pad, mode="reflect"), weights, groups=channels)
