"""The rows on overlapping windows of the sample, averaged where they overlap."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.perturbations.hooks import check_hooks

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class CroppedSample(ConditionalPass):
    """A perturbed pass: the network runs on `windows` x `windows` crops of the sample, which cannot see each other.

    Attributes:
        crop: The sides of a crop as a share of those of the sample, above 0 and below 1.
        windows: The number of crops along each side, 2 or more.
    """

    crop: float
    windows: int

    @property
    def runs(self) -> int:
        """The runs of the network, one a crop."""
        return self.windows**2

    def sides(self, length: int) -> list[tuple[int, int]]:
        """The crops along one side: the first one at its start, the last one at its end, the others evenly between.

        Args:
            length: The length of the side, in values of the sample.

        Returns:
            The start and the end of each crop.

        Raises:
            InputError: The crops do not cover the side.
        """
        size = round(self.crop * length)
        starts = [index * (length - size) // (self.windows - 1) for index in range(self.windows)]
        if not 0 < size < length or any(later - start > size for start, later in pairwise(starts)):
            raise InputError(
                f"swg(crop={self.crop:g}, windows={self.windows}) on a side of {length}: {self.windows} crops of "
                f"{size} do not cover it; use larger crops or more of them."
            )
        return [(start, start + size) for start in starts]

    def count(self, sample: "Tensor") -> "Tensor":
        """How many crops each position is in.

        Args:
            sample: (n, channels, h, w).

        Returns:
            (1, 1, h, w), in the dtype of the sample.
        """
        count = sample.new_zeros(1, 1, *sample.shape[-2:])
        for top, bottom in self.sides(sample.shape[-2]):
            for left, right in self.sides(sample.shape[-1]):
                count[..., top:bottom, left:right] += 1
        return count

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Any]":
        check_hooks(denoiser, "swg")
        sample_name = next(iter(list(inspect.signature(type(denoiser).forward).parameters)[1:]))

        def run(*args: Any, **kwargs: Any) -> "Tensor | tuple[Tensor]":
            sample = args[0] if args else kwargs[sample_name]
            if sample.ndim != 4:
                raise InputError(
                    f"swg on samples of shape {tuple(sample.shape)}: it crops images, (n, channels, h, w); leave it "
                    "out."
                )
            total: Any = None
            output: Any = None
            for top, bottom in self.sides(sample.shape[-2]):
                for left, right in self.sides(sample.shape[-1]):
                    window = sample[..., top:bottom, left:right]
                    output = (
                        denoiser.forward(window, *args[1:], **kwargs)
                        if args
                        else denoiser.forward(**{**kwargs, sample_name: window})
                    )
                    prediction = output if hasattr(output, "shape") else output[0]
                    if total is None:
                        total = prediction.new_zeros(*prediction.shape[:2], *sample.shape[-2:])
                    total[..., top:bottom, left:right] += prediction
            mean = total / self.count(total)
            return mean if hasattr(output, "shape") else (mean,)

        yield run
