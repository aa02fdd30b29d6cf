"""The rows on overlapping windows of the sample, averaged where they overlap."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass, own_containers
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
            if getattr(sample, "ndim", 0) != 4:
                shape = f"of shape {tuple(sample.shape)}" if hasattr(sample, "shape") else "in a list"
                raise InputError(f"swg on samples {shape}: it crops images, (n, channels, h, w); leave it out.")
            self._check_patches(denoiser, sample)
            total: Any = None
            output: Any = None
            for top, bottom in self.sides(sample.shape[-2]):
                for left, right in self.sides(sample.shape[-1]):
                    window = sample[..., top:bottom, left:right]
                    output = self._of_window(denoiser, window, sample_name, args, kwargs)
                    prediction = output if hasattr(output, "shape") else output[0]
                    if prediction.shape[-2:] != window.shape[-2:]:
                        raise _not_cropped(denoiser, window, f"it predicts {tuple(prediction.shape[-2:])}")
                    if total is None:
                        total = prediction.new_zeros(*prediction.shape[:2], *sample.shape[-2:])
                    total[..., top:bottom, left:right] += prediction
            mean = total / self.count(total)
            return mean if hasattr(output, "shape") else (mean,)

        yield run

    def _check_patches(self, denoiser: "Module", sample: "Tensor") -> None:
        """Refuse crops that are cut through the patches of a transformer."""
        patch = getattr(getattr(denoiser, "config", None), "patch_size", None)
        patch = patch[-1] if isinstance(patch, list | tuple) and patch else patch
        if not isinstance(patch, int) or isinstance(patch, bool):
            return
        lengths = sample.shape[-2:]
        if any(round(self.crop * length) % patch for length in lengths):
            shares = [share / 1000 for share in range(1, 1000)]
            fitting = [share for share in shares if not any(round(share * length) % patch for length in lengths)]
            covering = [share for share in fitting if self.crop <= share and round(share * min(lengths)) < min(lengths)]
            hint = f"write crop={covering[0]:g}" if covering else "leave it out"
            raise InputError(
                f"swg(crop={self.crop:g}) on {lengths[0]} x {lengths[1]}: its crops are no multiple of the patches of "
                f"{type(denoiser).__name__}, {patch} x {patch}; {hint}."
            )

    def _of_window(
        self, denoiser: "Module", window: "Tensor", sample_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The output of the network for one crop, with the other arguments as they are."""
        from torch import OutOfMemoryError

        others, named = own_containers(args[1:]), own_containers(kwargs)
        try:
            if args:
                return denoiser.forward(window, *others, **named)
            return denoiser.forward(**{**named, sample_name: window})
        except OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise _not_cropped(denoiser, window, str(error).partition("\n")[0]) from error


def _not_cropped(denoiser: "Module", window: "Tensor", why: str) -> InputError:
    rows, columns = window.shape[-2:]
    return InputError(
        f"swg: {type(denoiser).__name__} does not run on a crop of {rows} x {columns} with the other arguments as they "
        f"are ({why}); leave it out where an image stands beside the sample (a ControlNet's), or use another crop."
    )
