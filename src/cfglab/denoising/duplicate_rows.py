"""Which rows of a batch are equal bit for bit, and the taking of rows."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class EqualRows:
    """Finds the rows of a batch that are equal bit for bit, call after call.

    Groups of equal rows only split. The first call compares all rows; later calls compare new tensors only, and only
    inside groups that are still equal. If all rows differ, one comparison is made per run. Noise that the sampler adds
    and latents that a callback edits are detected.

    Reading a comparison waits for the device. On another device than the CPU, a call that says which rows are `still`
    equal is believed; the comparison stays on the device, to be read after the run.

    Args:
        claims: Collects these comparisons: scalars, each True if the rows of one call were as said.
    """

    def __init__(self, claims: list[Tensor] | None = None) -> None:
        self._labels: list[int] = []
        self._compared: list[tuple[Tensor, int]] = []
        self._claims = [] if claims is None else claims

    @property
    def latest(self) -> list[int]:
        """The labels of the last call; empty before the first."""
        return list(self._labels)

    @property
    def all_differ(self) -> bool:
        """True once all rows differ; comparison is then skipped for the rest of the run."""
        return 0 < len(self._labels) == len(set(self._labels))

    def begin(self, labels: Sequence[int], sample: Tensor) -> None:
        """Before the first call, on another device than the CPU: rows with different labels are taken for different.

        Args:
            labels: A label per row, as `labels` returns them for another call with this sample.
            sample: The input of the denoiser, (rows, ...).
        """
        if not self._labels and sample.device.type != "cpu":
            self._labels = list(labels)

    def labels(self, sample: Tensor, conditioning: Sequence[Tensor], still: Sequence[int] | None = None) -> list[int]:
        """One label per row; rows with one label are equal bit for bit.

        Args:
            sample: The input of the denoiser, (rows, ...).
            conditioning: The other tensors of the call, each (rows, ...).
            still: A whole number per row: rows of one label whose numbers are equal are still equal at this call. None
                if it is not known. Not read at the first call and on the CPU.

        Returns:
            One whole number per row; equal in `sample` and in all of `conditioning` means equal labels.

        Examples:
            >>> import torch
            >>> EqualRows().labels(torch.tensor([[1.0], [2.0], [1.0]]), [])
            [0, 1, 0]
        """
        is_first = len(self._labels) != len(sample)
        if is_first:
            self._labels, self._compared = [0] * len(sample), []
        if self.all_differ:
            return self._labels
        versions = [(tensor, 0 if tensor.is_inference() else tensor._version) for tensor in conditioning]
        new = [
            tensor for tensor, version in versions if not any(tensor is t and version == v for t, v in self._compared)
        ]
        on_device = [tensor for tensor in (sample, *new) if tensor.device.type != "cpu"]
        for tensor in (sample, *new):
            if tensor.device.type == "cpu":
                self._labels = _split(self._labels, tensor)
        if on_device and still is not None and not is_first:
            self._labels = _numbered(list(zip(self._labels, still, strict=True)))
            self._claims += _agreement(self._labels, on_device)
        elif on_device:
            self._labels = _split_on_device(self._labels, on_device)
        self._compared = versions
        return self._labels


def take(tensor: Tensor, rows: list[int], dim: int = 0) -> Tensor:
    """Rows of a tensor, joined from slices: an index would be uploaded, and the host would wait for the device.

    Args:
        tensor: (n, ...).
        rows: Row numbers, 0 to n - 1, at least one.
        dim: The dimension of the rows.

    Returns:
        (len(rows), ...), in the order of `rows`; a view if they are consecutive.
    """
    ends = [0, *(i + 1 for i, (row, after) in enumerate(pairwise(rows)) if after != row + 1), len(rows)]
    slices = [tensor.narrow(dim, rows[begin], end - begin) for begin, end in pairwise(ends)]
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim)


def _split(labels: list[int], tensor: Tensor) -> list[int]:
    together = _together(labels)
    if not together:
        return labels
    content = take(tensor.detach(), together).contiguous().reshape(len(together), -1).view(torch.uint8).numpy()
    keys: list[tuple[int, bytes]] = [(label, b"") for label in labels]
    for row, data in zip(together, content, strict=True):
        keys[row] = (labels[row], data.tobytes())
    return _numbered(keys)


def _split_on_device(labels: list[int], tensors: list[Tensor]) -> list[int]:
    """As `_split`, for several tensors: compared on their device, and read once."""
    together = _together(labels)
    if not together:
        return labels
    equal = None
    for tensor in tensors:
        bits = _bits(take(tensor, together))
        pairs = torch.stack([(bits == row).all(dim=1) for row in bits.unbind(0)])
        equal = pairs if equal is None else equal & pairs
    assert equal is not None
    keys: list[tuple[int, int]] = [(label, -1) for label in labels]
    for row, equal_to in zip(together, equal.tolist(), strict=True):
        keys[row] = (labels[row], equal_to.index(True))
    return _numbered(keys)


def _agreement(labels: list[int], tensors: list[Tensor]) -> list[Tensor]:
    """Whether the rows of each label are equal in each tensor: scalars on the device, not read here."""
    rows_of: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    groups = [rows for rows in rows_of.values() if len(rows) > 1]
    bits_of = [_bits(take(tensor, rows)) for rows in groups for tensor in tensors]
    return [torch.stack([(bits == bits.narrow(0, 0, 1)).all() for bits in bits_of]).all()] if bits_of else []


def _together(labels: list[int]) -> list[int]:
    """The rows that share their label."""
    members = Counter(labels)
    return [row for row, label in enumerate(labels) if members[label] > 1]


def _bits(tensor: Tensor) -> Tensor:
    """The rows as whole numbers, (n, ...): 0.0 and -0.0 differ, and NaN equals itself."""
    content = tensor.detach().contiguous().reshape(len(tensor), -1)
    return content.view(_BITS.get(content.element_size(), torch.int64))


def _numbered(keys: Sequence[object]) -> list[int]:
    order: dict[object, int] = {}
    return [order.setdefault(key, len(order)) for key in keys]
