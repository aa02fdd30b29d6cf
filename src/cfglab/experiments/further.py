"""Metrics of a run by further judges, which have weights of their own: a number a picture, or distances of features.

A judge is a critic (it has `scores`) or an eye (it has `features`); `cfglab.hosts.judges` makes them.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from cfglab.errors import InputError
from cfglab.experiments.features import FeatureCache, Seen, chunks
from cfglab.experiments.judged import asked
from cfglab.experiments.picture import read_pixels
from cfglab.experiments.progress import progress_bar
from cfglab.experiments.results import Row
from cfglab.experiments.scoring import ENOUGH, real_pictures, recorded
from cfglab.experiments.setcompare import REAL
from cfglab.experiments.store import Store
from cfglab.metrics.byprompt import Reference, distances

AT_ONCE = 16
REFERENCE = 4_096  # real pictures, where they are rendered


@runtime_checkable
class Critic(Protocol):
    """Gives each picture a number, beside its prompt. `key` names it and its weights: another one scores again."""

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> Sequence[float]:
        """(n,) of uint8 (n, h, w, 3)."""


class Eye(Protocol):
    """Gives features; `metrics` name the kernel distance and the Fréchet distance in them."""

    metrics: ClassVar[tuple[str, ...]]
    key: str

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, d) of uint8 (n, h, w, 3)."""


Judge: TypeAlias = Critic | Eye


def measure(store: Store, judge: Judge, real: Path | None = None, quiet: bool = True) -> int:
    """Record a judge's metrics of every picture that was drawn; returns how many pictures it looked at for that.

    `real` is a folder of real pictures for an eye; without one the scenes that the prompts ask for are rendered.
    Stopped in the middle, it goes on where it was. Raises InputError where there are no pictures, no real pictures, or
    too few of either.
    """
    rows = [row for row in store.rows() if row.result.status == "done"]
    if not rows:
        raise InputError(f"{store.folder}: has no pictures yet; cfglab run draws them.")
    if isinstance(judge, Critic):
        return _criticise(store, judge, rows, quiet)
    return _look(store, judge, rows, real, quiet)


def _criticise(store: Store, critic: Critic, rows: Sequence[Row], quiet: bool) -> int:
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


def _look(store: Store, eye: Eye, rows: Sequence[Row], real: Path | None, quiet: bool) -> int:
    sets: dict[str, dict[str, list[np.ndarray]]] = {}
    most = max(Counter(row.result.setting for row in rows).values())
    if most < ENOUGH:
        raise InputError(
            f"{eye.metrics[0]} compares sets: it needs {ENOUGH} pictures of a setting, and there are {most}; "
            "draw more prompts or seeds."
        )
    pictures, floor = _rendered(store, most) if real is None else (_read(real), {})
    looked = 0

    def see(pixels: np.ndarray) -> list[Seen]:
        nonlocal looked
        looked += len(pixels)
        return [Seen(features, {}) for features in eye.features(pixels)]

    with FeatureCache(store.folder) as cache, progress_bar(len(rows), quiet, "looking") as advance:
        for part in chunks(rows, AT_ONCE):
            for row, seen in zip(part, cache.look(eye.key, part, store.folder, see), strict=True):
                sets.setdefault(row.result.setting, {}).setdefault(row.result.prompt, []).append(seen.features)
            advance(len(part))
        there = _seen(eye, pictures)
    if floor:
        sets[REAL] = {prompt: list(_seen(eye, them)) for prompt, them in floor.items()}
    names = dict(zip(("kid", "fid"), eye.metrics, strict=True))
    reference = Reference.of(there)
    found = {
        setting: {names[metric]: it for metric, it in distances(by_prompt, reference).items() if it.n >= ENOUGH}
        for setting, by_prompt in sets.items()
    }
    store.record_set_metrics(*recorded(store, found), eye.metrics)
    return looked


def _seen(eye: Eye, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([eye.features(np.stack(part)) for part in chunks(pictures, AT_ONCE)])


def _rendered(store: Store, most: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Real scenes of the prompts, uint8 (h, w, 3), and others: as many by prompt as a setting has, for the floor."""
    scenes = asked(store)
    if len(scenes) < len(store.experiment.prompts):
        raise InputError(
            f"{store.folder}: distances to real pictures need real pictures, and only those of scenes can be "
            "rendered; give a folder of them, --real FOLDER."
        )
    each, alike = -(-REFERENCE // len(scenes)), -(-most // len(scenes))
    pictures = [picture for scene in scenes.values() for picture in real_pictures(scene, each, 0)]
    return pictures, {prompt: real_pictures(scene, alike, 1) for prompt, scene in scenes.items()}


def _read(folder: Path) -> list[np.ndarray]:
    """The pictures of a folder, uint8 (h, w, 3), of one size; other files are passed over."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; --real names a folder of real pictures.")
    found = []
    for file in sorted(folder.iterdir()):
        try:
            with Image.open(file) as opened:
                found.append(np.asarray(opened.convert("RGB")))
        except OSError:  # no picture
            continue
    if len({picture.shape for picture in found}) > 1:
        raise InputError(f"{folder}: its pictures have several sizes; bring them to one, best that of the run's own.")
    if len(found) < ENOUGH:
        raise InputError(f"{folder}: has {len(found)} pictures, and {ENOUGH} real ones are needed; give more.")
    return found
