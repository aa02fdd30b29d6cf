"""Freeze the autoencoder and encode scenes once, so that the denoiser trains from a file.

    python -m training.latents --count 30000

Per channel the latents are brought to mean 0 and the standard deviation of Stable Diffusion 1.x (1 / 0.18215) by
folding the affine map into the 1×1 convolutions around the latent, so `scaling_factor` is the usual 0.18215.
"""

import argparse
import json

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.autoencoder import build
from training.common import WORK, load, to_tensor
from training.data import SceneSource

SCALING = 0.18215


@torch.no_grad()
def fold(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Normalise the latents of `vae` in place; pixels `(n, 3, 64, 64)`."""
    mean = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in pixels.split(64)])
    centre, spread = mean.mean((0, 2, 3)), mean.std((0, 2, 3)) * SCALING
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(centre)
    before.weight[:channels] /= spread[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - centre) / spread
    before.bias[channels:] -= 2 * spread.log()
    after.bias += after.weight[:, :, 0, 0] @ centre
    after.weight *= spread[None, :, None, None]


def frozen_autoencoder() -> AutoencoderKL:
    """The trained autoencoder with its averaged weights and normalised latents."""
    state = load(WORK / "autoencoder.pt")
    if state is None:
        raise SystemExit("no autoencoder.pt: run `python -m training.autoencoder` first")
    vae = build().eval()
    vae.load_state_dict(state["ema"])
    fold(vae, to_tensor(SceneSource(seed=7).pictures(512)))
    vae.register_to_config(scaling_factor=SCALING)
    return vae.to(memory_format=torch.channels_last)


@torch.no_grad()
def encode(vae: AutoencoderKL, count: int) -> None:
    """Write the frozen autoencoder, and the latents and scenes of `count` images, into the training folder."""
    source = SceneSource(seed=11)
    vae.save_pretrained(WORK / "vae")
    latents = np.empty((count, 4, 16, 16), np.float16)
    scenes = []
    for start in range(0, count, 64):
        chunk = [source.scene() for _ in range(min(64, count - start))]
        pixels = to_tensor(np.stack([source.picture(scene) for scene in chunk]))
        mean = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        latents[start : start + len(chunk)] = (mean * SCALING).numpy()
        scenes += [scene.model_dump() for scene in chunk]
        if start % 6400 == 0:
            print(start, flush=True)
    np.save(WORK / "latents.npy", latents)
    (WORK / "latents.json").write_text(json.dumps(scenes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30_000)
    options = parser.parse_args()
    encode(frozen_autoencoder(), options.count)


if __name__ == "__main__":
    main()
