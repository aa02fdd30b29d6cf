"""Attention to the text whose weights are moved from the softmax towards sparse ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import UnchangedInputs
from cfglab.guidance.perturbations.hooks import cross_attentions, hooked
from cfglab.guidance.perturbations.joint_attention import Product, products_replaced, text_attentions, token_order

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Sparse = Literal["entmax15", "sparsemax"]
LEVELS = ("down_blocks", "up_blocks")
"""A UNet without its middle; in a transformer, which has no such levels, every block."""

_OTHER_HEADS = (
    "pladis: the keys of this attention have other heads than the queries; name other layers, or leave it out."
)


@dataclass(frozen=True)
class SparseAttention(UnchangedInputs):
    """A perturbed pass: attention to the text with the weights `s sparse + (1 - s) softmax`.

    Where text and image share one attention, that is said of the weights with which an image reads the text, whose sum
    stays: it is that of the softmax over all tokens.

    Attributes:
        source: The prediction whose rows are run, "cond" or "uncond".
        s: The share of the sparse weights, a finite number; 1 is sparse attention, above 1 beyond it.
        sparse: The sparse weights, alpha-entmax with alpha 1.5 or 2.
        layers: Parts of dotted names; empty for every attention to the text. `LEVELS` are all blocks of a transformer.
    """

    source: Literal["cond", "uncond"]
    s: float
    sparse: Sparse
    layers: tuple[str, ...]

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        if token_order(denoiser) is not None:
            layers = () if self.layers == LEVELS else self.layers
            attentions = text_attentions(denoiser, "pladis", layers)
            with products_replaced(denoiser, attentions, "pladis", self.of_product):
                yield denoiser
            return
        attentions = cross_attentions(denoiser, "pladis", self.layers)

        def add_hooks(handles: list[Any]) -> None:
            for attention in attentions:
                handles.extend(_SparseCrossAttention(attention, self).hooks())

        with hooked(denoiser, add_hooks):
            yield denoiser

    def of_product(self, product: Product) -> "Tensor":
        """The output of a product with the text, the weights of the image's queries for the text mixed.

        Args:
            product: A product of text and image, or of the image with the text or with another image.

        Returns:
            (n, heads, tokens, channels).
        """
        import torch

        if product.text is None:
            return product.output()
        outputs, image, text = [], product.image, product.text
        for head in product.heads():
            logits = head.logits()
            weights = logits.softmax(-1)
            share = weights[:, :, image, text].sum(-1, keepdim=True)
            weights[:, :, image, text] = share * self.weights(logits[:, :, image, text])
            outputs.append(weights.to(head.value.dtype) @ head.value)
        return torch.cat(outputs, 1)

    def weights(self, logits: "Tensor") -> "Tensor":
        """The weights of one attention.

        Args:
            logits: (..., keys), scaled products of queries and keys, float32 or float64.

        Returns:
            A tensor of the same shape, each row with the sum 1.
        """
        sparse = entmax15(logits) if self.sparse == "entmax15" else sparsemax(logits)
        return self.s * sparse + (1 - self.s) * logits.softmax(-1)


class _SparseCrossAttention:
    """One cross-attention: its queries, keys and values are recorded, and its output is computed from them."""

    def __init__(self, attention: Any, variation: SparseAttention) -> None:
        self.attention, self.variation = attention, variation
        self.parts: dict[str, Tensor] = {}
        self.mask: Tensor | None = None

    def hooks(self) -> list[Any]:
        attention = self.attention
        out = attention.to_out
        parts = {
            "q": getattr(attention, "norm_q", None) or attention.to_q,
            "k": getattr(attention, "norm_k", None) or attention.to_k,
            "v": attention.to_v,
        }
        return [
            attention.register_forward_pre_hook(self.read, with_kwargs=True),
            *(module.register_forward_hook(self.recorder(name)) for name, module in parts.items()),
            (out[0] if hasattr(out, "__getitem__") else out).register_forward_pre_hook(self.replace),
        ]

    def read(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keeps the mask of the text's tokens; refuses what is not known."""
        if kwargs.get("image_rotary_emb") is not None:
            raise InputError(
                "pladis: the cross-attention of this network turns its queries by their positions, of which the method "
                "says nothing; leave it out for this network."
            )
        if not all(hasattr(self.attention, part) for part in ("scale", "prepare_attention_mask")):
            raise InputError(
                f"pladis: a {type(self.attention).__name__} does not say how it scales its products; leave it out for "
                "this network."
            )
        self.mask = kwargs.get("attention_mask", args[2] if len(args) > 2 else None)

    def recorder(self, name: str) -> Any:
        def hook(_: Any, __: Any, output: "Tensor") -> None:
            self.parts[name] = output

        return hook

    def replace(self, _: Any, args: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        """In place of the attention's output: that of the mixed weights."""
        from cfglab.guidance.parameterization import upcast

        heads = self.attention.heads
        recorded = [self.parts.pop(name, None) for name in ("q", "k", "v")]
        parts = [part for part in recorded if part is not None]
        if len(parts) < len(recorded):
            raise InputError("pladis: the projections of this attention are fused; unfuse them, or leave it out.")
        if any(part.ndim < 4 and part.shape[-1] != parts[0].shape[-1] for part in parts):
            raise InputError(_OTHER_HEADS)
        q, k, v = (self._by_head(part, heads) for part in parts)
        if not q.shape[1] == k.shape[1] == v.shape[1]:
            raise InputError(_OTHER_HEADS)
        logits = upcast(q) @ upcast(k).transpose(2, 3) * self.attention.scale
        if self.mask is not None:
            mask = self.attention.prepare_attention_mask(self.mask, k.shape[2], len(q))
            logits = logits + mask.reshape(len(q), heads, -1, k.shape[2])
        output = self.variation.weights(logits).to(v.dtype) @ v
        return (output.transpose(1, 2).flatten(2).to(args[0].dtype), *args[1:])

    def _by_head(self, tensor: "Tensor", heads: int) -> "Tensor":
        """(n, heads, tokens, channels) of a projection, which a norm of each head has already split."""
        return tensor if tensor.ndim == 4 else tensor.unflatten(2, (heads, -1)).transpose(1, 2)


def sparsemax(logits: "Tensor") -> "Tensor":
    """The projection on the probability simplex along the last dimension.

    Args:
        logits: (..., keys), float32 or float64.

    Returns:
        Weights of the same shape, some of them 0.

    Reference:
        arXiv:1602.02068.
    """
    z, ordered, rank = _ordered(logits)
    thresholds = (ordered.cumsum(-1) - 1) / rank
    return (z - _of_support(thresholds, ordered)).clamp(min=0)


def entmax15(logits: "Tensor") -> "Tensor":
    """1.5-entmax along the last dimension: between the softmax and sparsemax.

    Args:
        logits: (..., keys), float32 or float64.

    Returns:
        Weights of the same shape, some of them 0.

    Reference:
        arXiv:1905.05702, algorithm 2.
    """
    z, ordered, rank = _ordered(logits / 2)
    mean = ordered.cumsum(-1) / rank
    spread = rank * (ordered.square().cumsum(-1) / rank - mean.square())
    thresholds = mean - ((1 - spread) / rank).clamp(min=0).sqrt()
    return (z - _of_support(thresholds, ordered)).clamp(min=0).square()


def _ordered(logits: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """The logits with the maximum 0, those in falling order, and their ranks from 1."""
    import torch

    z = (logits - logits.amax(-1, keepdim=True)).clamp(min=-2)  # what is 1 below the maximum has no weight
    rank = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    return z, z.sort(-1, descending=True).values, rank


def _of_support(thresholds: "Tensor", ordered: "Tensor") -> "Tensor":
    """The threshold of the largest support that is consistent with its own."""
    size = (thresholds <= ordered).sum(-1, keepdim=True)
    return thresholds.gather(-1, size - 1)
