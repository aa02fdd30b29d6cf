"""Train the autoencoder of `scenes`: 64×64×3 pixels to 16×16×4 latents, the `AutoencoderKL` of SD 1.x in miniature.

    python -m training.autoencoder --steps 9500 --whole-from 0.45

Trains on 32×32 crops of scenes (four times the steps of whole images at one cost; the network is convolutional),
later on whole ones. Resumes from its last checkpoint.
"""

import argparse
import time

import torch
from diffusers import AutoencoderKL

from training.common import WORK, Ema, checkpoint, log, one_cycle, resume, to_tensor
from training.data import SceneSource

CHANNELS = (24, 48, 64)
KL_WEIGHT = 1e-6  # at 1e-5 one of the four channels collapsed to the prior


def build() -> AutoencoderKL:
    """A fresh autoencoder; the residual branches start at zero, so that at first the network is nearly linear."""
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    )
    for name, value in model.named_parameters():
        if ".resnets." in name and ".conv2." in name:
            torch.nn.init.zeros_(value)
    return model


def batch(source: SceneSource, whole: bool, size: int) -> torch.Tensor:
    """`size` crops of 32×32, or a quarter as many whole images."""
    pictures = to_tensor(source.pictures(size if not whole else size // 4))
    if whole:
        return pictures
    rng = source.rng
    corners = rng.integers(0, 33, (size, 2))
    return torch.stack([p[:, y : y + 32, x : x + 32] for p, (y, x) in zip(pictures, corners, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=9500)
    parser.add_argument("--whole-from", type=float, default=0.45, help="the share of the steps done on crops")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--crops", type=int, default=12, help="a batch: that many crops, or a quarter as many images")
    parser.add_argument("--peak", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.peak, betas=(0.9, 0.99), weight_decay=0)
    ema = Ema(model, 0.998)
    path = WORK / "autoencoder.pt"
    step = resume(path, model, optimizer, ema)
    source, start, total = SceneSource(seed=1000 + step), time.time(), 0.0
    while step < options.steps and time.time() - start < 60 * options.minutes:
        whole = step >= options.whole_from * options.steps
        pixels = batch(source, whole, options.crops).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, options.steps, options.peak)
        posterior = model.encode(pixels).latent_dist
        error = model.decode(posterior.sample()).sample - pixels
        rate = KL_WEIGHT * posterior.kl().mean() * (32 * 32) / pixels[0, 0].numel()
        loss = error.square().mean() + 0.3 * error.abs().mean() + rate
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        step += 1
        total += error.detach().square().mean().item()
        if step % 50 == 0:
            minutes = round((time.time() - start) / 60, 2)
            log(WORK / "autoencoder.log", step=step, mse=round(total / 50, 5), minutes=minutes)
            total = 0.0
        if step % 250 == 0:
            checkpoint(path, model, optimizer, ema, step)
    checkpoint(path, model, optimizer, ema, step)


if __name__ == "__main__":
    main()
