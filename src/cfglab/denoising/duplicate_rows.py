"""Which rows of a batch are equal bit for bit, and the taking of rows."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


class EqualRows:
    """Which rows of a batch are equal bit for bit, call after call.

    Groups only ever split: the first call compares all rows, later ones compare what is new, and only inside groups
    that are still together. So a run whose rows all differ compares once, rows that share cost one small comparison a
    call, and noise added by the sampler or latents edited by a callback cannot go unseen.
    """

    def __init__(self) -> None:
        self._labels: list[int] = []
        self._known: list[tuple[Tensor, int]] = []

    @property
    def all_differ(self) -> bool:
        """Whether no two rows were equal at the last call: so it stays, and nothing is compared any more."""
        return 0 < len(self._labels) == len(set(self._labels))

    def labels(self, sample: Tensor, conditioning: Sequence[Tensor]) -> list[int]:
        """One label a row; rows of one label are equal in `sample` and in every tensor of `conditioning`."""
        if len(self._labels) != len(sample):
            self._labels, self._known = [0] * len(sample), []
        if self.all_differ:
            return self._labels
        now = [(tensor, 0 if tensor.is_inference() else tensor._version) for tensor in conditioning]
        new = [tensor for tensor, version in now if not any(tensor is t and version == v for t, v in self._known)]
        for tensor in (sample, *new):
            self._labels = _split(self._labels, tensor)
        self._known = now
        return self._labels


def take(tensor: Tensor, rows: list[int]) -> Tensor:
    """Those rows of a tensor, in that order; a view where they are consecutive."""
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
