"""Contrastive CFG: the negative prompt fades where the sample is far from it (2411.17077)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.second_prompt import SecondPromptUpdate
from cfglab.guidance.names import Space
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class ContrastiveCFG(SecondPromptUpdate):
    """`u + w (2 S(tau |p|^2) p - weight 2 S(-tau |n|^2) n)`, p = c - u, n = c_neg - u, S the logistic function.

    arXiv:2411.17077, in epsilon. The negative term is that of CFG where the two predictions are close and fades where
    they are far apart; the positive one grows from 1 to 2 times that of CFG. The norms are over one image, so `tau`
    depends on its size. The pipeline's own negative prompt is left empty.

    Attributes:
        space: The parameterization in which it acts; the paper's is epsilon.
        prompt: The negative prompt.
        tau: The temperature of the contrast, 0 or more; 0 is plain CFG with both prompts.
        weight: The factor of the negative term, 0 or more.
        both: Whether the positive term is weighted too; False is `naive_positive_cfg`.

    Reference:
        arXiv:2411.17077; jinhojsk515/ContrastiveCFG, `latent_diffusion_np.py`.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | contrastive_cfg(prompt=yellow)"))
        7.5 | contrastive_cfg(prompt=yellow)
    """

    card: ClassVar[Card] = Card(
        title="Contrastive CFG",
        needs="prompt",
        says="A negative prompt that fades where the sample is already far from it.",
        formula="u + w (2 S(tau |p|^2) p - weight 2 S(-tau |n|^2) n), p = c - u, n = c_neg - u, S(x) = 1 / (1 + e^-x)",
        paper="2411.17077",
        source="jinhojsk515/ContrastiveCFG, latent_diffusion_np.py, BaseDDIMnpCCFG; one scale for both prompts there",
        rows="3",
        defaults="tau 0.2 and both terms weighted: the authors' script, with w 7.5 for Stable Diffusion 1.5",
        hosts=(
            Implementation("ComfyUI", "a custom guider; by default tau is chosen per image so that tau |p|^2 is 1"),
        ),
    )

    kind: Literal["contrastive_cfg"] = "contrastive_cfg"
    space: Space = "epsilon"
    tau: NotNegative = 0.2
    weight: NotNegative = 1.0
    both: bool = True

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from cfglab.guidance.reductions import dot

        away = 2 * (-self.tau * dot(second, second)).sigmoid() * second
        towards = 2 * (self.tau * dot(update, update)).sigmoid() * update if self.both else update
        return towards - self.weight * away
