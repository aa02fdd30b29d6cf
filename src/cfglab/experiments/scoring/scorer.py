"""Score the images of a run in the world of scenes: alignment with the prompts, and metrics of sets.

A prompt that is no sentence of that world, or an image of another size, has pixel metrics only.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Self

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.scoring.alignment_scores import CLASSIFIER, classifier_key, image_alignment, prompt_scenes
from cfglab.experiments.storage.feature_cache import FeatureCache, ImageFeatures, chunks
from cfglab.experiments.storage.png import read_pixels
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.set_metrics import REAL, jackknife_text
from cfglab.experiments.storage.store import SCORED, Store
from cfglab.metrics.byprompt import Reference, set_metrics
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.jackknife import Jackknife
from cfglab.progress import working
from cfglab.scenes.vocabulary import SIZE, Scene

if TYPE_CHECKING:
    from cfglab.scenes.classifier import SceneClassifier

ENOUGH = 128
"""Images of a setting from which on its distance to real scenes is measured: as many as the features."""
REFERENCE = 10_000
"""Real scenes of the reference, the same for every setting."""
PROMPTS_FOR_INTERVAL = 8
WITHIN_PROMPT = ("vendi", "pairwise_distance")
SET_METRICS = ("kid", "fid", "precision", "recall", "density", "coverage", *WITHIN_PROMPT)
VERSION = 3
"""The version of what is computed here; a run with another version is scored again."""
Sets = Mapping[str, Mapping[str, Sequence[np.ndarray] | np.ndarray]]
"""Setting -> prompt -> features of its images."""


def score(store: Store, quiet: bool = True) -> None:
    """Score every image of a run. If all of this was done before, torch is not loaded.

    Args:
        store: a run, open for writing.
        quiet: show no progress.

    Raises:
        MachineError: if the folder cannot be written.
    """
    with Scorer(store) as scorer:
        rows = [row for row in store.rows() if scorer.has_scene(row)]
        images = [(row.result.cell, row.sha256) for row in rows]
        state = hashlib.sha256(f"{VERSION}|{scorer.key}|{ENOUGH}|{images}".encode()).hexdigest()
        complete = all("alignment" in row.result.metrics for row in rows)
        if not rows or (complete and store.meta(SCORED) == state):
            return
        with working("scoring", quiet):
            if scorer.record_alignment(rows):
                scorer.record_set_metrics(rows)
                store.set_meta(SCORED, state)


class Scorer:
    """Scores the images of one run as they are generated, and its settings at the end. A context manager.

    Features and labels are kept in the run folder (`storage.feature_cache`), so each image is classified once.

    Attributes:
        store: the run, open for writing.
        scenes: prompt -> scene.
        key: the key of the classifier in the cache.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scenes = prompt_scenes(store)
        self.key = classifier_key(CLASSIFIER)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def has_scene(self, row: ResultRow) -> bool:
        """Return whether a row has an image, and a prompt of the world of scenes."""
        return row.result.status == "done" and row.result.prompt in self.scenes

    def scored(self, rows: Sequence[ResultRow]) -> list[ResultRow]:
        """Return new rows, before they are recorded, with the alignment among their metrics.

        Args:
            rows: rows whose images are written.

        Raises:
            MachineError: if the cache cannot be written.
        """
        alignments = self._alignments(rows)
        scored_rows = []
        for row in rows:
            metrics = {**row.result.metrics, **alignments.get(row.result.cell, {})}
            result = row.result.model_copy(update={"metrics": metrics})
            scored_rows.append(row.model_copy(update={"result": result}))
        return scored_rows

    def record_alignment(self, rows: Iterable[ResultRow]) -> bool:
        """Record the alignment of images with their prompts; False if there is no classifier for them.

        Args:
            rows: rows of the run.

        Raises:
            MachineError: if the folder cannot be written.
        """
        alignments = self._alignments(rows)
        self.store.record_metrics(alignments)
        return bool(alignments)

    def _alignments(self, rows: Iterable[ResultRow]) -> dict[str, dict[str, float]]:
        """By cell; empty if there is no classifier for the images."""
        rows = [row for row in rows if self.has_scene(row)]
        if not rows or not self._right_size(rows[0]) or self._classifier is None:
            return {}
        return {
            row.result.cell: image_alignment(self.scenes[row.result.prompt], features)
            for part in chunks(rows)
            for row, features in zip(part, self._extract(part, self._classifier), strict=True)
        }

    def record_set_metrics(self, rows: Sequence[ResultRow]) -> None:
        """Record the metrics of sets of every setting, and of as many real scenes.

        Args:
            rows: rows with images of scenes.

        Raises:
            MachineError: if the folder cannot be written.
        """
        assert self._classifier is not None
        sets: dict[str, dict[str, list[np.ndarray]]] = {}
        for part in chunks(rows):
            for row, image in zip(part, self._extract(part, self._classifier), strict=True):
                sets.setdefault(row.result.setting, {}).setdefault(row.result.prompt, []).append(image.features)
        largest = max((len(images) for by_prompt in sets.values() for images in by_prompt.values()), default=0)
        enough = any(sum(map(len, by_prompt.values())) >= ENOUGH for by_prompt in sets.values())
        count = -(-REFERENCE // len(self.scenes)) if enough else 8
        reference = Reference.of(np.concatenate([self._real(scene, count, 0) for scene in self.scenes.values()]))
        real = {prompt: self._real(scene, largest, 1) for prompt, scene in self.scenes.items()}
        record_sets(self.store, {REAL: real, **sets}, reference, ENOUGH if enough else None)

    @cached_property
    def _classifier(self) -> "SceneClassifier | None":
        from cfglab.scenes.classifier import SceneClassifier

        try:
            return SceneClassifier.load(CLASSIFIER)
        except InputError as error:
            logging.getLogger("cfglab").warning("no alignment and no set metrics: %s", error)
            return None

    @cached_property
    def _cache(self) -> FeatureCache:
        return self._stack.enter_context(FeatureCache(self.store.folder))

    def _right_size(self, row: ResultRow) -> bool:
        return read_pixels(self.store.folder / str(row.result.image)).shape == (SIZE, SIZE, 3)

    def _extract(self, rows: Sequence[ResultRow], classifier: "SceneClassifier") -> list[ImageFeatures]:
        """Features and labels of each image, from the cache if it has them."""

        def classify(images: np.ndarray) -> list[ImageFeatures]:
            pairs = zip(*classifier.read(as_floats(images)), strict=True)
            return [ImageFeatures(features, dataclasses.asdict(labels)) for features, labels in pairs]

        return self._cache.extract(self.key, rows, self.store.folder, classify)

    def _real(self, scene: Scene, count: int, stream: int) -> np.ndarray:
        assert self._classifier is not None
        key = hashlib.sha256(f"{scene!r}|{count}|{stream}".encode()).hexdigest()
        cached = self._cache.get(self.key, [key]).get(key)
        if cached is None:
            cached = ImageFeatures(real_features(self._classifier, scene, count, stream), {})
            self._cache.put(self.key, {key: cached})
        return cached.features


def record_sets(store: Store, sets: Sets, reference: Reference, enough: int | None) -> None:
    """Measure every set, and record its metrics with the values that differences need.

    Args:
        store: a run, open for writing.
        sets: setting -> prompt -> features (n, d).
        reference: the features of the real images.
        enough: sets of fewer images have only the metrics within a prompt; None means all sets.

    Raises:
        MachineError: if the folder cannot be written.
    """
    jackknives = {}
    for name, by_prompt in sets.items():
        measured = set_metrics({prompt: np.stack(list(rows)) for prompt, rows in by_prompt.items()}, reference)
        jackknives[name] = {
            metric: jackknife
            for metric, jackknife in measured.items()
            if metric in WITHIN_PROMPT or (enough is not None and jackknife.n >= enough)
        }
    store.record_set_metrics(*as_stored(store, jackknives), SET_METRICS)


def as_stored(
    store: Store, jackknives: Mapping[str, Mapping[str, Jackknife]]
) -> tuple[dict[str, dict[str, Estimate]], dict[str, dict[str, str]]]:
    """Return metrics of sets as `Store.record_set_metrics` takes them.

    Args:
        store: the run.
        jackknives: setting -> metric -> value with and without each prompt.

    Returns:
        Setting -> metric -> estimate, with an interval from PROMPTS_FOR_INTERVAL prompts on; setting -> metric -> the
        text of its values without each prompt.
    """
    positions = {prompt: position for position, prompt in enumerate(store.experiment.prompts)}
    estimates = {
        name: {
            metric: jackknife.estimate
            if len(jackknife.prompts) >= PROMPTS_FOR_INTERVAL
            else Estimate(value=jackknife.value, n=jackknife.n)
            for metric, jackknife in row.items()
        }
        for name, row in jackknives.items()
    }
    texts = {
        name: {metric: jackknife_text(jackknife, positions) for metric, jackknife in row.items()}
        for name, row in jackknives.items()
    }
    return estimates, texts


def real_images(scene: Scene, count: int, stream: int) -> list[np.ndarray]:
    """Return rendered images of a scene, the same ones each time.

    Args:
        scene: the scene.
        count: the number of images.
        stream: another stream gives other images.

    Returns:
        uint8 (h, w, 3) each.
    """
    from cfglab.scenes.renderer import render  # it loads torch

    digest = hashlib.sha256(f"{scene!r}|{stream}".encode()).digest()
    random = Random(int.from_bytes(digest[:8]))
    return [image for part in chunks(range(count), 64) for image in render([scene] * len(part), random)]


def real_features(classifier: "SceneClassifier", scene: Scene, count: int, stream: int) -> np.ndarray:
    """Return the features of `real_images`, (count, 128)."""
    images = real_images(scene, count, stream)
    return np.concatenate([classifier.features(as_floats(np.stack(part))) for part in chunks(images)])


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 `(n, h, w, 3)` as float32 `(n, 3, h, w)` in [-1, 1]."""
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
