"""Profile: the layout of a pipeline class, where it differs from the generic rule."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.schedules.fields import explain

Part = Literal["uncond", "cond", "perturbed", "neither"]
Layout = Literal["batched", "with sound", "two calls", "embedded", "one prediction"]


class Profile(BaseModel):
    """The layout of a pipeline class: how it runs its denoiser and combines the predictions.

    The defaults are the generic rule: one denoiser call per step with rows [uncond; cond]; the arguments of diffusers'
    denoisers that are known to hold rows hold them on their first dimension; the pipeline combines the predictions by
    `u + g (c - u)`, or another formula that gives p for u = c = p, and does nothing else before the sampler. If an
    argument of another name could hold rows, all rows are run.

    Raises:
        InputError: if a field is unknown or not valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout = "batched"
    """"batched": one call a step; "with sound": the same, and its output is a video and its sound; "two calls": one
    for each prediction; "embedded": the scale is an input; "one prediction": conditional rows alone, as a call of the
    others with guidance off is run."""
    parts: tuple[Part, ...] = ("uncond", "cond")
    """Rows of the batch, or calls of the step, in order. "perturbed" is PAG's; with "neither" (InstructPix2Pix)
    "uncond" has the image and not the text."""
    third_from: tuple[str, ...] = ()
    """Pipeline arguments: if one is None or 0, the batch has no third part."""
    image_scale: str = "image_guidance_scale"
    """The pipeline argument that is the scale of the image, for a batch with "neither"."""
    image_off: float | None = None
    """The value of `image_scale` below which guidance is off; None if it does not switch guidance."""
    denoisers: tuple[str, ...] = ("unet",)
    helpers: tuple[str, ...] = ()
    """Components called with the same rows before the denoiser (ControlNets)."""
    networks: tuple[tuple[str, Part], ...] = ()
    """The component of each call and its part, if the two calls of a step use different components."""

    scale: str = "guidance_scale"
    """The pipeline argument that switches guidance on: guidance is on if the argument is above `off`. If the call
    passes None, this argument does not switch guidance."""
    off: float | None = 1.0
    """The largest value of `scale` at which guidance is off; None if guidance cannot be switched off."""
    negatives: tuple[str, ...] = ()
    """Pipeline arguments; guidance is off unless the call passes one of them."""
    embedded: str = ""
    """The denoiser's argument that holds the scale: the layout's, or the other way of a pipeline that has two."""

    sample: str = ""
    """The denoiser's argument that is the sample, if it is not the first."""

    rows: tuple[str, ...] = ()
    """Arguments of the denoiser, and keys of dicts among them, that hold rows on their first dimension and that cfglab
    does not know (those of diffusers' own denoisers it knows)."""
    whole: tuple[str, ...] = ()
    """Arguments of the denoiser, and keys of dicts among them, that hold no rows, for any shape."""
    dims: tuple[tuple[str, int], ...] = ()
    """Arguments whose rows are on another dimension than the first."""
    blocks: tuple[str, ...] = ()
    """Arguments that repeat every row several times in sequence (once a frame)."""
    lists: bool = False
    """The batch is python lists of one tensor a row, sample and output included."""
    alike: bool = True
    """Every part has the same sample, which is checked at the first call."""
    image_ids: Literal["", "img_ids", "img_shapes", "img_layers", "img_last"] = ""
    """The argument that tells how many leading tokens are guided; behind them is an image to be edited. "img_layers":
    `img_shapes`, of which all but the last are made; "img_last": only the last, behind text and images to be edited."""

    variance: Literal["", "half", "last half", "twice"] | int = ""
    """Channels that are not guided but follow c: "half" of them, "last half" if they are the last dimension, "twice" as
    many as the sample's if there are so many (then half), or a number: only so many are guided."""
    wide: bool = False
    """The pipeline converts the predictions to float32 before it combines them."""
    negated: bool = False
    """The network predicts the sampler's quantity with the opposite sign."""
    repeats: bool = False
    """The loop runs the timesteps again, for each part of a long video; schedules then begin again as well."""
    space: Space | None = None
    """The parameterization of the network, if the sampler's configuration does not state it."""
    post_combine: Literal["", "rescale", "token norm", "row norm", "item norm", "token ceiling", "ceiling"] = ""
    """What follows the combine and reads c: it is done to the guided prediction, and switched off in the pipeline."""
    injected: Literal["", "quarter"] = ""
    """"": every part is p. "quarter": u = 0 and c = p / 4, exact for `(g + 1) c - g u` with g = 3."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """Arguments of the pipeline that are replaced, so that its formula gives p and `post_combine` is not done twice."""
    refused: tuple[tuple[str, Any, str], ...] = ()
    """Arguments that must be left at their neutral value: name, value, and what to use instead."""
    excluded: tuple[tuple[str, Any, str], ...] = ()
    """Arguments with which a call cannot be guided: name, neutral value, and why."""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(explain(error, "Profile", list(type(self).model_fields))) from None
