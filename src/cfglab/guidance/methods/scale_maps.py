"""w as a map: another scale at every position, frame or channel."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import InputError
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Dimension, Scale, scale_at
from cfglab.guidance.names import Space
from cfglab.guidance.scale_map import Map, rows_of
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import settled
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class ScaleMap(Transform):
    """The base class of maps: `w(p) = w m(p) + base (1 - m(p))`, with m the map.

    Where m is 1 the scale is that of the schedule, where it is 0 it is `base`. It changes w and no prediction, so the
    place among the transforms only matters for others that change w; those that read w see the map. Where all scales of
    a step are one number, w is that number: at w = 1 everywhere the unconditional row is left out.
    """

    reads_uncond: ClassVar[bool] = False
    example: ClassVar[dict[str, Any]] = {"map": "0 1"}

    kind: str
    space: Space = "model"
    map: Map
    base: Scale = 1.0

    def known_scale(self, w: float, step: Step) -> float | None:
        base = scale_at(self.base, step)
        if w == base:
            return w
        uniform = _uniform(self.map)
        return None if uniform is None else _between(w, base, uniform)

    def scale(self, w: "float | Tensor", context: StepContext) -> "float | Tensor":
        if isinstance(w, float | int) and (known := self.known_scale(w, context.step)) is not None:
            return known
        shape = tuple(context.cond.shape)
        if context.memory.get("shape") != shape:  # once a run, because it is uploaded
            import torch

            values = self.spread(torch.tensor(rows_of(self.map), dtype=context.cond.dtype), shape, context.channel_dim)
            context.memory.update(shape=shape, values=values.to(context.cond.device, non_blocking=True))
        values = context.memory["values"]
        return values * w + (1 - values) * scale_at(self.base, context.step)

    def of_sound(self) -> None:
        """None: positions, frames and channels of a video are not those of its sound, which keeps w."""

    def spread(self, values: "Tensor", shape: tuple[int, ...], channel_dim: int) -> "Tensor":
        """The map over the predictions.

        Args:
            values: The values of the map, (rows, columns).
            shape: The shape of the predictions, (n, ...).
            channel_dim: The dimension of their channels, as `StepContext` has it.

        Returns:
            A tensor that broadcasts with the predictions, (1, ...).

        Raises:
            InputError: The map does not fit; the message says which sizes do.
        """
        raise NotImplementedError


class PerPosition(ScaleMap):
    """`w(p) = w m(p) + base (1 - m(p))` at every position p: w where the map is 1, `base` where it is 0.

    The map is as large as the predictions, or its rows and columns divide theirs (every value stands for a block), or
    are a multiple of them (the mean of a block is taken): `"0 1"` is a left and a right half, a mask of the image's
    pixels fits latents of an eighth. It is the same for all images, channels and frames. Predictions of one row of
    positions, (n, channels, positions) as of sound, take a map of one row. Packed tokens, (n, tokens, channels), take
    one row with a value for each token, in their order, row by row of the image. The sound that a network predicts
    beside a video keeps w. Python also takes nested lists and arrays.

    Absolute scales are `1 | per_position(map='3 8', base=0)`. There is no paper; S-CFG (2404.05384) and SAMG
    (2604.26503) compute such maps.

    Attributes:
        map: The map m: rows after semicolons, values after spaces, `v*n` for n equal values. Finite numbers, 0 to 1 for
            scales between `base` and w.
        base: The scale where the map is 0: a number, or the text of a schedule. 1 is no guidance.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("8 | per_position(map='0 1')"))
        8 | per_position(map='0 1')
        >>> from cfglab.guidance import PerPosition
        >>> PerPosition(map=[[0, 0, 1, 1], [0, 0, 1, 1]], base="linear(max=3, min=1)")
        PerPosition(map='0*2 1*2; 0*2 1*2', base='linear(max=3, min=1)')
    """

    card: ClassVar[Card] = Card(
        title="A scale per position",
        says="Another scale at every position of the image: a mask, or a map of any numbers.",
        formula="w(p) = w m(p) + base (1 - m(p)) at position p, m the map",
        source="the guided prediction of S-CFG (arXiv:2404.05384), with a map that is given",
        defaults="base 1: no guidance where the map is 0; the map has none",
        hosts=(Implementation("ComfyUI", "masks of conditionings mix predictions; there is no scale per region"),),
    )

    kind: Literal["per_position"] = "per_position"

    def spread(self, values: "Tensor", shape: tuple[int, ...], channel_dim: int) -> "Tensor":
        places = [place for place in range(1, len(shape)) if place != channel_dim % len(shape)][-2:]
        if len(shape) < 3:
            raise InputError(
                f"per_position on predictions of shape {shape}, which have no positions: they are (n, channels); write "
                "per_channel, or leave it out."
            )
        rows, columns = values.shape
        if len(places) == 1:
            self._check_row(rows, columns, shape, places[0])
        for size, place, dimension in zip((columns, rows), reversed(places), (1, 0), strict=False):
            if shape[place] % size and size % shape[place]:
                raise InputError(_other_size(rows, columns, [shape[each] for each in places]))
            values = _resized(values, shape[place], dimension)
        return values.reshape([shape[place] if place in places else 1 for place in range(len(shape))])

    def _check_row(self, rows: int, columns: int, shape: tuple[int, ...], place: int) -> None:
        """Refuse a map of several rows where positions have none, and one of blocks for packed tokens."""
        packed = place == 1
        if rows > 1 or (packed and columns != shape[1]):
            known = "packed tokens, whose rows are not known" if packed else "one row of positions"
            raise InputError(
                f"per_position with a map of {rows} x {columns} on predictions of shape {shape}, {known}: it takes one "
                f"value for each, in their order; give {shape[place]} values in one row, such as mask.flatten()."
            )


def _other_size(rows: int, columns: int, sizes: list[int]) -> str:
    if len(sizes) == 1:
        return (
            f"per_position with a map of {columns} values on predictions of {sizes[0]} positions: their number is a "
            f"multiple of the map's, or divides it; give {sizes[0]} values, or fewer and larger blocks."
        )
    return (
        f"per_position with a map of {rows} x {columns} on predictions of {sizes[0]} x {sizes[1]}: its rows and "
        f"columns divide theirs or are a multiple of them; give one of {sizes[0]} x {sizes[1]}, of {8 * sizes[0]} x "
        f"{8 * sizes[1]}, or of fewer and larger blocks."
    )


def _resized(values: "Tensor", wanted: int, dimension: int) -> "Tensor":
    """A map with `wanted` values in a dimension: each repeated, or the mean of a block."""
    size = values.shape[dimension]
    if wanted % size:
        return values.unflatten(dimension, (wanted, size // wanted)).mean(dimension + 1)
    return values.repeat_interleave(wanted // size, dimension)


class _PerIndex(ScaleMap):
    """The base class of maps with one value for each index of a dimension."""

    dim: Dimension

    @model_validator(mode="after")
    def _one_row(self) -> "_PerIndex":
        if len(rows := rows_of(self.map)) > 1:
            raise InputError(
                f"{self.kind} with a map of {len(rows)} x {len(rows[0])}: it has one value for each "
                f"{self.kind.removeprefix('per_')}; write them in one row, after spaces."
            )
        return self

    def spread(self, values: "Tensor", shape: tuple[int, ...], channel_dim: int) -> "Tensor":
        noun = self.kind.removeprefix("per_")
        if len(shape) < self._dimensions or not -len(shape) < self.dim < len(shape):
            raise InputError(
                f"{self.kind}(dim={self.dim}) on predictions of shape {shape}: they have no {noun}s there; "
                f"{self._advice}."
            )
        of_channels = self.dim % len(shape) == channel_dim % len(shape)
        if channel_dim != 1 and of_channels != (noun == "channel"):  # 1 is also where it is not known
            raise InputError(
                f"{self.kind}(dim={self.dim}) on predictions of shape {shape}, whose channels are in dimension "
                f"{channel_dim}: give dim={channel_dim if noun == 'channel' else 1}."
            )
        if values.numel() != shape[self.dim]:
            raise InputError(
                f"{self.kind} with a map of {values.numel()} values on predictions of shape {shape}, which have "
                f"{shape[self.dim]} in dimension {self.dim}: there is one for each {noun}; give {shape[self.dim]} "
                "values, or the dimension with dim=."
            )
        return values.reshape([-1 if index == self.dim % len(shape) else 1 for index in range(len(shape))])

    _dimensions: ClassVar[int] = 2
    _advice: ClassVar[str] = ""


class PerFrame(_PerIndex):
    """`w(f) = w m(f) + base (1 - m(f))` for every frame f of a video.

    Frames are those of the latents, which a video autoencoder has fewer of than the video. The map has one value for
    each. Sound beside the video keeps w. `1 | per_frame(map='1 1.5 2 2.5', base=0)` states absolute scales.

    Attributes:
        map: The map m: one finite number for each frame, after spaces.
        base: The scale where the map is 0: a number, or the text of a schedule. 1 is no guidance.
        dim: The dimension of the frames: 2 in (n, channels, frames, h, w) of Wan, HunyuanVideo, Mochi and AnimateDiff;
            1 in (n, frames, channels, h, w) of CogVideoX and Stable Video Diffusion.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("3 | per_frame(map='0 0.5 1', dim=1)"))
        3 | per_frame(map='0 0.5 1', dim=1)
    """

    card: ClassVar[Card] = Card(
        title="A scale per frame",
        needs="frames",
        says="Another scale for every frame of a video.",
        formula="w(f) = w m(f) + base (1 - m(f)) for frame f, m the map",
        source="diffusers' StableVideoDiffusionPipeline, whose scale goes linearly from min_guidance_scale to "
        "max_guidance_scale over the frames",
        defaults="base 1: no guidance where the map is 0; the map has none",
        hosts=(
            Implementation("diffusers", "Stable Video Diffusion: base=min, w = max, a map of equal steps from 0 to 1"),
            Implementation("ComfyUI", "VideoLinearCFGGuidance, VideoTriangleCFGGuidance: maps of these forms"),
        ),
    )

    kind: Literal["per_frame"] = "per_frame"
    dim: Dimension = 2
    _dimensions: ClassVar[int] = 5
    _advice: ClassVar[str] = "it is for predictions of five dimensions, as videos have; leave it out for images"


class PerChannel(_PerIndex):
    """`w(k) = w m(k) + base (1 - m(k))` for every channel k of the predictions.

    Attributes:
        map: The map m: one finite number for each channel, after spaces.
        base: The scale where the map is 0: a number, or the text of a schedule. 1 is no guidance.
        dim: The dimension of the channels: 1, -1 for packed tokens (n, tokens, channels), 2 for CogVideoX.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | per_channel(map='1 1 0.5 0.5')"))
        7.5 | per_channel(map='1*2 0.5*2')
    """

    card: ClassVar[Card] = Card(
        title="A scale per channel",
        says="Another scale for every channel of the latents.",
        formula="w(k) = w m(k) + base (1 - m(k)) for channel k, m the map",
        source="no publication; AutomaticCFG's node computes such a map",
        defaults="base 1: no guidance where the map is 0; the map has none",
    )

    kind: Literal["per_channel"] = "per_channel"
    dim: Dimension = 1
    _advice: ClassVar[str] = "name the dimension of the channels"


def _between(w: float, base: float, share: float) -> float:
    terms = (share * w, (1 - share) * base)
    return settled(sum(terms), *terms)


@lru_cache(maxsize=64)
def _uniform(text: str) -> float | None:
    """The value of a map whose values are all the same; None for another."""
    values = {value for row in rows_of(text) for value in row}
    return values.pop() if len(values) == 1 else None
