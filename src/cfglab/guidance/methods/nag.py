"""NAG, normalized attention guidance: a negative prompt inside cross-attention (2505.21179)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Fraction, Positive
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.hooks import check_hooks, cross_attentions, hooked
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class NormalizedAttention:
    """A perturbed pass: the conditional rows, with cross-attention guided away from another prompt.

    The host puts the encoding of the prompt beside the rows' own. It is appended as more rows of
    `encoder_hidden_states`; every cross-attention splits them.

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
        import torch

        arguments = {name: value for name, value in conditioning.items() if name != "prompted"}
        if "prompted" not in conditioning:
            raise InputError(f"nag: {self.prompt!r} was not encoded: it needs a host that can encode a further prompt.")
        texts = [arguments["encoder_hidden_states"], conditioning["prompted"]["encoder_hidden_states"]]
        return sample, timestep, {**arguments, "encoder_hidden_states": torch.cat(texts)}

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        check_hooks(denoiser, "nag")
        attentions = cross_attentions(denoiser, "nag")

        def add_hooks(handles: list[Any]) -> None:
            for attention in attentions:
                handles.extend(_GuidedCrossAttention(attention, self).hooks())

        with hooked(denoiser, add_hooks):
            yield denoiser

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
    """One cross-attention: it runs for the rows' own text, and inside that once more for the other one."""

    def __init__(self, attention: Any, variation: NormalizedAttention) -> None:
        self.attention, self.variation = attention, variation
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.negative: Tensor | None = None
        self.inside = False

    def hooks(self) -> list[Any]:
        out = self.attention.to_out
        projection = out[0] if hasattr(out, "__getitem__") else out
        return [
            self.attention.register_forward_pre_hook(self.split, with_kwargs=True),
            projection.register_forward_pre_hook(self.guide),
        ]

    def split(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """The first half of the texts goes on, the call with the other half is kept."""
        if self.inside:
            return None
        own_text, negative_text = kwargs["encoder_hidden_states"].chunk(2)
        self.call = args, {**kwargs, "encoder_hidden_states": negative_text}
        return args, {**kwargs, "encoder_hidden_states": own_text}

    def guide(self, _: Any, projection_inputs: "tuple[Tensor, ...]") -> "tuple[Tensor, ...] | None":
        """Before the projection: the attention output for the own text, guided away from that for the other."""
        if self.inside:
            self.negative = projection_inputs[0]
            return None
        assert self.call is not None
        self.inside = True
        try:
            self.attention(*self.call[0], **self.call[1])
        finally:
            self.inside = False
        assert self.negative is not None
        return (self.variation.guided(projection_inputs[0], self.negative), *projection_inputs[1:])


class NAG(Transform):
    """In every cross-attention `Z = alpha * hold(s Z+ - (s - 1) Z-) + (1 - alpha) Z+`, Z- for the negative `prompt`.

    arXiv:2505.21179; hold shortens a position to `tau` times the L1 norm of Z+. The conditional prediction is made this
    way, so `1 | nag(s=5)` has a negative prompt at one row a step, also where the model has no unconditional one; the
    second attention costs a part of a row. Refused if text and image share one attention (SD 3, Flux).

    Attributes:
        s: The scale of the extrapolation in attention, a finite number; 1 is none.
        tau: The largest L1 norm, as a multiple of that of Z+; above 0.
        alpha: The share of the guided attention, 0 to 1.
        prompt: The negative prompt; empty text by default.

    Reference:
        arXiv:2505.21179.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | nag(s=5, prompt=blurry)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Normalized attention guidance (NAG)",
        needs="cross-attention",
        says="A negative prompt inside cross-attention, for models that are run without CFG.",
        formula="Z = alpha hold_tau(s Z+ - (s - 1) Z-) + (1 - alpha) Z+",
        paper="2505.21179",
        source="the authors' NAGAttnProcessor2_0",
        rows="2 (1 at w = 1), with a second cross-attention in one of them",
        defaults="tau 2.5 and alpha 0.5: the authors' processor for UNets; s differs per model and has to be said",
        hosts=(
            Implementation("the authors' pipelines", "also models with one attention for text and image"),
            Implementation("ComfyUI", "also models with one attention for text and image"),
        ),
    )

    replaces: ClassVar[Literal["cond", "uncond"] | None] = "cond"

    kind: Literal["nag"] = "nag"
    space: Space = "model"
    reads_uncond: ClassVar[bool] = False
    s: Real
    tau: Positive = 2.5
    alpha: Fraction = 0.5
    prompt: str = ""

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return NormalizedAttention(self.prompt, self.s, self.tau, self.alpha)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "cond"

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":
        return cond if context.extra is None else context.extra
