"""Attention to the text guided away from another text, position by position."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import check_encoded, text_mask
from cfglab.guidance.perturbations.hooks import (
    arguments_by_name,
    beside_the_text,
    check_attention_alone_reads,
    check_hooks,
    cross_attentions,
    hooked,
    parameters_of,
)
from cfglab.guidance.perturbations.joint_attention import Product, products_replaced, text_attentions, token_order

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

ROWS = {
    *("timestep", "t", "guidance", "additional_t_cond", "img_shapes"),
    *("controlnet_block_samples", "controlnet_single_block_samples", "block_controlnet_hidden_states"),
}
"""Arguments of the networks in `joint_attention.ORDERS` that hold rows, beside the sample and the text."""

MASK_OF_BOTH = "attention_mask"
"""Chroma's mask of the tokens of text and image: one row a text, as the texts themselves."""
TEXTS = {"encoder_hidden_states", "pooled_projections", "cap_feats"}
"""Arguments that are a text."""


@dataclass(frozen=True)
class NormalizedAttention:
    """A perturbed pass: the conditional rows, with attention to the text guided away from another prompt.

    The host puts the encoding of the prompt beside the rows' own. Its rows are appended to those of the text, and every
    attention splits them. Where text and image share one attention, the network runs twice the rows, with one text and
    the other, and the tokens of the image get the guided output in both.

    Attributes:
        prompt: The negative prompt.
        s: The scale of the extrapolation.
        tau: The largest L1 norm, as a multiple of that of the positive attention; above 0.
        alpha: The share of the guided attention, 0 to 1.
        beside: True: the rows keep their own encoding.
    """

    prompt: str
    s: float
    tau: float
    alpha: float
    beside: bool = True

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "cond"

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        check_encoded("nag", self.prompt, conditioning)
        arguments = {name: value for name, value in conditioning.items() if name != "prompted"}
        return sample, timestep, with_both_texts(arguments, conditioning["prompted"])

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Any]":
        check_hooks(denoiser, "nag")
        order = token_order(denoiser)
        if order is None:
            guides = [_GuidedCrossAttention(attention, self) for attention in cross_attentions(denoiser, "nag")]
            check_attention_alone_reads(denoiser, "nag")
            with hooked(denoiser, lambda handles: _hook_cross_attentions(denoiser, guides, handles)):
                yield denoiser
        elif order.order == "image":
            attentions = text_attentions(denoiser, "nag")
            guided = {attention: _GuidedCrossAttention(attention, self) for attention in attentions}
            with (
                products_replaced(denoiser, list(guided), "nag", lambda product: guided[product.attention].of(product)),
                hooked(denoiser, lambda handles: handles.extend(one.split_hook() for one in guided.values())),
            ):
                yield denoiser
        else:
            with self._joint(denoiser) as run:
                yield run

    @contextmanager
    def _joint(self, denoiser: "Module") -> "Iterator[Any]":
        """The network on twice the rows, with one text and the other; the image of both is guided in every product."""
        attentions = text_attentions(denoiser, "nag")
        blocks = [block for block in getattr(denoiser, "transformer_blocks", ()) if hasattr(block, "norm1")]
        rows = 0

        def own_embedding(_: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            """The image is modulated by the embedding of its own text in both rows."""
            return args, {**kwargs, "emb": kwargs["emb"][:rows].tile(2, *(1,) * (kwargs["emb"].ndim - 1))}

        def add_hooks(handles: list[Any]) -> None:
            norms = [block.norm1 for block in blocks]
            handles.extend(norm.register_forward_pre_hook(own_embedding, with_kwargs=True) for norm in norms)

        def run(*args: Any, **kwargs: Any) -> tuple[Any]:
            nonlocal rows
            arguments = arguments_by_name(denoiser, args, kwargs)
            rows = len(arguments[parameters_of(denoiser)[0]])
            call.arguments = _doubled(denoiser, arguments, rows)
            output = denoiser.forward(**call.arguments)
            return ((output if hasattr(output, "shape") else output[0])[:rows],)

        with products_replaced(denoiser, attentions, "nag", self.of_product) as call, hooked(denoiser, add_hooks):
            yield run

    def of_product(self, product: Product) -> "Tensor":
        """The output of a product of text and image with the image of both texts guided.

        Args:
            product: A product of the rows [own text; other text].

        Returns:
            (2n, heads, tokens, channels).
        """
        output, image, heads = product.output(), product.image, product.query.shape[1]
        own, negative = (half[:, :, image].transpose(1, 2).flatten(2) for half in output.chunk(2))
        guided = self.guided(own, negative).unflatten(2, (heads, -1)).transpose(1, 2)
        output = output.clone()
        output[:, :, image] = guided.tile(2, 1, 1, 1)
        return output

    def guided(self, positive: "Tensor", negative: "Tensor") -> "Tensor":
        """The guided output of attention: extrapolated, its L1 norm limited, mixed with the positive one.

        Args:
            positive: The output for the rows' own text, (n, positions, channels).
            negative: The output for the other text, the same shape.

        Returns:
            A tensor of the shape and dtype of `positive`.
        """
        from cfglab.guidance.parameterization import upcast

        dtype, positive, negative = positive.dtype, upcast(positive), upcast(negative)
        away = positive * self.s - negative * (self.s - 1)
        norms = [output.abs().sum(-1, keepdim=True) for output in (away, positive)]
        ratio = norms[0] / norms[1].where(norms[1] > 0, 1.0)
        limited = away * (self.tau / ratio.where(ratio > 0, 1.0)).clamp(max=1.0)
        return (limited * self.alpha + positive * (1 - self.alpha)).to(dtype)


class _GuidedCrossAttention:
    """One attention to a text: it runs for the other text first, and then for the rows' own.

    The texts are the rows of twice the batch, or with `in_one_row` the two halves of the tokens of each row.
    """

    def __init__(self, attention: Any, variation: NormalizedAttention) -> None:
        self.attention, self.variation = attention, variation
        self.in_one_row = False
        self.negative: Tensor | None = None
        self.inside = False

    def hooks(self) -> list[Any]:
        out = self.attention.to_out
        projection = out[0] if hasattr(out, "__getitem__") else out
        return [self.split_hook(), projection.register_forward_pre_hook(self.guide)]

    def split_hook(self) -> Any:
        return self.attention.register_forward_pre_hook(self.split, with_kwargs=True)

    def split(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """The attention runs with the second half of the texts; the first half goes on."""
        if self.inside:
            return None
        named = arguments_by_name(self.attention, args, kwargs)
        texts, rows = named["encoder_hidden_states"], len(named["hidden_states"])
        if not hasattr(texts, "chunk") or len(texts) != (rows if self.in_one_row else 2 * rows):
            raise beside_the_text(self.attention, "nag")
        own, negative = ({"encoder_hidden_states": text} for text in texts.chunk(2, 1 if self.in_one_row else 0))
        if self.in_one_row:
            own["attention_mask"], negative["attention_mask"] = named["attention_mask"].chunk(2, -1)
        self.inside = True
        try:
            self.attention(**{**named, **negative})
        finally:
            self.inside = False
        return (), {**named, **own}

    def guide(self, _: Any, projection_inputs: "tuple[Tensor, ...]") -> "tuple[Tensor, ...] | None":
        """Before the projection: the attention output for the own text, guided away from that for the other."""
        if self.inside:
            self.negative = projection_inputs[0]
            return None
        assert self.negative is not None
        return (self.variation.guided(projection_inputs[0], self.negative), *projection_inputs[1:])

    def of(self, product: Product) -> "Tensor":
        """In place of the projection's input: the product."""
        output = product.output()
        if product.text is None:
            return output
        flat = output.transpose(1, 2).flatten(2)
        if self.inside:
            self.negative = flat
            return output
        assert self.negative is not None
        return self.variation.guided(flat, self.negative).unflatten(2, (output.shape[1], -1)).transpose(1, 2)


def _hook_cross_attentions(denoiser: "Module", guides: list[_GuidedCrossAttention], handles: list[Any]) -> None:
    """Hooks that guide attentions; a network with a mask of its text gets both texts of a row side by side."""

    def side_by_side(_: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        import torch

        named = arguments_by_name(denoiser, args, kwargs)
        name = text_mask(named)
        mask = None if name is None else named[name]
        for guide in guides:
            guide.in_one_row = mask is not None
        if name is None or mask is None:
            return None
        texts = named["encoder_hidden_states"]
        return (), {**named, "encoder_hidden_states": torch.cat(texts.chunk(2), -2), name: torch.cat(mask.chunk(2), 1)}

    handles.append(denoiser.register_forward_pre_hook(side_by_side, with_kwargs=True))
    handles.extend(handle for guide in guides for handle in guide.hooks())


def with_both_texts(arguments: Mapping[str, Any], prompted: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network with the rows of another text behind those of their own.

    Args:
        arguments: The arguments by name.
        prompted: The same with the other text.

    Returns:
        The arguments. Where the network has a mask of its text, one of fewer tokens is filled up.
    """
    import torch

    both, mask_name = dict(arguments), text_mask(arguments)
    for name in TEXTS & arguments.keys():
        own, other = arguments[name], prompted[name]
        if name == "encoder_hidden_states" and mask_name is not None:
            masked = any(texts.get(mask_name) is not None for texts in (arguments, prompted))
            if masked or own.shape != other.shape:
                (own, first), (other, second) = _filled(arguments, prompted)
                both[mask_name] = torch.cat([first, second])
        both[name] = [*own, *other] if isinstance(own, list) else torch.cat([own, other])
    if (mask := arguments.get(MASK_OF_BOTH)) is not None:
        both[MASK_OF_BOTH] = torch.cat([mask, prompted[MASK_OF_BOTH]])
    if (image := both.get("encoder_hidden_states_image")) is not None:  # stands before the text in every row
        both["encoder_hidden_states_image"] = image.tile(2, 1, 1)
    return both


def mask_of(arguments: Mapping[str, Any]) -> "Tensor":
    """Which tokens of the text are read, (n, tokens).

    Args:
        arguments: The arguments of a network.

    Returns:
        Its mask; all of them if it has none.
    """
    import torch

    text, name = arguments["encoder_hidden_states"], text_mask(arguments)
    mask = None if name is None else arguments[name]
    return torch.ones(text.shape[:2], dtype=torch.bool, device=text.device) if mask is None else mask.bool()


def _filled(*texts: Mapping[str, Any]) -> "list[tuple[Tensor, Tensor]]":
    """The texts and their masks, as long as the longest of them."""
    from torch.nn.functional import pad

    longest = max(text["encoder_hidden_states"].shape[-2] for text in texts)
    missing = [longest - text["encoder_hidden_states"].shape[-2] for text in texts]
    return [
        (pad(text["encoder_hidden_states"], (0, 0, 0, more)), pad(mask_of(text), (0, more)))
        for text, more in zip(texts, missing, strict=True)
    ]


def _doubled(denoiser: Any, arguments: dict[str, Any], rows: int) -> dict[str, Any]:
    """The arguments with every row twice, but for the texts, which are there already."""
    more = arguments.get("joint_attention_kwargs") or {}
    if name := next((name for name in more if name.startswith("ip_")), None):
        raise InputError(
            f"nag with {name}: an image prompt is read without the texts, and stays; leave one of them out."
        )

    def twice(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: twice(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [twice(part) for part in value] if hasattr(value[0], "shape") else [*value, *value]
        return value.tile(2, *(1,) * (value.ndim - 1)) if getattr(value, "ndim", 0) and len(value) == rows else value

    sample = parameters_of(denoiser)[0]
    doubled = {name: twice(value) if name in ROWS and value is not None else value for name, value in arguments.items()}
    value = arguments[sample]
    return {**doubled, sample: [*value, *value] if isinstance(value, list | tuple) else twice(value)}
