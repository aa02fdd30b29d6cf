"""The trace of a guided run: one record per denoiser call. Tensors are read only when a property asks for numbers."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfglab.denoising.spans import scales, span
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepRecord:
    """The record of one denoiser call.

    Attributes:
        run: the number of the pipeline call inside one context, from 0.
        step: the Step of the call.
        scales: groups of image indices, each with the scale of these images.
        rows_run: rows that the denoiser ran.
        rows_saved: rows that were skipped or shared.
    """

    run: int
    step: Step
    scales: "tuple[tuple[tuple[int, ...], float | Tensor | None], ...]" = field(repr=False)
    rows_run: int
    rows_saved: int
    lengths: "tuple[tuple[tuple[int, ...], Tensor], ...]" = field(default=(), repr=False)
    """Images, and the L2 norms of their uncond, cond and cond - uncond, (3, images)."""
    rows_varied: int = 0
    """How many of `rows_run` were further predictions, of a changed denoiser or changed inputs."""
    ranges: "tuple[tuple[tuple[int, ...], Tensor], ...]" = field(default=(), repr=False)
    """Images whose scale is a map, and its smallest and largest value in each, (2, images)."""
    shares: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    """Of each image: rows run, a shared one counted in equal parts, and rows saved. They add up to the two counts."""

    @property
    def w(self) -> tuple[float | None, ...]:
        """The scale of each image; 1 if guidance is off, None if the guidance does not report a scale.

        Where the scale is a map it is the mean over the image. Reading it synchronizes with the device if the schedule
        reads the predictions.
        """
        scale_of: dict[int, float | None] = {}
        for images, scale in self.scales:
            values = [scale] * len(images) if scale is None or isinstance(scale, float | int) else scale.tolist()
            scale_of |= zip(images, values, strict=True)
        return tuple(scale_of[image] for image in range(len(scale_of)))

    @property
    def w_range(self) -> tuple[tuple[float, float] | None, ...]:
        """The smallest and the largest scale in each image; None if its scale is one number.

        Reading it synchronizes with the device.
        """
        range_of = {
            image: (low, high)
            for images, values in self.ranges
            for image, (low, high) in zip(images, values.T.tolist(), strict=True)
        }
        return tuple(range_of.get(image) for image in range(len(self.w)))

    @property
    def difference(self) -> tuple[float | None, ...]:
        """The L2 norm of cond - uncond of each image; None if only one of them was run.

        Reading it synchronizes with the device.
        """
        return self._per_image(lambda _u, _c, apart: apart)

    @property
    def cosine(self) -> tuple[float | None, ...]:
        """The cosine of the angle between cond and uncond of each image, in [-1, 1], by the law of cosines.

        It is 0 if one of them is zero and None if only one of them was run. Reading it synchronizes with the device.
        """

        def cosine(u: float, c: float, apart: float) -> float:
            return max(min((u * u + c * c - apart * apart) / (2 * u * c), 1.0), -1.0) if u and c else 0.0

        return self._per_image(cosine)

    def _per_image(self, of: Callable[[float, float, float], float]) -> tuple[float | None, ...]:
        value_of = {
            image: of(*values)
            for images, lengths in self.lengths
            for image, values in zip(images, lengths.T.tolist(), strict=True)
        }
        return tuple(value_of.get(image) for image in range(len(self.w)))


@dataclass(eq=False)
class Trace:
    """The records of all denoiser calls inside one `guide(...)`.

    Attributes:
        steps: one StepRecord per denoiser call, in order.
    """

    steps: list[StepRecord] = field(default_factory=list)

    @property
    def rows_run(self) -> int:
        """Total rows that the denoiser ran."""
        return sum(record.rows_run for record in self.steps)

    @property
    def rows_saved(self) -> int:
        """Total rows saved, compared with plain guidance and a perturbed pass for every image."""
        return sum(record.rows_saved for record in self.steps)

    def table(self) -> str:
        """A text table with one line per denoiser call.

        Returns:
            The columns run, step, sigma, w and |cond - uncond| (both as a range over the images), rows run, rows saved;
            the last line has the sums. Where w is a map it is the mean, with the smallest and the largest in brackets.
        """
        head = ("run", "step", "sigma", "w", "|cond - uncond|", "rows run", "rows saved")
        lines = [head, *map(_cells, self.steps), ("", "", "", "", "all", str(self.rows_run), str(self.rows_saved))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The values over the steps as small lines, for notebooks; reading them synchronizes with the device."""
        from cfglab.denoising.trace_figure import draw
        from cfglab.notebook import bundle

        return bundle(self.table(), lambda: draw(self.steps), include, exclude)


def _cells(record: StepRecord) -> tuple[str, ...]:
    step = record.step
    sigma = "-" if step.sigma is None else f"{step.sigma:.4g}"
    position = f"{step.index + 1}/{step.count}"
    return (
        str(record.run),
        position,
        sigma,
        scales(record.w, record.w_range),
        span(record.difference),
        str(record.rows_run),
        str(record.rows_saved),
    )
