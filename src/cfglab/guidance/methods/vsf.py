"""VSF, value sign flip: the values of a negative prompt enter attention with their sign flipped (2508.10931)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.flipped_values import FlippedValues
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class VSF(Transform):
    """In attention the image reads the negative `prompt` with the values `-s V` and logits that are less by `offset`.

    arXiv:2508.10931. In joint attention these tokens have a second set of keys for that, and are carried through the
    network by reading themselves and the image; the own text does not read them. The conditional prediction is made
    this way, so `1 | vsf(prompt=blurry)` has a negative prompt at one row a step, a little longer than the others.
    SD 3 and Wan are as published, there in 3.5 Large Turbo and 2.1 with CausVid; Flux, Chroma, Qwen-Image and UNets
    follow the same rule. Refused for Z-Image, whose image stands at another position for another length of the text,
    and for the Wan 2.1 that starts from an image, whose text has a fixed length.

    Attributes:
        s: The factor of the flipped values, a finite number.
        offset: What is taken off the logits of the flipped values, 0 or more.
        prompt: The negative prompt, encoded without padding, or with a mask where the network has one; empty text by
            default.

    Reference:
        arXiv:2508.10931.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | vsf(prompt=blurry)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Value sign flip (VSF)",
        needs="longer text",
        says="A negative prompt whose values enter attention with their sign flipped, for models without CFG.",
        formula="A V, with V -> -s V and Q K / sqrt d -> Q K / sqrt d - offset for the negative prompt's tokens",
        paper="2508.10931",
        source="weathon/VSF, processor.py with the masks of its `inference`, and vsfwan/processor.py",
        rows="2 (1 at w = 1), one of them with a longer text",
        defaults="s 3 and offset 0.08: the authors' pipeline for SD 3.5; s 1.7 and offset 0.2 for Wan 2.1",
        hosts=(
            Implementation(
                "the authors' pipelines",
                "that of SD 3.5 has the negative prompt behind the prompt once more, unflipped; for Flux it acts in "
                "the blocks of two streams alone, masks other tokens, and moves the pooled text away from the other",
            ),
            Implementation("ComfyUI", "a custom node for Wan"),
        ),
    )

    replaces: ClassVar[Literal["cond", "uncond"] | None] = "cond"

    kind: Literal["vsf"] = "vsf"
    space: Space = "model"
    reads_uncond: ClassVar[bool] = False
    s: Real = 3.0
    offset: NotNegative = 0.08
    prompt: str = ""

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return FlippedValues(self.prompt, self.s, self.offset)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "cond"

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":
        return cond if context.extra is None else context.extra
