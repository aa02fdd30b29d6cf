"""Make the weak twin of the denoiser: an early snapshot, fitted to the text encoder that ships.

    python -m training.twin

The snapshot was taken beside a text encoder that went on learning, so its denoiser is trained on for a short while
with the final text encoder, which stays as it is. It is far from converged: that is its use (2406.02507).
"""

import argparse
import time

import torch

from training.common import WORK, Ema, checkpoint, load, log, resume
from training.data import SceneSource
from training.denoiser import Batches, Captions, TextToImage, learning_rate
from training.tokenizer import build as build_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--peak", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = TextToImage(build_tokenizer())
    early, final = load(WORK / "twin.pt"), load(WORK / "denoiser.pt")
    if early is None or final is None:
        raise SystemExit("no twin.pt or denoiser.pt: run `python -m training.denoiser` first")
    model.load_state_dict(early["ema"])
    model.text.load_state_dict({k[5:]: v for k, v in final["ema"].items() if k.startswith("text.")})
    model.text.requires_grad_(False)
    model.unet.to(memory_format=torch.channels_last)
    model.unet.compile()
    optimizer = torch.optim.AdamW(model.unet.parameters(), lr=options.peak, betas=(0.9, 0.99), weight_decay=0.01)
    ema = Ema(model, 0.99)
    path = WORK / "twin-fitted.pt"
    step = resume(path, model, optimizer, ema)
    batches = Batches(Captions(build_tokenizer()), SceneSource(seed=9000 + step), options.batch)
    start, total = time.time(), 0.0
    while step < options.steps:
        batch = batches.next()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.steps // 2, options.peak, warmup=20)
        error = (model(batch.noisy, batch.timesteps, batch.tokens) - batch.noise).square().mean((1, 2, 3))
        optimizer.zero_grad()
        (batch.weights * error).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.unet.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        step += 1
        total += error.detach().mean().item()
        if step % 50 == 0:
            log(WORK / "twin.log", step=step, loss=round(total / 50, 5), minutes=round((time.time() - start) / 60, 2))
            total = 0.0
            checkpoint(path, model, optimizer, ema, step)
    checkpoint(path, model, optimizer, ema, step)


if __name__ == "__main__":
    main()
