"""APG, adaptive projected guidance: less of the update along the conditional prediction (2410.02416)."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Decay, Fraction, NotNegative, with_defaults_of
from cfglab.guidance.methods.image_guidance import WithoutImage
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

_THEIRS: dict[str, dict[str, Any]] = {
    "diffusers": {"eta": 1.0, "momentum": 0.0, "norm_threshold": 15.0, "space": "model"},
    "comfyui": {"eta": 1.0, "momentum": 0.0, "norm_threshold": 5.0},
    "ace_step": {"eta": 0.0, "momentum": -0.75, "norm_threshold": 2.5, "space": "model"},
}


class APG(Transform):
    """`g = c + (w - 1) (D_orth + eta D_par)`, `D = min(1, r / |D'|) D'`, `D' = (c - u) + beta D'_before`, on x0.

    beta is `momentum` and r is `norm_threshold` (0 for no limit). D_par is the part of D along c, D_orth the rest; all
    per image. arXiv:2410.02416, algorithm 1. A negative beta is the paper's reverse momentum; a two-call sampler counts
    every call. The threshold depends on the model (15 for SDXL), so it is off by default.

    `as_in="diffusers"` is its guider: `u + w (D_orth + eta D_par)` in the model's parameterization. `as_in="comfyui"`
    is its node: `c + w (D_orth + eta D_par)` on x0, of a video with the length and the projection of every channel
    alone. Each brings the defaults of that program. At w = 0 all of them are u here. `as_in="ace_step"` is ACE-Step's
    own guidance, the paper's formula in the model's parameterization with the lengths and the projection of every
    channel over time alone.

    With LMS, a multistep sampler of order 4, it diverges in few steps (on `scenes` at 20 steps and w = 7.5), in the
    authors' code as here; use Euler, or a sampler of order 2.

    With `image`, the scale s of the image that an edit model starts from, D is of the whole update of the three
    predictions, `(g - c) / (w - 1)` with `g = n + s (u - n) + w (c - u)`, n without text and image (`u - n` at w = 1).
    `smoothing` makes the limit a soft one, as stable-diffusion.cpp has it: with `q = r / |D'|` the factor is
    `q / (1 + q^(1 / smoothing))^smoothing` in place of `min(1, q)`, which it is at 0.

    Attributes:
        space: The parameterization in which it acts; the paper's is x0.
        eta: The factor of the parallel part of the update, 0 to 1; 1 keeps it.
        momentum: The weight of the update of the step before, above -1 and below 1; 0 for none.
        norm_threshold: The largest L2 norm of the update of one image, in the unit of the predictions; 0 for no limit.
        as_in: The variant, "paper", "diffusers", "comfyui" or "ace_step"; all but the first bring their own defaults.
        smoothing: How soft the limit is, 0 or more; 0 is the paper's.
        image: The scale of the image to edit, a number; None is none. It takes the place of the pipeline's own.

    Reference:
        arXiv:2410.02416, algorithm 1.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("10 | apg(norm_threshold=15)"))
        10 | apg(norm_threshold=15)
        >>> from cfglab.guidance import APG
        >>> APG(as_in="comfyui").norm_threshold
        5.0
    """

    card: ClassVar[Card] = Card(
        title="Adaptive projected guidance (APG)",
        says="The update is slowed by its own past, kept short, and loses its part along the conditional prediction.",
        formula="c + (w - 1) (D_orth + eta D_par), D = min(1, r / |D|) D, D = (c - u) + beta D_before",
        paper="2410.02416",
        source="algorithm 1; on x0, as its authors say in diffusers' pull request 9626. With a multistep sampler of "
        "order 4 (LMS) it diverges, in the authors' code as here: at 20 steps and w 7.5 on `scenes` the latents end "
        "3.6 times as long as those of plain guidance, at order 2 and with Euler as long or shorter",
        defaults="eta 0 and momentum -0.5 as diffusers' AdaptiveProjectedMixGuidance; the threshold, the model's, off",
        hosts=(
            Implementation("diffusers", "u + w D' in what the model predicts, defaults eta 1, r 15: as_in=diffusers"),
            Implementation(
                "ComfyUI", "c + w D' on x0, one more than the paper's w, defaults eta 1, r 5: as_in=comfyui"
            ),
            Implementation(
                "ACE-Step", "in what the model predicts, every channel over time, beta -0.75, r 2.5: as_in=ace_step"
            ),
            Implementation(
                "stable-diffusion.cpp",
                "in what the model predicts, r for a latent image of 65,536 numbers, with a soft limit: smoothing; "
                "of an edit model the whole update of its three predictions: image",
            ),
        ),
    )

    kind: Literal["apg"] = "apg"
    space: Space = "x0"
    eta: Fraction = 0.0
    momentum: Decay = -0.5
    norm_threshold: NotNegative = 0.0
    as_in: Literal["paper", "diffusers", "comfyui", "ace_step"] = "paper"
    smoothing: NotNegative = 0.0
    image: Real | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `smoothing` at 0 and `image` at None: cells of before there were such fields keep their id."""
        content: dict[str, Any] = write(self)
        newer = {"smoothing": 0, "image": None}
        return {name: value for name, value in content.items() if name not in newer or value != newer[name]}

    @model_validator(mode="before")
    @classmethod
    def _with_theirs(cls, data: Any) -> Any:
        return with_defaults_of(_THEIRS, data)

    @model_validator(mode="after")
    def _one_formula(self) -> "APG":
        if self.image is not None and self.as_in != "paper":
            raise InputError(
                f"apg(image={self.image:g}, as_in={self.as_in}): the image's scale is stable-diffusion.cpp's, whose "
                "formula is c + (w - 1) D; leave as_in out."
            )
        return self

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return None if self.image is None else WithoutImage(f"apg(image={self.image:g})")

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        if self.image is None or context.extra is None:
            changed = self._changed(update, context)
            if self.as_in == "diffusers":
                return changed
            return changed + context.over_w(update if self.as_in == "comfyui" else update - changed)
        if not isinstance(context.w, float | int):
            raise InputError(f"{self} with a map: beside the image's scale w is one number; leave the map out.")
        of_image, scale = context.uncond - context.extra, context.w - 1
        if scale == 0:
            return context.over_w(update + (self.image - 1) * self._changed(of_image, context))
        whole = update + (self.image - 1) / scale * of_image
        return context.over_w(update + scale * self._changed(whole, context))

    def _changed(self, update: "Tensor", context: StepContext) -> "Tensor":
        """The update slowed, kept short, and without a part of what is along the conditional prediction."""
        from cfglab.guidance.reductions import along, dot, norm, position_dot

        every_channel = self.as_in == "ace_step" or (self.as_in == "comfyui" and update.ndim > 4)
        product = partial(position_dot, dim=context.channel_dim) if every_channel else dot
        step = update
        if self.momentum:
            context.memory["update"] = step = update + self.momentum * context.memory.get("update", 0.0)
        if self.norm_threshold:
            length = product(step, step).sqrt() if every_channel else norm(step)
            step = step * self._limit(self.norm_threshold / length.where(length > 0, 1.0))
        parallel = along(step, context.cond, product)
        return (step - parallel) + self.eta * parallel if self.eta != 1 else step

    def _limit(self, share: "Tensor") -> "Tensor":
        """The factor of an update, (n, 1, ...), from its threshold divided by its length."""
        if not self.smoothing:
            return share.clamp(max=1.0)
        from torch.nn.functional import softplus

        return (-self.smoothing * softplus(-share.log() / self.smoothing)).exp()
