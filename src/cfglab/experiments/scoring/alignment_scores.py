"""What the classifier of scenes read in a run's images, compared with prompts: their own, or others. Loads no torch."""

import hashlib
from typing import Any, Literal, cast

import numpy as np

from cfglab.experiments.storage.feature_cache import FILE, FeatureCache, ImageFeatures, chunks, image_key
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.scenes import classifier_file
from cfglab.scenes.alignment import alignment, by_composition
from cfglab.scenes.vocabulary import Scene, SceneLabels, read_caption

CLASSIFIER: Literal[1, 2] = 2
"""The classifier that scores. Classifier 1 was used while the model was trained, classifier 2 was not."""


def prompt_scenes(store: Store) -> dict[str, Scene]:
    """Return the scene of each prompt of a run; prompts that are no sentence of the world of scenes are left out."""
    return {prompt: scene for prompt in store.experiment.prompts if (scene := read_caption(prompt))}


def classifier_key(classifier: Literal[1, 2]) -> str:
    """Return the key under which features are kept: the hash of the classifier's weights."""
    weights = classifier_file(classifier)
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else f"classifier{classifier}"


def image_alignment(scene: Scene, features: ImageFeatures) -> dict[str, float]:
    """Return the alignment of an image with a scene.

    Args:
        scene: the scene of a prompt.
        features: the labels that the classifier read in the image.

    Returns:
        Metric -> 0.0 or 1.0: `alignment`, its parts, and `alignment_seen` or `alignment_unseen` for a composition.
    """
    metrics = alignment(scene, SceneLabels(**cast("dict[str, Any]", features.labels)))
    return metrics | by_composition(scene, metrics["alignment"])


def chance(store: Store) -> Estimate | None:
    """Return the alignment with the prompts shuffled: every scored image against another prompt of the run.

    The images of each prompt are compared with the next prompt whose objects or relation differ; the background does
    not count, because most images would fit a prompt that differs in it alone. So no image meets its own prompt.

    Args:
        store: a scored run.

    Returns:
        The mean; None if no image was scored, or no two prompts differ in objects or relation.
    """
    scenes = prompt_scenes(store)
    if not (store.folder / FILE).is_file():
        return None
    scene_list = list(scenes.values())
    shuffled = {prompt: _next_different(scene_list, index) for index, prompt in enumerate(scenes)}
    rows = [row for row in store.rows() if row.result.status == "done" and shuffled.get(row.result.prompt)]
    key, values = classifier_key(CLASSIFIER), []
    with FeatureCache(store.folder) as cache:
        for part in chunks(rows):
            keys = [image_key(row, store.folder) for row in part]
            cached = cache.get(key, keys)
            for image, row in zip(keys, part, strict=True):
                scene = shuffled[row.result.prompt]
                if image in cached and scene:
                    values.append(image_alignment(scene, cached[image])["alignment"])
    return Estimate(value=float(np.mean(values)), n=len(values)) if values else None


def _next_different(scenes: list[Scene], index: int) -> Scene | None:
    """The first scene after an index, round the list, with other objects or another relation."""
    candidates = (*scenes[index + 1 :], *scenes[:index])
    return next((scene for scene in candidates if scene.triple != scenes[index].triple), None)
