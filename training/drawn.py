"""Images of the models, for the classifiers to learn damage from, with how well each object is drawn (`fit.py`).

Damage that is drawn on purpose (`spoil.py`) is not like that of a model: a smeared face, a melted leg. The images come
in chunks, each a function of its number: prompts of all kinds, a quarter of them held-out compositions, scales from
none to far too high, few and many steps, of both models in turn.
"""

import csv
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from cfglab.scenes.renderer import SHOWN
from cfglab.scenes.vocabulary import Scene, caption, read_caption
from training.autoencoder import to_bytes
from training.common import autocast, load, log, save, set_up, work
from training.fit import fit, named
from training.generator import Generator
from training.latents import SCALING, frozen
from training.source import SceneSource
from training.vae import Autoencoder

MODELS = ("denoiser", "flow")  # the stages whose models draw
SCALES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
STEPS = (10, 16, 25)
CHUNK = 96  # images
WHOLE, DAMAGED = 0.87, 0.83
"""Similarities above and below which an object is called whole or damaged (docs/classifier.md says why)."""
LABELS = Path(__file__).parent / "eye-drawn/labels.csv"


class Drawn(NamedTuple):
    """Images of models.

    Attributes:
        pictures: uint8 `(n, 3, 128, 128)`.
        captions: What was asked.
        whole: `(n,)`, the probability that every object is whole, if the image shows what was asked.
        cells: int64 `(n, 8, 8)`, as `fit.named` counts.
    """

    pictures: Tensor
    captions: list[str]
    whole: Tensor
    cells: Tensor


def path_of(chunk: int) -> Path:
    return work() / "drawn" / f"{chunk:04d}.pt"


def train(count: int, minutes: float, device: torch.device, model_of: Callable[[str], Generator]) -> bool:
    """Draw the chunks that are missing; True when all are there. `model_of`: stage -> its trained model."""
    set_up(device, 5)
    end = time.time() + 60 * minutes
    missing = [chunk for chunk in range(count) if not path_of(chunk).exists()]
    if not missing:
        return True
    vae, models = frozen(device), {name: model_of(name).to(device) for name in MODELS}
    for chunk in missing:
        if time.time() > end:
            return False
        name = MODELS[chunk % 2]
        drawn = draw(chunk, models[name], vae, device)
        save(path_of(chunk), drawn._asdict())
        log("drawn.log", chunk=chunk, model=name, whole=round(float(drawn.whole.mean()), 3))
    return True


def draw(chunk: int, model: Generator, vae: Autoencoder, device: torch.device) -> Drawn:
    """One chunk, a function of its number and of the weights."""
    random = Random(7000 + chunk)
    seen, held_out = SceneSource(7_000_000 + chunk), SceneSource(7_500_000 + chunk, held_out=True)
    scenes = [(held_out if random.random() < 0.25 else seen).scene() for _ in range(CHUNK)]
    steps, pictures = random.choice(STEPS), []
    generator = torch.Generator(device).manual_seed(chunk)
    for start in range(0, CHUNK, 16):
        prompts = [caption(scene) for scene in scenes[start : start + 16]]
        with torch.no_grad(), autocast(device, on_cpu=True):
            latents = model.sample(prompts, random.choice(SCALES), steps, generator)
        with torch.no_grad():
            pictures.append(to_bytes(vae.decode(latents.float() / SCALING)).cpu())
    return judged(torch.cat(pictures), scenes)


def judged(pictures: Tensor, scenes: list[Scene]) -> Drawn:
    """Images, uint8, with the similarity of their objects."""
    fits = [each for i in range(0, len(scenes), 32) for each in fit(pictures[i : i + 32] / 255, scenes[i : i + 32])]
    worst = torch.tensor([min(each.similarity) for each in fits])
    cells = torch.stack([named(each, WHOLE, DAMAGED) for each in fits])
    return Drawn(pictures, [caption(scene) for scene in scenes], probability(worst), cells)


def probability(similarity: Tensor) -> Tensor:
    """That a person calls an object whole: 0 below DAMAGED, 1 above WHOLE, a line between."""
    return ((similarity - DAMAGED) / (WHOLE - DAMAGED)).clamp(0, 1)


def hash_of(picture: Tensor) -> str:
    """What names an image, uint8 `(3, 128, 128)`, among the labels."""
    return hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest()[:16]


def labelled(drawn: Drawn, labels: dict[str, float]) -> Drawn:
    """Images with the labels in place of what the similarity says. Nothing of an image labelled right is damaged."""
    whole, cells = drawn.whole.clone(), drawn.cells.clone()
    for i, picture in enumerate(drawn.pictures):
        label = labels.get(hash_of(picture))
        if label is not None:
            whole[i] = label
        if label == 1:
            cells[i][cells[i] == SHOWN] = -1
    return drawn._replace(whole=whole, cells=cells)


def read_labels() -> dict[str, float]:
    """Image -> 1 if a reader found in it what was asked, whole; 0 if not; 0.5 if in doubt."""
    with LABELS.open(newline="") as file:
        return {row["image"]: float(row["label"]) for row in csv.DictReader(file)}


def batches(count: int, seed: int) -> Iterator[tuple[Tensor, list[Scene], Tensor, Tensor]] | None:
    """Random images of all chunks that are there; None without any."""
    states = [state for path in sorted((work() / "drawn").glob("*.pt")) if (state := load(path)) is not None]
    labels = read_labels()
    chunks = [labelled(Drawn(**state), labels) for state in states]
    return _batches(chunks, count, Random(seed)) if chunks else None


def _batches(chunks: list[Drawn], count: int, random: Random) -> Iterator[tuple[Tensor, list[Scene], Tensor, Tensor]]:
    pictures, whole, cells = (
        torch.cat([getattr(chunk, part) for chunk in chunks]) for part in ("pictures", "whole", "cells")
    )
    scenes = [scene for chunk in chunks for text in chunk.captions if (scene := read_caption(text)) is not None]
    while True:
        which = random.sample(range(len(scenes)), count)
        yield pictures[which], [scenes[i] for i in which], whole[which], cells[which]
