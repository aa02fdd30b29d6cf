"""Score the pictures of a run in the world of scenes: what the judge reads back, and how far sets are from real ones.

A prompt that is no sentence of that world, or a picture of another size, is left as it is: pixel metrics only.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.picture import read_pixels
from cfglab.experiments.results import Result
from cfglab.experiments.store import Store
from cfglab.metrics.alignment import alignment
from cfglab.metrics.byprompt import Reference, set_metrics
from cfglab.metrics.estimate import Estimate
from cfglab.scenes import reader_file
from cfglab.scenes.renderer import SIZE, render
from cfglab.scenes.vocabulary import Scene, read_caption

if TYPE_CHECKING:
    from cfglab.scenes.reader import Reader

T = TypeVar("T")

READER: Literal[1, 2] = 2  # the first reader was looked at while the model was made, the second was not
REAL = "real"
ENOUGH = 128  # pictures of a setting from which on its distance to real scenes is measured: twice the 64 features
REFERENCE = 10_000  # real scenes, the same for every setting
PROMPTS_FOR_INTERVAL = 8
WITHIN = ("vendi", "pairwise_distance")
Features = dict[str, np.ndarray]


def score(store: Store) -> None:
    """Score every picture that was drawn, unless all of that was done before, which is known without loading torch."""
    asked = {prompt: scene for prompt in store.experiment.prompts if (scene := read_caption(prompt))}
    done = [result for result in store.results() if result.status == "done" and result.prompt in asked]
    judge = reader_file(READER)
    judged_by = hashlib.sha256(judge.read_bytes()).hexdigest() if judge.is_file() else None
    state = hashlib.sha256(f"1|{judged_by}|{ENOUGH}|{[result.cell for result in done]}".encode()).hexdigest()
    whole = all("alignment" in result.metrics for result in done)  # a picture made anew has lost its own
    if not done or (whole and store.meta("scored") == state):
        return
    if read_pixels(store.folder / str(done[0].image)).shape != (SIZE, SIZE, 3):
        return
    from cfglab.scenes.reader import Reader

    try:
        reader = Reader.load(READER)
    except InputError as error:
        logging.getLogger("cfglab").warning("no alignment and no set metrics: %s", error)
        return
    features, aligned = _judge(store, reader, done, asked)
    store.record_metrics(aligned)
    store.record_set_metrics(_set_metrics(reader, done, features, asked))
    store.set_meta("scored", state)


def _judge(
    store: Store, reader: "Reader", done: Sequence[Result], asked: Mapping[str, Scene]
) -> tuple[Features, dict[str, dict[str, float]]]:
    """By cell id the judge's features, (64,), and the alignment of the prompt with what the judge reads."""
    cells = {result.cell: result for result in done}
    features: Features = {}
    aligned = {}
    for part in _chunks(list(cells.values())):
        pixels = as_floats(np.stack([read_pixels(store.folder / str(result.image)) for result in part]))
        rows, readings = reader.features(pixels), reader.read(pixels)
        for result, row, reading in zip(part, rows, readings, strict=True):
            features[result.cell] = row
            aligned[result.cell] = alignment(asked[result.prompt], reading)
    return features, aligned


def _set_metrics(
    reader: "Reader", done: Sequence[Result], features: Features, asked: Mapping[str, Scene]
) -> dict[str, dict[str, Estimate]]:
    """By setting, then metric; `real` holds as many real scenes of each prompt, drawn apart from the reference."""
    sets: dict[str, dict[str, list[np.ndarray]]] = {}
    for result in done:
        sets.setdefault(result.setting, {}).setdefault(result.prompt, []).append(features[result.cell])
    most = max((len(rows) for by_prompt in sets.values() for rows in by_prompt.values()), default=0)
    enough = any(sum(map(len, by_prompt.values())) >= ENOUGH for by_prompt in sets.values())
    each = -(-REFERENCE // len(asked)) if enough else 8
    real = np.concatenate([real_features(reader, scene, each, 0) for scene in asked.values()])
    reference = Reference.of(real)
    everything: dict[str, Mapping[str, Sequence[np.ndarray] | np.ndarray]] = {
        REAL: {prompt: real_features(reader, scene, most, 1) for prompt, scene in asked.items()},
        **sets,
    }
    table = {}
    for name, by_prompt in everything.items():
        measured = set_metrics({prompt: np.stack(list(rows)) for prompt, rows in by_prompt.items()}, reference)
        wanted = {
            metric: found.estimate
            for metric, found in measured.items()
            if metric in WITHIN or (enough and found.n >= ENOUGH)
        }
        table[name] = {
            metric: it if len(by_prompt) >= PROMPTS_FOR_INTERVAL else Estimate(value=it.value, n=it.n)
            for metric, it in wanted.items()
        }
    return table


def real_features(reader: "Reader", scene: Scene, count: int, stream: int) -> np.ndarray:
    """Features, (count, 64), of real pictures of a scene; the same ones each time, others for another `stream`."""
    key = hashlib.sha256(scene.model_dump_json().encode()).digest()
    rng = np.random.default_rng([stream, int.from_bytes(key[:8])])
    return np.concatenate(
        [reader.features(as_floats(np.stack([render(scene, rng) for _ in part]))) for part in _chunks(range(count))]
    )


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 `(n, h, w, 3)` as float32 `(n, 3, h, w)` in [-1, 1]."""
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


def _chunks(items: Sequence[T], size: int = 256) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
