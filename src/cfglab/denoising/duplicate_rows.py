"""Which rows of a batch are equal bit for bit, and the taking of rows."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


class EqualRows:
    """Finds the rows of a batch that are equal bit for bit, call after call.

    Groups of equal rows only split. The first call compares all rows; later calls compare new tensors only, and only
    inside groups that are still equal. If all rows differ, one comparison is made per run. Noise that the sampler adds
    and latents that a callback edits are detected.
    """

    def __init__(self) -> None:
        self._labels: list[int] = []
        self._compared: list[tuple[Tensor, int]] = []

    @property
    def all_differ(self) -> bool:
        """True once all rows differ; comparison is then skipped for the rest of the run."""
        return 0 < len(self._labels) == len(set(self._labels))

    def labels(self, sample: Tensor, conditioning: Sequence[Tensor]) -> list[int]:
        """One label per row; rows with one label are equal bit for bit.

        Args:
            sample: The input of the denoiser, (rows, ...).
            conditioning: The other tensors of the call, each (rows, ...).

        Returns:
            One whole number per row; equal in `sample` and in all of `conditioning` means equal labels.

        Examples:
            >>> import torch
            >>> EqualRows().labels(torch.tensor([[1.0], [2.0], [1.0]]), [])
            [0, 1, 0]
        """
        if len(self._labels) != len(sample):
            self._labels, self._compared = [0] * len(sample), []
        if self.all_differ:
            return self._labels
        versions = [(tensor, 0 if tensor.is_inference() else tensor._version) for tensor in conditioning]
        new = [
            tensor for tensor, version in versions if not any(tensor is t and version == v for t, v in self._compared)
        ]
        for tensor in (sample, *new):
            self._labels = _split(self._labels, tensor)
        self._compared = versions
        return self._labels


def take(tensor: Tensor, rows: list[int]) -> Tensor:
    """Rows of a tensor.

    Args:
        tensor: (n, ...).
        rows: Row numbers, 0 to n - 1, at least one.

    Returns:
        (len(rows), ...), in the order of `rows`; a view if they are consecutive.
    """
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return tensor[rows[0] : rows[0] + len(rows)]
    return tensor[torch.tensor(rows, device=tensor.device)]


def _split(labels: list[int], tensor: Tensor) -> list[int]:
    members = Counter(labels)
    together = [row for row, label in enumerate(labels) if members[label] > 1]
    if not together:
        return labels
    content = take(tensor.detach(), together).contiguous().reshape(len(together), -1).view(torch.uint8).cpu().numpy()
    keys: list[tuple[int, bytes]] = [(label, b"") for label in labels]
    for row, data in zip(together, content, strict=True):
        keys[row] = (labels[row], data.tobytes())
    order: dict[tuple[int, bytes], int] = {}
    return [order.setdefault(key, len(order)) for key in keys]
