"""Two prompts, each where it matters: AND_SALT and AND_TOPK of sd-webui-neutral-prompt, and SNF (2311.10329)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Quantile
from cfglab.guidance.methods.second_prompt import SecondPromptUpdate
from cfglab.guidance.names import Space
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE = "ljleb/sd-webui-neutral-prompt, cfg_denoiser_hijack.py"


class AndSalt(SecondPromptUpdate):
    """`u + w (p + weight M (q - p))`, p = c - u, q = c' - u, M 1 where q is the more salient of the two.

    AND_SALT of sd-webui-neutral-prompt: a value is salient by its share `softmax(|q|)` over all values of one image.
    Acts on clean images there.

    Attributes:
        space: The parameterization in which it acts.
        prompt: The other prompt.
        weight: Its factor, a finite number.

    Reference:
        ljleb/sd-webui-neutral-prompt, `salient_blend`; there is no paper.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | and_salt(prompt='a red hat')"))
        7.5 | and_salt(prompt='a red hat')
    """

    card: ClassVar[Card] = Card(
        title="Salient prompt (AND_SALT)",
        needs="prompt",
        says="Another prompt takes the place of the first one where it asks for more.",
        formula="u + w (p + weight M (q - p)), p = c - u, q = c' - u, M = softmax|q| > softmax|p| over one image",
        source=_SOURCE,
        rows="3",
        defaults="weight 1: that of a prompt without a number",
        hosts=(Implementation("A1111"),),
    )

    kind: Literal["and_salt"] = "and_salt"
    space: Space = "x0"
    weight: Real = 1.0

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        salient = _log_shares(second, 1) > _log_shares(update, 1)
        return update + self.weight * (second - update).where(salient, 0.0)


class AndTopk(SecondPromptUpdate):
    """`u + w (p + weight T(q))`, p = c - u, q = c' - u, T keeps the values of q that are largest and drops the others.

    AND_TOPK of sd-webui-neutral-prompt, which keeps the largest 5 % of one image by size.

    Attributes:
        space: The parameterization in which it acts.
        prompt: The other prompt.
        weight: Its factor, a finite number; negative takes it away.
        share: The share of the values that is kept, above 0 and at most 1.

    Reference:
        ljleb/sd-webui-neutral-prompt, `filter_abs_top_k`; there is no paper.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | and_topk(prompt=snow, weight=2)"))
        7.5 | and_topk(prompt=snow, weight=2)
    """

    card: ClassVar[Card] = Card(
        title="Top values of a prompt (AND_TOPK)",
        needs="prompt",
        says="Another prompt adds the few values of its update that are largest.",
        formula="u + w (p + weight T(q)), p = c - u, q = c' - u, T the largest 5 % of the values",
        source=_SOURCE,
        rows="3",
        defaults="weight 1: that of a prompt without a number; the share is fixed at 0.05 there",
        hosts=(Implementation("A1111"),),
    )

    kind: Literal["and_topk"] = "and_topk"
    space: Space = "model"
    weight: Real = 1.0
    share: Quantile = 0.05

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        sizes = second.abs().flatten(1)
        rank = max(1, int(sizes.shape[1] * (1 - self.share)))
        least = sizes.kthvalue(rank, dim=1).values.reshape(-1, *[1] * (second.ndim - 1))
        return update + self.weight * second.where(second.abs() >= least, 0.0)


class SNF(SecondPromptUpdate):
    """`u + a`, where each value a is that of `w p` or of `w weight q` (p = c - u, q = c' - u), the more salient one.

    arXiv:2311.10329, saliency-adaptive noise fusion, in the form of pamparamm/sd-perturbed-attention: salience is
    `softmax(blur(|w p|))` over the positions of each channel, the blur a Gaussian of 3 x 3 and deviation 1. The
    authors' code takes means of 4 x 4 in place of the blur, and of the channels. Since a softmax is not linear, w
    changes the choice.

    Attributes:
        space: The parameterization in which it acts.
        prompt: The other prompt.
        weight: The factor of its scale, a finite number.

    Reference:
        arXiv:2311.10329; pamparamm/sd-perturbed-attention, `snf_guidance`.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | snf(prompt='a red hat')"))
        7.5 | snf(prompt='a red hat')
    """

    card: ClassVar[Card] = Card(
        title="Saliency-adaptive noise fusion (SNF)",
        needs="prompt",
        says="Of two prompts each value comes from the one that stands out there.",
        formula="u + (w weight q where S(w weight q) > S(w p), else w p), S(x) = softmax(blur|x|) over each channel",
        paper="2311.10329",
        source="pamparamm/sd-perturbed-attention, snf_guidance; CodeGoat24/Face-diffuser has means of 4 x 4 instead of "
        "the Gaussian and takes the mean over the channels",
        rows="3",
        defaults="weight 1: both prompts have one scale",
        hosts=(
            Implementation(
                "ComfyUI", "a custom node, between CFG and the update of PAG, SEG, SWG or TPG, on x0: space=x0"
            ),
        ),
    )

    kind: Literal["snf"] = "snf"
    space: Space = "epsilon"
    weight: Real = 1.0

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":
        second = self.weight * second
        salient = _blurred_salience(context.w * second) > _blurred_salience(context.w * update)
        return second.where(salient, update)


def _log_shares(tensor: "Tensor", keep: int) -> "Tensor":
    """log softmax of the sizes, over all dimensions but the first `keep`."""
    return tensor.abs().flatten(keep).log_softmax(keep).reshape(tensor.shape)


def _blurred_salience(tensor: "Tensor") -> "Tensor":
    from cfglab.guidance.methods.laplacian_pyramid import check_spatial
    from cfglab.guidance.perturbations.self_attention import gaussian

    check_spatial("snf", tensor)
    images = tensor.abs().flatten(0, -3).unsqueeze(1)
    for dim in (2, 3):
        images = gaussian(images, 1.0, dim, taps=3)
    return images.flatten(1).log_softmax(1).reshape(tensor.shape)
