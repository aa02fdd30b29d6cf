"""All set metrics of one setting with their delete-one-prompt intervals, each pair of images visited once.

The same numbers as `delete_one_prompt` over the functions of `sets`, without computing everything anew for each prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfglab.metrics.distances import as_features, row_blocks, same_width, squared_blocks, squared_radii
from cfglab.metrics.jackknife import Jackknife, by_prompt
from cfglab.metrics.sets import (
    K,
    covariance,
    frechet,
    kernel_block,
    kernel_diagonal,
    kernel_self_mean,
    kernel_sums,
    mean_pairwise_distance,
    vendi,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Reference:
    """Features of real images and what is computed from them once; make it with `Reference.of`.

    Attributes:
        features: (m, d), float64.
        radii: (m,), the squared distance of each row to its k-th nearest other row.
        mean: (d,).
        covariance: (d, d), divided by m - 1.
        kernel_mean: the mean of the KID kernel over all pairs of different rows.
        k: the neighbor that sets the radii.
    """

    features: FloatArray
    radii: FloatArray  # squared, to the k-th neighbour
    mean: FloatArray
    covariance: FloatArray
    kernel_mean: float
    k: int

    @classmethod
    def of(cls, features: Any, k: int = K) -> "Reference":
        """Return the Reference of some features.

        Args:
            features: (m, d), m above k.
            k: the neighbor that sets the radii, 1 or more.

        Raises:
            InputError: if the shapes are wrong, there are too few rows, or a value is not finite.
        """
        rows = as_features(features, "real", 2)
        return cls(rows, squared_radii(rows, k), rows.mean(axis=0), covariance(rows), kernel_self_mean(rows), k)


def set_metrics(features: Mapping[str, Any], reference: Reference) -> dict[str, Jackknife]:
    """KID, FID, precision, recall, density, coverage, Vendi and pairwise distance of one setting.

    Args:
        features: prompt -> (n, d) features of its images.
        reference: real scenes; the same for all settings.

    Returns:
        Name -> Jackknife; a name is absent where it is not defined: a pair metric with one image, neighbours with at
        most k images. `without` is empty where leaving a prompt out leaves too little.

    Raises:
        InputError: no prompt, other shapes, values that are not finite.
    """
    arrays = by_prompt(features)
    prompts = tuple(arrays)
    rows = np.concatenate(list(arrays.values()))
    same_width(reference.features, rows)
    group = np.repeat(np.arange(len(prompts)), [len(array) for array in arrays.values()])
    sizes = np.bincount(group)
    smallest = len(rows) - sizes.max() if len(prompts) > 1 else 0
    measured: dict[str, tuple[float, FloatArray]] = {}
    if len(rows) >= 2:
        measured["kid"] = _kid(rows, group, reference, leave=smallest >= 2)
        measured["fid"] = _fid(rows, group, reference, leave=smallest >= 2)
    if len(rows) > reference.k:
        measured |= _neighbours(rows, group, reference, leave=smallest > reference.k)
    jackknives = {
        name: Jackknife(value, tuple(without.tolist()), prompts, len(rows))
        for name, (value, without) in measured.items()
    }
    return jackknives | _within_prompts(arrays)


def distances(features: Mapping[str, Any], reference: Reference) -> dict[str, Jackknife]:
    """Return KID and FID alone, for features of many dimensions d.

    FID is computed only from 2 d images on, and without an interval: each prompt left out would cost the eigenvalues
    of a d x d matrix again.

    Args:
        features: prompt -> (n, d) features of its images.
        reference: real images; the same for all settings.

    Returns:
        "kid", and where there are enough images "fid" -> Jackknife.

    Raises:
        InputError: if there is no prompt, the shapes are wrong, or a value is not finite.
    """
    arrays = by_prompt(features)
    prompts = tuple(arrays)
    rows = np.concatenate(list(arrays.values()))
    same_width(reference.features, rows)
    group = np.repeat(np.arange(len(prompts)), [len(array) for array in arrays.values()])
    leave = len(prompts) > 1 and len(rows) - np.bincount(group).max() >= 2
    kid, without = _kid(rows, group, reference, leave=leave)
    jackknives = {"kid": Jackknife(kid, tuple(without.tolist()), prompts, len(rows))}
    if min(len(rows), len(reference.features)) >= 2 * rows.shape[1]:
        jackknives["fid"] = Jackknife(_fid(rows, group, reference, leave=False)[0], (), prompts, len(rows))
    return jackknives


def _kid(rows: FloatArray, group: IntArray, reference: Reference, *, leave: bool) -> tuple[float, FloatArray]:
    groups, sizes = group.max() + 1, np.bincount(group)
    member = _one_hot(group)
    blocks = np.zeros((groups, groups))
    for part in row_blocks(len(rows), len(rows)):
        np.add.at(blocks, group[part], kernel_block(rows[part], rows) @ member)
    diagonal = np.bincount(group, kernel_diagonal(rows))
    cross = np.bincount(group, kernel_sums(rows, reference.features))

    def value(inner: Any, self_pairs: Any, across: Any, n: Any) -> Any:
        return reference.kernel_mean + (inner - self_pairs) / (n * (n - 1)) - 2 * across / (n * len(reference.features))

    whole = value(blocks.sum(), diagonal.sum(), cross.sum(), len(rows))
    if not leave:
        return float(whole), np.empty(0)
    inner = blocks.sum() - blocks.sum(axis=0) - blocks.sum(axis=1) + np.diag(blocks)
    without = value(inner, diagonal.sum() - diagonal, cross.sum() - cross, len(rows) - sizes)
    return float(whole), without


def _fid(rows: FloatArray, group: IntArray, reference: Reference, *, leave: bool) -> tuple[float, FloatArray]:
    def value(images: FloatArray) -> float:
        return frechet(reference.mean, reference.covariance, images.mean(axis=0), covariance(images))

    without = [value(rows[group != g]) for g in range(group.max() + 1)] if leave else []
    return value(rows), np.asarray(without, dtype=np.float64)


def _neighbours(
    rows: FloatArray, group: IntArray, reference: Reference, *, leave: bool
) -> dict[str, tuple[float, FloatArray]]:
    """Precision, recall, density, coverage. Without a prompt the balls around the other images can only grow."""
    groups, n, m = group.max() + 1, len(rows), len(reference.features)
    member = _one_hot(group)
    radii = squared_radii(rows, reference.k)
    grown = _radii_without(rows, group, reference.k) if leave else np.empty((n, 0))
    balls = np.zeros(n)  # real balls around each image
    covered, recalled = 0, 0
    covered_left, recalled_left = np.zeros(groups), np.zeros(groups)
    for part, block in squared_blocks(reference.features, rows):
        inside = block <= reference.radii[part, None]
        balls += inside.sum(axis=0)
        holds = inside @ member  # images of each prompt in each real ball
        total = holds.sum(axis=1)
        covered += int((total > 0).sum())
        covered_left += (total[:, None] > holds).sum(axis=0)
        reached = block <= radii
        count = reached @ member
        total = count.sum(axis=1)
        recalled += int((total > 0).sum())
        if leave:
            still = total[:, None] > count
            for g in range(groups):
                columns = np.flatnonzero((grown[:, g] > radii) & (group != g))
                still[:, g] |= (block[:, columns] <= grown[columns, g]).any(axis=1)
            recalled_left += still.sum(axis=0)

    def mean(per_image: FloatArray) -> tuple[float, FloatArray]:
        sums = np.bincount(group, per_image)
        return float(per_image.mean()), (sums.sum() - sums) / (n - np.bincount(group)) if leave else np.empty(0)

    none = np.empty(0)
    return {
        "precision": mean((balls > 0).astype(np.float64)),
        "recall": (recalled / m, recalled_left / m if leave else none),
        "density": mean(balls / reference.k),
        "coverage": (covered / m, covered_left / m if leave else none),
    }


def _radii_without(rows: FloatArray, group: IntArray, k: int) -> FloatArray:
    """Squared k-th neighbour distance of each row when prompt g is left out, (n, groups)."""
    reach = min(len(rows) - 1, k + int(np.bincount(group).max()))  # enough neighbours to lose a whole prompt
    near, who = np.empty((len(rows), reach)), np.empty((len(rows), reach), dtype=np.intp)
    for part, block in squared_blocks(rows, rows):
        block[np.arange(block.shape[0]), np.arange(part.start, part.stop)] = np.inf
        chosen = np.argpartition(block, reach - 1, axis=1)[:, :reach]
        distances = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(distances, axis=1)
        near[part] = np.take_along_axis(distances, order, axis=1)
        who[part] = group[np.take_along_axis(chosen, order, axis=1)]
    radii = np.empty((len(rows), group.max() + 1))
    for g in range(radii.shape[1]):
        kth = ((who != g).cumsum(axis=1) >= k).argmax(axis=1)
        radii[:, g] = near[np.arange(len(rows)), kth]
    return radii


def _within_prompts(arrays: dict[str, FloatArray]) -> dict[str, Jackknife]:
    """Diversity within a prompt, averaged over the prompts that have at least two images."""
    several = {prompt: rows for prompt, rows in arrays.items() if len(rows) >= 2}
    if not several:
        return {}
    n, groups = sum(map(len, several.values())), len(several)
    jackknives = {}
    for name, measure in (("vendi", vendi), ("pairwise_distance", mean_pairwise_distance)):
        values = np.array([measure(rows) for rows in several.values()])
        without = (values.sum() - values) / (groups - 1) if groups > 1 else np.empty(0)
        jackknives[name] = Jackknife(float(values.mean()), tuple(without.tolist()), tuple(several), n)
    return jackknives


def _one_hot(group: IntArray) -> FloatArray:
    return np.eye(group.max() + 1)[group]
