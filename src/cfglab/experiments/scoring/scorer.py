"""Score the images of a run in the world of scenes: what the judge reads back, and how far sets are from real ones.

A prompt that is no sentence of that world, or an image of another size, is left as it is: pixel metrics only.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare_sets import REAL, parts_of
from cfglab.experiments.scoring.alignment_scores import READER, aligned, asked, judge_of, said
from cfglab.experiments.storage.feature_cache import FeatureCache, Seen, chunks
from cfglab.experiments.storage.png import read_pixels
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.store import SCORED, Store
from cfglab.metrics.byprompt import Reference, set_metrics
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.jackknife import Jackknife
from cfglab.progress import working
from cfglab.scenes.renderer import SIZE, render
from cfglab.scenes.vocabulary import Scene

if TYPE_CHECKING:
    from cfglab.scenes.classifier import SceneClassifier

ENOUGH = 128  # images of a setting from which on its distance to real scenes is measured: twice the 64 features
REFERENCE = 10_000  # real scenes, the same for every setting
PROMPTS_FOR_INTERVAL = 8
WITHIN = ("vendi", "pairwise_distance")
SETS = ("kid", "fid", "precision", "recall", "density", "coverage", *WITHIN)
VERSION = 2  # of what is computed here: another one scores a run again
Sets = Mapping[str, Mapping[str, Sequence[np.ndarray] | np.ndarray]]  # setting -> prompt -> features of its images


def score(store: Store, quiet: bool = True) -> None:
    """Score every image that was drawn, unless all of that was done before, which is known without loading torch."""
    with Scorer(store) as scorer:
        rows = [row for row in store.rows() if scorer.judges(row)]
        pictures = [(row.result.cell, row.sha256) for row in rows]
        state = hashlib.sha256(f"{VERSION}|{scorer.judge}|{ENOUGH}|{pictures}".encode()).hexdigest()
        whole = all("alignment" in row.result.metrics for row in rows)
        if not rows or (whole and store.meta(SCORED) == state):
            return
        with working("scoring", quiet):
            if scorer.pictures(rows):
                scorer.sets(rows)
                store.set_meta(SCORED, state)


class Scorer:
    """Judges the images of one run as they come, and its settings at the end. A context manager.

    What the judge saw is kept in the run folder (`storage.feature_cache`), so an image is read once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked = asked(store)
        self.judge = judge_of(READER)
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def judges(self, row: ResultRow) -> bool:
        """Whether this is an image of a scene that the judge knows the words of."""
        return row.result.status == "done" and row.result.prompt in self.asked

    def judged(self, rows: Sequence[ResultRow]) -> list[ResultRow]:
        """New images, before they are recorded, with their alignment with their prompts among their metrics."""
        found = self._alignments(rows)
        both = [{**row.result.metrics, **found.get(row.result.cell, {})} for row in rows]
        results = [row.result.model_copy(update={"metrics": it}) for row, it in zip(rows, both, strict=True)]
        return [row.model_copy(update={"result": it}) for row, it in zip(rows, results, strict=True)]

    def pictures(self, rows: Iterable[ResultRow]) -> bool:
        """Record the alignment of images with their prompts; False where no judge can look at them."""
        found = self._alignments(rows)
        self.store.record_metrics(found)
        return bool(found)

    def _alignments(self, rows: Iterable[ResultRow]) -> dict[str, dict[str, float]]:
        """By cell; empty where no judge can look at them."""
        rows = [row for row in rows if self.judges(row)]
        if not rows or not self._right_size(rows[0]) or self._reader is None:
            return {}
        return {
            row.result.cell: aligned(self.asked[row.result.prompt], seen)
            for part in chunks(rows)
            for row, seen in zip(part, self._look(part, self._reader), strict=True)
        }

    def sets(self, rows: Sequence[ResultRow]) -> None:
        """Record the metrics of sets, of every setting and of as many real scenes, from judged images."""
        assert self._reader is not None
        sets: dict[str, dict[str, list[np.ndarray]]] = {}
        for part in chunks(rows):
            for row, seen in zip(part, self._look(part, self._reader), strict=True):
                sets.setdefault(row.result.setting, {}).setdefault(row.result.prompt, []).append(seen.features)
        most = max((len(them) for by_prompt in sets.values() for them in by_prompt.values()), default=0)
        enough = any(sum(map(len, by_prompt.values())) >= ENOUGH for by_prompt in sets.values())
        each = -(-REFERENCE // len(self.asked)) if enough else 8
        reference = Reference.of(np.concatenate([self._real(scene, each, 0) for scene in self.asked.values()]))
        real = {prompt: self._real(scene, most, 1) for prompt, scene in self.asked.items()}
        record_sets(self.store, {REAL: real, **sets}, reference, ENOUGH if enough else None)

    @cached_property
    def _reader(self) -> "SceneClassifier | None":
        from cfglab.scenes.classifier import SceneClassifier

        try:
            return SceneClassifier.load(READER)
        except InputError as error:
            logging.getLogger("cfglab").warning("no alignment and no set metrics: %s", error)
            return None

    @cached_property
    def _cache(self) -> FeatureCache:
        return self._held.enter_context(FeatureCache(self.store.folder))

    def _right_size(self, row: ResultRow) -> bool:
        return read_pixels(self.store.folder / str(row.result.image)).shape == (SIZE, SIZE, 3)

    def _look(self, rows: Sequence[ResultRow], reader: "SceneClassifier") -> list[Seen]:
        """What the judge sees in each image, from the cache where it looked before."""

        def see(files: np.ndarray) -> list[Seen]:
            pixels = as_floats(files)
            looked = zip(reader.features(pixels), reader.classify(pixels), strict=True)
            return [Seen(features, said(reading)) for features, reading in looked]

        return self._cache.look(self.judge, rows, self.store.folder, see)

    def _real(self, scene: Scene, count: int, stream: int) -> np.ndarray:
        assert self._reader is not None
        key = hashlib.sha256(f"{scene.model_dump_json()}|{count}|{stream}".encode()).hexdigest()
        known = self._cache.get(self.judge, [key]).get(key)
        if known is None:
            known = Seen(real_features(self._reader, scene, count, stream), {})
            self._cache.put(self.judge, {key: known})
        return known.features


def record_sets(store: Store, sets: Sets, reference: Reference, enough: int | None) -> None:
    """Measure every set and record the metrics with the parts that differences need; sets of fewer than `enough`
    images (all, if None) only in what is measured within a prompt."""
    found = {}
    for name, by_prompt in sets.items():
        measured = set_metrics({prompt: np.stack(list(rows)) for prompt, rows in by_prompt.items()}, reference)
        found[name] = {
            metric: it for metric, it in measured.items() if metric in WITHIN or (enough is not None and it.n >= enough)
        }
    store.record_set_metrics(*recorded(store, found), SETS)


def recorded(
    store: Store, found: Mapping[str, Mapping[str, Jackknife]]
) -> tuple[dict[str, dict[str, Estimate]], dict[str, dict[str, str]]]:
    """Set metrics by setting as a store has them: estimates, with an interval from so many prompts on, and parts."""
    places = {prompt: place for place, prompt in enumerate(store.experiment.prompts)}
    table = {
        name: {
            metric: it.estimate if len(it.prompts) >= PROMPTS_FOR_INTERVAL else Estimate(value=it.value, n=it.n)
            for metric, it in row.items()
        }
        for name, row in found.items()
    }
    return table, {name: {metric: parts_of(it, places) for metric, it in row.items()} for name, row in found.items()}


def real_pictures(scene: Scene, count: int, stream: int) -> list[np.ndarray]:
    """Real images of a scene, uint8 (h, w, 3); the same ones each time, others for another `stream`."""
    key = hashlib.sha256(scene.model_dump_json().encode()).digest()
    rng = np.random.default_rng([stream, int.from_bytes(key[:8])])
    return [render(scene, rng) for _ in range(count)]


def real_features(reader: "SceneClassifier", scene: Scene, count: int, stream: int) -> np.ndarray:
    """Features, (count, 64), of those."""
    pictures = real_pictures(scene, count, stream)
    return np.concatenate([reader.features(as_floats(np.stack(part))) for part in chunks(pictures)])


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 `(n, h, w, 3)` as float32 `(n, 3, h, w)` in [-1, 1]."""
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
