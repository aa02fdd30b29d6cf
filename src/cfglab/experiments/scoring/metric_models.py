"""Metrics of a run by metric models with weights of their own: a score for each image, or distances of features.

A metric model is an ImageScorer (it has `scores`) or a FeatureExtractor (it has `features`). Those that are shipped
are in `cfglab.integrations.metric_models`.
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
from cfglab.experiments.scoring.alignment_scores import prompt_scenes
from cfglab.experiments.scoring.scorer import ENOUGH, as_stored, real_images
from cfglab.experiments.storage.feature_cache import FeatureCache, ImageFeatures, chunks
from cfglab.experiments.storage.png import open_image, read_pixels
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.set_metrics import REAL
from cfglab.experiments.storage.store import Store
from cfglab.limits import REAL_PIXELS
from cfglab.metrics.byprompt import Reference, distances
from cfglab.metrics.jackknife import Jackknife
from cfglab.metrics.registry import METRICS
from cfglab.progress import progress_bar

AT_ONCE = 16
REFERENCE = 4_096
"""Real images, if they are rendered."""


@runtime_checkable
class ImageScorer(Protocol):
    """Scores each image with its prompt.

    Attributes:
        metrics: the name of its one metric.
        key: names the model and its weights; images are scored again if it changes.
    """

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> Sequence[float]:
        """Return one score for each image.

        Args:
            pixels: uint8 (n, h, w, 3).
            prompts: the n prompts.
        """


class FeatureExtractor(Protocol):
    """Extracts features of images.

    Attributes:
        metrics: the names of the kernel distance and of the Fréchet distance in these features.
        key: names the model and its weights; images are read again if it changes.
    """

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Return features (n, d).

        Args:
            pixels: uint8 (n, h, w, 3).
        """


MetricModel: TypeAlias = ImageScorer | FeatureExtractor


def measure(store: Store, model: MetricModel, real: Path | None = None, quiet: bool = True) -> int:
    """Record the metrics of a metric model for every image of a run. An interrupted measurement continues.

    Args:
        store: a run, open for writing.
        model: the metric model.
        real: a folder of real images for a FeatureExtractor; None renders the scenes of the prompts.
        quiet: show no progress.

    Returns:
        The number of images of the run that the model was applied to.

    Raises:
        InputError: if there are no images, no real images, or too few of either.
        MachineError: if the folder cannot be written.
    """
    rows = check(store, model.metrics, real)
    if isinstance(model, ImageScorer):
        return _score_images(store, model, rows, quiet)
    return _measure_distances(store, model, rows, real, quiet)


def measure_run(
    folder: Path,
    models: Sequence[MetricModel],
    real: Path | None = None,
    quiet: bool = True,
    tell: Callable[[MetricModel, int], object] = lambda *_: None,
) -> None:
    """Record the metrics of several metric models for a run, and write its results.csv again.

    Args:
        folder: the run folder.
        models: the metric models.
        real: as in `measure`.
        quiet: show no progress.
        tell: called after each model with the number of images that it was applied to.

    Raises:
        InputError: as in `measure`, or there is no such run.
        MachineError: if the folder cannot be written.
    """
    with Store.open(folder) as stored:
        experiment = stored.experiment
    with Store.create(folder, experiment) as store:
        for model in models:
            tell(model, measure(store, model, real, quiet))
        store.write_csv()


def _score_images(store: Store, scorer: ImageScorer, rows: Sequence[ResultRow], quiet: bool) -> int:
    (metric,) = scorer.metrics
    recorded_key = store.meta(f"judge {metric}")
    missing = [row for row in rows if recorded_key != scorer.key or metric not in row.result.metrics]
    with progress_bar(len(missing), quiet, "scoring") as advance:
        for part in chunks(missing, AT_ONCE):
            pixels = np.stack([read_pixels(store.folder / str(row.result.image)) for row in part])
            scores = scorer.scores(pixels, [row.result.prompt for row in part])
            if recorded_key != scorer.key:  # the recorded scores are those of other weights
                store.forget_metric(metric)
                store.set_meta(f"judge {metric}", scorer.key)
                recorded_key = scorer.key
            store.record_metrics(
                {row.result.cell: {metric: float(value)} for row, value in zip(part, scores, strict=True)}
            )
            advance(len(part))
    return len(missing)


def check(store: Store, metrics: Sequence[str], real: Path | None = None) -> list[ResultRow]:
    """Check that metrics can be measured, before a model is downloaded.

    Args:
        store: a run.
        metrics: names of metrics.
        real: a folder of real images; None renders the scenes of the prompts.

    Returns:
        The rows that have an image.

    Raises:
        InputError: if the run has no images, too few for a metric of sets, or there are no real images.
    """
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
    if real is None and len(prompt_scenes(store)) < len(store.experiment.prompts):
        raise InputError(
            f"{store.folder}: distances to real images need real images, and only those of scenes can be "
            "rendered; give a folder of them, --real FOLDER."
        )
    if real is not None and not real.is_dir():
        raise InputError(f"{real}: is no folder; --real names a folder of real images.")
    return rows


def _most(rows: Sequence[ResultRow]) -> int:
    """The number of images of the setting that has most."""
    return max(Counter(row.result.setting for row in rows).values())


def _measure_distances(
    store: Store, extractor: FeatureExtractor, rows: Sequence[ResultRow], real: Path | None, quiet: bool
) -> int:
    sets: dict[str, dict[str, list[np.ndarray]]] = {}
    images, floor = _rendered(store, _most(rows)) if real is None else (_read(real), {})
    extracted = 0

    def extract(pixels: np.ndarray) -> list[ImageFeatures]:
        nonlocal extracted
        extracted += len(pixels)
        return [ImageFeatures(features, {}) for features in extractor.features(pixels)]

    with FeatureCache(store.folder) as cache:
        with progress_bar(len(rows), quiet, "looking") as advance:
            for part in chunks(rows, AT_ONCE):
                for row, image in zip(part, cache.extract(extractor.key, part, store.folder, extract), strict=True):
                    sets.setdefault(row.result.setting, {}).setdefault(row.result.prompt, []).append(image.features)
                advance(len(part))
        with progress_bar(len(images), quiet, "looking at real images") as advance:
            real_features = _real_features(extractor, cache, images, advance)
            if floor:
                sets[REAL] = {
                    prompt: list(_real_features(extractor, cache, prompt_images))
                    for prompt, prompt_images in floor.items()
                }
    reference = Reference.of(real_features)
    jackknives = {setting: distances(by_prompt, reference) for setting, by_prompt in sets.items()}
    if not floor and len(real_features) >= 2 * ENOUGH:
        jackknives[REAL] = _split_floor(real_features, store.experiment.prompts[0], _most(rows))
    names = dict(zip(("kid", "fid"), extractor.metrics, strict=True))
    renamed = {
        setting: {names[metric]: jackknife for metric, jackknife in row.items() if jackknife.n >= ENOUGH}
        for setting, row in jackknives.items()
    }
    store.record_set_metrics(*as_stored(store, renamed), extractor.metrics)
    return extracted


def _real_features(
    extractor: FeatureExtractor,
    cache: FeatureCache,
    images: Sequence[np.ndarray],
    advance: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Features (n, d) of real images, kept by their pixels."""

    def extract(missing: Sequence[np.ndarray]) -> list[ImageFeatures]:
        return [ImageFeatures(features, {}) for features in extractor.features(np.stack(missing))]

    rows = []
    for part in chunks(images, AT_ONCE):
        keys = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in part]
        cached = cache.fill(extractor.key, dict(zip(keys, part, strict=True)), extract)
        rows += [cached[key].features for key in keys]
        advance(len(part))
    return np.stack(rows)


def _rendered(store: Store, most: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Rendered scenes of the prompts, uint8 (h, w, 3), and others by prompt for the floor: `most` over all prompts."""
    scenes = prompt_scenes(store)
    reference_count, floor_count = -(-REFERENCE // len(scenes)), -(-most // len(scenes))
    images = [image for scene in scenes.values() for image in real_images(scene, reference_count, 0)]
    return images, {prompt: real_images(scene, floor_count, 1) for prompt, scene in scenes.items()}


def _split_floor(features: np.ndarray, prompt: str, most: int) -> dict[str, Jackknife]:
    """The floor of a folder of real images: `most` of them, at most half, against the others. They have no prompt;
    under this one they have no interval."""
    order = np.random.default_rng(0).permutation(len(features))
    count = min(most, len(features) // 2)
    return distances({prompt: features[order[:count]]}, Reference.of(features[order[count:]]))


def _read(folder: Path) -> list[np.ndarray]:
    """The images of a folder, uint8 (h, w, 3), all of one size; other files are left out."""
    images = []
    for file in sorted(folder.iterdir()):
        try:
            images.append(np.asarray(open_image(file, REAL_PIXELS)))
        except OSError as error:
            if error.errno == errno.EFBIG and file.suffix.lower() in Image.registered_extensions():
                raise InputError(
                    f"{file}: is too large ({error.strerror}); make it smaller, or leave it out."
                ) from error
            continue  # no image
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{folder}: its images have several sizes; bring them to one, best that of the run's own.")
    if len(images) < ENOUGH:
        raise InputError(f"{folder}: has {len(images)} images, and {ENOUGH} real ones are needed; give more.")
    return images
