"""Freeze the autoencoder and encode scenes once, in chunks, so that both models train from files.

Per channel the latents are brought to mean 0 and the standard deviation of Stable Diffusion 1.x (1 / 0.18215) by
folding the affine map into the 1×1 convolutions around the latent, so `scaling_factor` is the usual 0.18215. A chunk
holds scaled latents, four captions of every scene as tokens, and what each of 8×8 cells shows.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cfglab.scenes import renderer
from training import tokens
from training.autoencoder import after_latents, to_pixels, trained
from training.common import autocast, load, log, need, save, set_up, work
from training.source import SceneSource
from training.vae import Autoencoder

SCALING = 0.18215
CHUNK = 2000
CAPTIONS = 4
MEASURED = 256  # scenes over which latents are normalised


@torch.no_grad()
def fold(vae: Autoencoder, pixels: Tensor) -> None:
    """Normalise the latents of `vae` in place."""
    mean = torch.cat([vae.encode(chunk)[0] for chunk in pixels.split(16)])
    centre, spread = mean.mean((0, 2, 3)), mean.std((0, 2, 3)) * SCALING
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(centre)
    assert before.bias is not None
    assert after.bias is not None
    before.weight[:channels] /= spread[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - centre) / spread
    before.bias[channels:] -= 2 * spread.log()
    after.bias += after.weight[:, :, 0, 0] @ centre
    after.weight *= spread[None, :, None, None]


def freeze(device: torch.device) -> None:
    """Write `vae.pt`: the trained autoencoder with its averaged weights and normalised latents."""
    vae, source = trained().to(device), SceneSource(7)
    pixels = to_pixels(renderer.draw_scenes([source.scene() for _ in range(MEASURED)], source.random, device))
    fold(vae, pixels)
    save(work() / "vae.pt", {"model": {name: value.cpu() for name, value in vae.state_dict().items()}})


def frozen(device: torch.device) -> Autoencoder:
    """The autoencoder whose latents are the models', with the decoder trained on after it, if there is one."""
    vae = trained(need("vae.pt", "latents")["model"])
    decoder = load(work() / "decoder.pt")
    if decoder is not None:
        after_latents(vae).load_state_dict(decoder["averages"][0])
    return vae.to(device)


def path_of(chunk: int) -> Path:
    return work() / "latents" / f"{chunk:05d}.pt"


@torch.no_grad()
def encode(vae: Autoencoder, chunk: int, device: torch.device) -> dict[str, Tensor]:
    """One chunk of scenes, a function of its number."""
    source = SceneSource(1_000_000 + chunk)
    scenes = [source.scene() for _ in range(CHUNK)]
    rows = [tokens.encode(source.caption(scene)) for scene in scenes for _ in range(CAPTIONS)]
    latents, cells = [], []
    size = 16 if device.type == "cpu" else 250
    for start in range(0, CHUNK, size):
        layouts = [renderer.arrange(scene, source.random) for scene in scenes[start : start + size]]
        pictures, shown = renderer.draw_with_cells(layouts, device)
        with autocast(device):
            mean = vae.encode(to_pixels(pictures))[0]
        latents.append((mean.float() * SCALING).half().cpu())
        cells.append(shown.to(torch.uint8).cpu())
    return {
        "latents": torch.cat(latents).contiguous(),
        "cells": torch.cat(cells),
        "tokens": torch.tensor(rows, dtype=torch.int16).view(CHUNK, CAPTIONS, -1),
    }


def train(count: int, minutes: float, device: torch.device) -> bool:
    """Encode until there are `count` scenes; True when there are."""
    set_up(device, 0)
    end = time.time() + 60 * minutes
    if load(work() / "vae.pt") is None:
        freeze(device)
    vae = trained(need("vae.pt", "latents")["model"]).to(device)
    for chunk in range(count // CHUNK):
        if time.time() > end:
            return False
        if not path_of(chunk).exists():
            save(path_of(chunk), encode(vae, chunk, device))
            log("latents.log", chunk=chunk, scenes=(chunk + 1) * CHUNK)
    return True


class Batch(NamedTuple):
    """Clean latents `(n, 8, 16, 16)`, their captions' tokens `(n, 32)`, and what their cells show `(n, 8, 8)`."""

    latents: Tensor
    tokens: Tensor
    cells: Tensor


class Batches:
    """Random batches of cached scenes; a share of the captions is that of another scene, a share is empty."""

    def __init__(self, device: torch.device, size: int, wrong: float, seed: int, empty: float = 0.1) -> None:
        chunks = [torch.load(path, weights_only=True) for path in sorted((work() / "latents").glob("*.pt"))]
        if not chunks:
            raise SystemExit(f"{work() / 'latents'}: no latents yet; run `python -m training latents` first")
        self.latents = torch.cat([chunk["latents"] for chunk in chunks]).to(device)
        self.tokens = torch.cat([chunk["tokens"] for chunk in chunks]).to(device)
        self.cells = torch.cat([chunk["cells"] for chunk in chunks]).to(device)
        self.nothing = tokens.encode_all([""])[0].to(device, torch.int16)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.size, self.wrong, self.empty, self.device = size, wrong, empty, device

    def _chance(self, share: float) -> Tensor:
        return torch.rand(self.size, generator=self.generator, device=self.device) < share

    def _number(self, high: int) -> Tensor:
        return torch.randint(high, (self.size,), generator=self.generator, device=self.device)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            chosen = self._number(len(self.latents))
            told = torch.where(self._chance(self.wrong), self._number(len(self.latents)), chosen)
            rows = self.tokens[told, self._number(CAPTIONS)]
            rows = torch.where(self._chance(self.empty)[:, None], self.nothing, rows)
            yield Batch(self.latents[chosen].float(), rows.long(), self.cells[chosen].long())
