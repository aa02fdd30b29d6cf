"""What the judge of scenes said of a run's images, held against prompts: their own, or others. Loads no torch."""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from cfglab.experiments.storage.feature_cache import FILE, FeatureCache, Seen, chunks, key_of
from cfglab.experiments.storage.store import Store
from cfglab.metrics.alignment import alignment, by_composition
from cfglab.metrics.estimate import Estimate
from cfglab.scenes import classifier_file
from cfglab.scenes.vocabulary import Scene, read_caption

if TYPE_CHECKING:
    from cfglab.scenes.classifier import SceneLabels

READER: Literal[1, 2] = 2  # the first reader was looked at while the model was made, the second was not


class _Said(NamedTuple):
    """A judge's answer, as it was kept."""

    a: str | None
    relation: str | None
    b: str | None
    background: str | None


def asked(store: Store) -> dict[str, Scene]:
    """The scene that each prompt of a run asks for; prompts that are no sentence of the world are left out."""
    return {prompt: scene for prompt in store.experiment.prompts if (scene := read_caption(prompt))}


def judge_of(reader: Literal[1, 2]) -> str:
    """The name under which features are kept: the hash of the reader's weights."""
    weights = classifier_file(reader)
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else f"reader{reader}"


def said(reading: "SceneLabels") -> dict[str, str | None]:
    """A reading as it is kept."""
    return dataclasses.asdict(reading)


def aligned(scene: Scene, seen: Seen) -> dict[str, float]:
    """Alignment of what the judge said with a scene, by part, and by whether training showed the composition."""
    found = alignment(scene, _Said(**seen.said))  # type: ignore[arg-type]
    return found | by_composition(scene, found["alignment"])


def chance(store: Store) -> Estimate | None:
    """Alignment with the prompts shuffled: every judged image against another prompt of the run.

    The images of each prompt are held against the next prompt that asks for something else, so no image meets its
    own. None where no image was judged, or all prompts ask for one thing.
    """
    scenes = asked(store)
    if not (store.folder / FILE).is_file():
        return None
    others = {prompt: _next(list(scenes.values()), place) for place, prompt in enumerate(scenes)}
    rows = [row for row in store.rows() if row.result.status == "done" and others.get(row.result.prompt)]
    judge, found = judge_of(READER), []
    with FeatureCache(store.folder) as cache:
        for part in chunks(rows):
            keys = [key_of(row, store.folder) for row in part]
            known = cache.get(judge, keys)
            for key, row in zip(keys, part, strict=True):
                other = others[row.result.prompt]
                if key in known and other:
                    found.append(aligned(other, known[key])["alignment"])
    return Estimate(value=float(np.mean(found)), n=len(found)) if found else None


def _next(scenes: list[Scene], place: int) -> Scene | None:
    """The first scene after a place, round the list, that shows other things."""
    around = (*scenes[place + 1 :], *scenes[:place])
    return next((scene for scene in around if scene.triple != scenes[place].triple), None)
