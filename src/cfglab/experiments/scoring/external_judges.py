"""Metrics of a run by further judges, which have weights of their own: a number an image, or distances of features.

A judge is a critic (it has `scores`) or an eye (it has `features`); `cfglab.integrations.judges` makes them.
"""

import errno
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare_sets import REAL
from cfglab.experiments.scoring.alignment_scores import asked
from cfglab.experiments.scoring.scorer import ENOUGH, real_pictures, recorded
from cfglab.experiments.storage.feature_cache import FeatureCache, Seen, chunks
from cfglab.experiments.storage.png import open_image, read_pixels
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.limits import REAL_PIXELS
from cfglab.metrics.byprompt import Reference, distances
from cfglab.metrics.jackknife import Jackknife
from cfglab.metrics.registry import METRICS
from cfglab.progress import progress_bar

AT_ONCE = 16
REFERENCE = 4_096  # real images, where they are rendered


@runtime_checkable
class ImageScorer(Protocol):
    """Gives each image a number, beside its prompt. `key` names it and its weights: another one scores again."""

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> Sequence[float]:
        """(n,) of uint8 (n, h, w, 3)."""


class FeatureExtractor(Protocol):
    """Gives features; `metrics` name the kernel distance and the Fréchet distance in them."""

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, d) of uint8 (n, h, w, 3)."""


Judge: TypeAlias = ImageScorer | FeatureExtractor


def measure(store: Store, judge: Judge, real: Path | None = None, quiet: bool = True) -> int:
    """Record a judge's metrics of every image that was drawn; returns how many images it looked at for that.

    `real` is a folder of real images for an eye; without one the scenes that the prompts ask for are rendered.
    Stopped in the middle, it goes on where it was. Raises InputError where there are no images, no real images, or
    too few of either.
    """
    rows = check(store, judge.metrics, real)
    if isinstance(judge, ImageScorer):
        return _criticise(store, judge, rows, quiet)
    return _look(store, judge, rows, real, quiet)


def _criticise(store: Store, critic: ImageScorer, rows: Sequence[ResultRow], quiet: bool) -> int:
    (metric,) = critic.metrics
    known = store.meta(f"judge {metric}")
    left = [row for row in rows if known != critic.key or metric not in row.result.metrics]
    with progress_bar(len(left), quiet, "scoring") as advance:
        for part in chunks(left, AT_ONCE):
            pixels = np.stack([read_pixels(store.folder / str(row.result.image)) for row in part])
            found = critic.scores(pixels, [row.result.prompt for row in part])
            if known != critic.key:  # what is there is of other weights
                store.forget_metric(metric)
                store.set_meta(f"judge {metric}", critic.key)
                known = critic.key
            store.record_metrics(
                {row.result.cell: {metric: float(value)} for row, value in zip(part, found, strict=True)}
            )
            advance(len(part))
    return len(left)


def check(store: Store, metrics: Sequence[str], real: Path | None = None) -> list[ResultRow]:
    """The images of a run. Raises InputError where there are none for these metrics, or nothing that distances can be
    held against: said before a judge is downloaded."""
    rows = [row for row in store.rows() if row.result.status == "done"]
    if not rows:
        raise InputError(f"{store.folder}: has no images yet; cfglab run draws them.")
    of_sets = [metric for metric in metrics if metric in METRICS and METRICS[metric].of == "set"]
    if not of_sets:
        return rows
    most = _most(rows)
    if most < ENOUGH:
        raise InputError(
            f"{of_sets[0]} compares sets: it needs {ENOUGH} images of a setting, and there are {most}; "
            "draw more prompts or seeds."
        )
    if real is None and len(asked(store)) < len(store.experiment.prompts):
        raise InputError(
            f"{store.folder}: distances to real images need real images, and only those of scenes can be "
            "rendered; give a folder of them, --real FOLDER."
        )
    if real is not None and not real.is_dir():
        raise InputError(f"{real}: is no folder; --real names a folder of real images.")
    return rows


def _most(rows: Sequence[ResultRow]) -> int:
    """The images of the setting that has most."""
    return max(Counter(row.result.setting for row in rows).values())


def _look(store: Store, eye: FeatureExtractor, rows: Sequence[ResultRow], real: Path | None, quiet: bool) -> int:
    sets: dict[str, dict[str, list[np.ndarray]]] = {}
    pictures, floor = _rendered(store, _most(rows)) if real is None else (_read(real), {})
    looked = 0

    def see(pixels: np.ndarray) -> list[Seen]:
        nonlocal looked
        looked += len(pixels)
        return [Seen(features, {}) for features in eye.features(pixels)]

    with FeatureCache(store.folder) as cache:
        with progress_bar(len(rows), quiet, "looking") as advance:
            for part in chunks(rows, AT_ONCE):
                for row, seen in zip(part, cache.look(eye.key, part, store.folder, see), strict=True):
                    sets.setdefault(row.result.setting, {}).setdefault(row.result.prompt, []).append(seen.features)
                advance(len(part))
        with progress_bar(len(pictures), quiet, "looking at real images") as advance:
            there = _seen(eye, cache, pictures, advance)
            if floor:
                sets[REAL] = {prompt: list(_seen(eye, cache, them)) for prompt, them in floor.items()}
    reference = Reference.of(there)
    found = {setting: distances(by_prompt, reference) for setting, by_prompt in sets.items()}
    if not floor and len(there) >= 2 * ENOUGH:
        found[REAL] = _halved(there, store.experiment.prompts[0], _most(rows))
    names = dict(zip(("kid", "fid"), eye.metrics, strict=True))
    named = {
        setting: {names[metric]: it for metric, it in row.items() if it.n >= ENOUGH} for setting, row in found.items()
    }
    store.record_set_metrics(*recorded(store, named), eye.metrics)
    return looked


def _seen(
    eye: FeatureExtractor,
    cache: FeatureCache,
    pictures: Sequence[np.ndarray],
    advance: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Features of real images, kept by their pixels."""

    def see(new: Sequence[np.ndarray]) -> list[Seen]:
        return [Seen(features, {}) for features in eye.features(np.stack(new))]

    found = []
    for part in chunks(pictures, AT_ONCE):
        keys = [hashlib.sha256(repr(one.shape).encode() + one.tobytes()).hexdigest() for one in part]
        known = cache.fill(eye.key, dict(zip(keys, part, strict=True)), see)
        found += [known[key].features for key in keys]
        advance(len(part))
    return np.stack(found)


def _rendered(store: Store, most: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Real scenes of the prompts, uint8 (h, w, 3), and others: as many by prompt as a setting has, for the floor."""
    scenes = asked(store)
    each, alike = -(-REFERENCE // len(scenes)), -(-most // len(scenes))
    pictures = [picture for scene in scenes.values() for picture in real_pictures(scene, each, 0)]
    return pictures, {prompt: real_pictures(scene, alike, 1) for prompt, scene in scenes.items()}


def _halved(features: np.ndarray, prompt: str, most: int) -> dict[str, Jackknife]:
    """The floor of one's own real images: as many as a setting has, at most half, against the others. They belong to
    no prompt; under this one they stand without an interval."""
    order = np.random.default_rng(0).permutation(len(features))
    count = min(most, len(features) // 2)
    return distances({prompt: features[order[:count]]}, Reference.of(features[order[count:]]))


def _read(folder: Path) -> list[np.ndarray]:
    """The images of a folder, uint8 (h, w, 3), of one size; other files are passed over."""
    found = []
    for file in sorted(folder.iterdir()):
        try:
            found.append(np.asarray(open_image(file, REAL_PIXELS)))
        except OSError as error:
            if error.errno == errno.EFBIG and file.suffix.lower() in Image.registered_extensions():
                raise InputError(
                    f"{file}: is too large ({error.strerror}); make it smaller, or leave it out."
                ) from error
            continue  # no image
    if len({picture.shape for picture in found}) > 1:
        raise InputError(f"{folder}: its images have several sizes; bring them to one, best that of the run's own.")
    if len(found) < ENOUGH:
        raise InputError(f"{folder}: has {len(found)} images, and {ENOUGH} real ones are needed; give more.")
    return found
