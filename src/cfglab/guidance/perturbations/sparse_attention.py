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

CLOSE = 0.05
"""How far a recomputed attention may be from the network's own, relative; rounding to bfloat16 is a fifth of it."""


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
        layers = () if self.layers == LEVELS and not hasattr(denoiser, "down_blocks") else self.layers
        if token_order(denoiser) is not None:
            attentions = text_attentions(denoiser, "pladis", layers)
            with products_replaced(denoiser, attentions, "pladis", self.of_product):
                yield denoiser
            return
        attentions = cross_attentions(denoiser, "pladis", layers)

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
    """One cross-attention: its queries, keys and values are recorded, and its output is computed from them.

    With the weights of the softmax that has to give the attention's own output. Where it does not, the network scales
    its products or cuts its heads in a way of its own, which is refused.
    """

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
        """Keeps the mask of the text's tokens; refuses queries that are turned after they are recorded."""
        if any(value is not None for name, value in kwargs.items() if "rotary" in name or "freqs" in name):
            raise self._unknown()
        self.mask = kwargs.get("attention_mask", args[2] if len(args) > 2 else None)

    def recorder(self, name: str) -> Any:
        def hook(_: Any, __: Any, output: "Tensor") -> None:
            self.parts[name] = output

        return hook

    def replace(self, _: Any, args: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        """In place of the attention's output: that of the mixed weights."""
        from cfglab.guidance.parameterization import upcast

        recorded = [self.parts.pop(name, None) for name in ("q", "k", "v")]
        parts = [part for part in recorded if part is not None]
        if len(parts) < len(recorded):
            raise InputError("pladis: the projections of this attention are fused; unfuse them, or leave it out.")
        q, k, v = self._by_head(parts)
        logits = upcast(q) @ upcast(k).transpose(2, 3) * getattr(self.attention, "scale", q.shape[-1] ** -0.5)
        if self.mask is not None:
            logits = logits + self._added(self.mask, logits)

        def output(weights: "Tensor") -> "Tensor":
            return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)

        own, dense = upcast(args[0]), upcast(output(logits.softmax(-1)))
        if own.shape != dense.shape or (own - dense).norm() > CLOSE * own.norm():
            raise self._unknown()
        return (output(self.variation.weights(logits)).to(args[0].dtype), *args[1:])

    def _by_head(self, parts: "list[Tensor]") -> "list[Tensor]":
        """Queries, keys and values, (n, heads, tokens, channels), which a norm of each head may have split before."""
        heads = self.attention.heads
        channels = parts[0].shape[-1] // (1 if parts[0].ndim == 4 else heads)
        if any(part.ndim not in (3, 4) or part.shape[-1] % channels for part in parts):
            raise self._unknown()
        split = [part if part.ndim == 4 else part.unflatten(2, (-1, channels)).transpose(1, 2) for part in parts]
        if any(part.shape[-1] != channels or heads % part.shape[1] for part in split):
            raise self._unknown()
        return [part.repeat_interleave(heads // part.shape[1], 1) for part in split]

    def _added(self, mask: "Tensor", logits: "Tensor") -> "Tensor":
        """The mask as numbers that are added to the logits: minus infinity, or nearly, for what is not read."""
        n, heads, _, tokens = logits.shape
        if hasattr(self.attention, "prepare_attention_mask"):
            mask = self.attention.prepare_attention_mask(mask, tokens, n).reshape(n, heads, -1, tokens)
        return mask.to(logits) if mask.is_floating_point() else mask.to(logits).log()

    def _unknown(self) -> InputError:
        return InputError(
            f"pladis: this network's {type(self.attention).__name__} is more than a softmax of its queries and keys, "
            "of which the method says nothing; name other layers, or leave it out."
        )


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
