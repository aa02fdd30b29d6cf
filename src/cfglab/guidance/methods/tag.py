"""TAG, tangential amplifying guidance: more of each step across the sample, the same along it (2510.04533)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.errors import NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class TAG(Transform):
    """`g + (eta - 1) g_orth`, where g_orth is the part of the prediction that is orthogonal to the sample x.

    arXiv:2510.04533, algorithm 2, amplifies the part of a sampler's step that is orthogonal to x and keeps the other. A
    step of an ODE sampler is `a x + b g`, so only g has such a part, and amplifying it in g is amplifying it in the
    step; in every parameterization it is the same. With or without CFG: at w = 1 no unconditional row runs. Samplers
    with memory and ones that add noise amplify more than the prediction.

    Attributes:
        eta: The factor of the orthogonal part, 0 or more; 1 changes nothing, the paper's are above 1.

    Reference:
        arXiv:2510.04533, algorithm 2.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("5 | tag(eta=1.1)"))
        5 | tag(eta=1.1)
    """

    card: ClassVar[Card] = Card(
        title="Tangential amplifying guidance (TAG)",
        says="The part of each step that is orthogonal to the sample is made longer; the other part stays.",
        formula="g + (eta - 1) (g - <g, x> / |x|^2 x)",
        paper="2510.04533",
        source="algorithm 2 on the step of a sampler, x' - x, as ComfyUI has it; on g the same for a step a x + b g",
        rows="2 (1 at w = 1)",
        defaults="eta 1.05: cfglab's; the node's 1 changes nothing, the paper has values above 1 per model",
        hosts=(Implementation("ComfyUI", "the same; also a factor of the part along x"),),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["tag"] = "tag"
    space: Space = "model"
    eta: NotNegative = 1.05

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import along

        x = context.latents
        if x is None or x.shape != guided.shape:
            raise NoNoiseLevel(
                f"step {context.step.index} without latents of the prediction's shape: tag projects on the input of "
                "the denoiser; call combine(uncond, cond, step, latents)."
            )
        return guided + (self.eta - 1) * (guided - along(guided, x))
