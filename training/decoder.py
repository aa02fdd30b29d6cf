"""Train the decoder of the frozen autoencoder further: sharper images from the latents the denoiser learns.

    python -m training.decoder --steps 12000

Nothing that makes latents changes, so the denoiser may train meanwhile. Resumes; `export.py` takes the result.
"""

import argparse
import time

import torch
from diffusers import AutoencoderKL
from torch import nn

from training.common import WORK, Ema, checkpoint, load, log, one_cycle, resume, to_tensor
from training.data import SceneSource


def parts(vae: AutoencoderKL) -> nn.ModuleDict:
    """What comes after the latents."""
    return nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})


def with_trained_decoder(vae: AutoencoderKL) -> AutoencoderKL:
    """The autoencoder with the averaged weights of `decoder.pt`, if there are any."""
    state = load(WORK / "decoder.pt")
    if state is not None:
        parts(vae).load_state_dict(state["ema"])
    return vae


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--peak", type=float, default=8e-4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(WORK / "vae").to(memory_format=torch.channels_last)
    model = parts(vae)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.peak, betas=(0.9, 0.99), weight_decay=0)
    ema = Ema(model, 0.998)
    path = WORK / "decoder.pt"
    step = resume(path, model, optimizer, ema)
    source, start, total = SceneSource(seed=5000 + step), time.time(), 0.0
    while step < options.steps:
        pixels = to_tensor(source.pictures(options.batch)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.sample()
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, options.steps, options.peak)
        error = vae.decode(latents).sample - pixels
        loss = error.square().mean() + 0.3 * error.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        step += 1
        total += error.detach().square().mean().item()
        if step % 100 == 0:
            minutes = round((time.time() - start) / 60, 2)
            log(WORK / "decoder.log", step=step, mse=round(total / 100, 5), minutes=minutes)
            total = 0.0
        if step % 250 == 0:
            checkpoint(path, model, optimizer, ema, step)
    checkpoint(path, model, optimizer, ema, step)


if __name__ == "__main__":
    main()
