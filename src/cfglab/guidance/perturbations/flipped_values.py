"""Another text behind the own one, whose values enter attention with their sign flipped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass, check_encoded, text_mask
from cfglab.guidance.perturbations.hooks import (
    arguments_by_name,
    beside_the_text,
    check_attention_alone_reads,
    check_hooks,
    cross_attentions,
)
from cfglab.guidance.perturbations.joint_attention import Product, products_replaced, text_attentions, token_order
from cfglab.guidance.perturbations.normalized_attention import MASK_OF_BOTH, mask_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class FlippedValues(ConditionalPass):
    """A perturbed pass: the conditional rows with the tokens of another prompt behind those of their own.

    The image reads the values of these tokens times `-s`. In joint attention the other text reads itself and the image,
    the own text and the image do not read it, and the image reads a copy of its keys with the flipped values.

    Attributes:
        prompt: The negative prompt.
        s: The factor of the flipped values.
        offset: What is taken off the logits of the flipped values.
        beside: True: the rows keep their own encoding.
        padded: False: the prompt is encoded without the tokens that fill it up, or with a mask of them.
    """

    prompt: str
    s: float
    offset: float
    beside: bool = True
    padded: bool = False

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        check_encoded("vsf", self.prompt, conditioning)
        return sample, timestep, conditioning

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Any]":
        check_hooks(denoiser, "vsf")
        order = token_order(denoiser)
        other: Tensor | None = None
        if order is not None and order.texts:
            raise InputError(
                f"vsf on a {type(denoiser).__name__}: there the image stands at another position for another length of "
                "the text, of which the method says nothing; use nag."
            )
        attentions = cross_attentions(denoiser, "vsf") if order is None else text_attentions(denoiser, "vsf")
        check_attention_alone_reads(denoiser, "vsf")
        if order is not None and order.order == "image" and getattr(attentions[0], "add_k_proj", None) is not None:
            raise InputError(
                f"vsf on a {type(denoiser).__name__} that starts from an image: it takes the last 512 tokens for the "
                "text, which the negative prompt makes longer; use nag."
            )

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal other
            arguments = arguments_by_name(denoiser, args, kwargs)
            call.arguments, other = _lengthened(arguments, arguments.pop("prompted"))
            return denoiser.forward(**call.arguments)

        def replace(product: Product) -> "Tensor":
            assert other is not None
            if order is not None or product.text is None:
                return self.of_product(product, other)
            image = call.arguments.get("encoder_hidden_states_image")  # stands before the text
            before = 0 if image is None else image.shape[1]
            if product.key.shape[2] != before + call.arguments["encoder_hidden_states"].shape[-2]:
                raise beside_the_text(product.attention, "vsf")
            return self.of_product(product, other + before)

        with products_replaced(denoiser, attentions, "vsf", replace) as call:
            yield run

    def of_product(self, product: Product, other: "Tensor") -> "Tensor":
        """The output of a product with the text, the other one behind the own one, its values flipped for the image.

        Args:
            product: A product of text and image, or of the image with the text.
            other: Which tokens of the text are the other one's, (n, tokens) or the same for every row, (1, tokens).

        Returns:
            (n, heads, tokens, channels).
        """
        if product.text is None:
            return product.output()
        alone = product.text == slice(0, product.key.shape[2])
        return self._cross(product, other) if alone else self._joint(product, other + product.text.start)

    def _cross(self, product: Product, other: "Tensor") -> "Tensor":
        """An attention to the text, some of whose tokens are the other one's."""
        import torch

        of_other = torch.zeros(len(other), 1, 1, product.key.shape[2], dtype=torch.bool, device=other.device)
        of_other.scatter_(3, other[:, None, None], True)
        value = product.value.where(~of_other.transpose(2, 3), -self.s * product.value)
        bias = product.query.new_zeros(of_other.shape).masked_fill_(of_other, -self.offset)
        if product.mask is not None:
            mask = product.mask
            bias = bias.where(mask, -float("inf")) if mask.dtype == torch.bool else bias + mask
        return product.with_bias(product.key, value, bias)

    def _joint(self, product: Product, other: "Tensor") -> "Tensor":
        """An attention of text and image; behind its keys and values those of the other text with flipped values."""
        import torch

        length, image = product.query.shape[2], product.image
        key, value = (
            torch.cat([states, factor * states.take_along_dim(other[:, None, :, None], 2)], 2)
            for states, factor in ((product.key, 1), (product.value, -self.s))
        )
        of_other = torch.zeros(len(other), 1, length, dtype=torch.bool, device=other.device)
        of_other.scatter_(2, other[:, None], True)
        of_own = ~of_other
        of_own[..., image] = False
        bias = product.query.new_zeros(len(other), 1, length, length + other.shape[1])
        bias[..., :length].masked_fill_(~of_other[..., None] & of_other[..., None, :], -float("inf"))
        bias[..., :length].masked_fill_(of_other[..., None] & of_own[..., None, :], -float("inf"))
        bias[..., length:] = -float("inf")
        bias[..., image, length:] = -self.offset
        if product.mask is not None:
            mask = torch.cat([product.mask, product.mask.take_along_dim(other[:, None, None], -1)], -1)
            bias = bias.where(mask, -float("inf")) if mask.dtype == torch.bool else bias + mask
        return product.with_bias(key, value, bias)


def _lengthened(arguments: dict[str, Any], prompted: Mapping[str, Any]) -> "tuple[dict[str, Any], Tensor]":
    """The arguments of a network with the tokens of the other text behind those of the own one.

    Args:
        arguments: The arguments by name.
        prompted: The same with the other text.

    Returns:
        The arguments, and which tokens of their text are the other one's, (n or 1, tokens). Where the network has a
        mask of its text, what fills the own one up in its batch comes behind the other one: every token then has the
        position that it has without it.
    """
    import torch

    texts = [arguments["encoder_hidden_states"], prompted["encoder_hidden_states"]]
    own, negative = (text.shape[-2] for text in texts)
    longer = {**arguments, "encoder_hidden_states": torch.cat(texts, -2)}
    other = torch.arange(own, own + negative, device=texts[0].device)[None]
    name = text_mask(arguments)
    if name is not None and any(each.get(name) is not None for each in (arguments, prompted)):
        masks = [mask_of(each) for each in (arguments, prompted)]
        used = masks[0].flip(1).cummax(1).values.flip(1)  # up to the last token that is read
        order = torch.cat([2 - 2 * used.int(), torch.ones_like(masks[1], dtype=torch.int)], 1).argsort(
            dim=1, stable=True
        )
        text = longer["encoder_hidden_states"]
        places = order.reshape(len(order), *(1,) * (text.ndim - 3), -1, 1)  # Allegro's text has one more dimension
        longer["encoder_hidden_states"] = text.take_along_dim(places, -2)
        longer[name] = torch.cat(masks, 1).take_along_dim(order, 1)
        other = used.sum(1, keepdim=True) + torch.arange(negative, device=used.device)
    if (mask := arguments.get(MASK_OF_BOTH)) is not None:
        parts = [mask[:, :own], prompted[MASK_OF_BOTH][:, :negative].to(mask), mask[:, own:]]
        longer[MASK_OF_BOTH] = torch.cat(parts, 1)
    if (ids := arguments.get("txt_ids")) is not None:  # of the positions of a text all are 0
        longer["txt_ids"] = torch.cat([ids, ids[..., :1, :].expand(*ids.shape[:-2], negative, -1)], -2)
    return longer, other
