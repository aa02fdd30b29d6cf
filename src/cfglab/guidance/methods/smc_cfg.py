"""SMC-CFG, sliding mode control: the update is pulled by a fixed force towards a surface (2603.03281)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative, with_defaults_of
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor

_THEIRS: dict[str, dict[str, Any]] = {"comfyui": {"lam": 6.0, "k": 0.1, "space": "x0"}}


class SMCCFG(Transform):
    """`e -> e - k sign(s)`, `s = (e - e') + lam e'`, with e = c - u and e' the changed e of the step before.

    arXiv:2603.03281, sliding mode control, as in the authors' code: the sign of every value, on the velocity of a flow;
    at the first step e' is e. A two-call sampler counts every call. k is in the unit of the predictions.

    `as_in="comfyui"` is the node of pamparamm/sd-perturbed-attention, on x0: `e - k s / |s|` with the L2 norm of one
    image, with lam 6 and k 0.1.

    Attributes:
        space: The parameterization in which it acts; the paper's is the velocity of a flow.
        lam: The factor of e' in the sliding surface, 0 or more; 1 is a surface of e alone.
        k: The force, in the unit of the predictions, 0 or more; 0 changes nothing.
        as_in: The variant, "paper" or "comfyui"; the last brings its own defaults.

    Reference:
        arXiv:2603.03281; `common_cfg_ctrl.py` of the authors' code.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | smc_cfg(k=0.1)"))
        7.5 | smc_cfg(k=0.1)
    """

    card: ClassVar[Card] = Card(
        title="Sliding mode control (SMC-CFG)",
        says="Every value of the update is pulled by a fixed force towards a surface on which the update decays.",
        formula="u + w e, e <- e - k sign((e - e') + lam e'), e' the e of the step before",
        paper="2603.03281",
        source="hanyang-21/CFG-Ctrl, common_cfg_ctrl.py",
        defaults="lam 5 and k 0.2: what the authors recommend for SD 3, Flux, Qwen-Image and Wan, with w 7.5, 2 to 3, "
        "4 and 5; the defaults of their functions are lam 0.05 and k 0.3",
        hosts=(Implementation("ComfyUI", "a custom node, s / |s| in place of the sign, on x0: as_in=comfyui"),),
    )

    kind: Literal["smc_cfg"] = "smc_cfg"
    space: Space = "flow"
    lam: NotNegative = 5.0
    k: NotNegative = 0.2
    as_in: Literal["paper", "comfyui"] = "paper"

    @model_validator(mode="before")
    @classmethod
    def _with_theirs(cls, data: Any) -> Any:
        return with_defaults_of(_THEIRS, data)

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import norm, safe_divide

        previous = context.memory.get("update", update)
        surface = (update - previous) + self.lam * previous
        if self.as_in == "paper":
            force = surface.sign()
        else:
            length = norm(surface) if surface.ndim <= 4 else surface.square().sum((1, 2, 3), keepdim=True).sqrt()
            force = safe_divide(surface, length, 0.0)
        context.memory["update"] = changed = update - self.k * force
        return changed
