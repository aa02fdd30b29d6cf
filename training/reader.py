"""Train a reader of `scenes`, the judge: what does this image show?

    python -m training.reader --which 1 && python -m training.reader --which 2

Learns from a pool of scenes and spoiled images (`training/label.py`), half of each batch as the autoencoder gives
them back. Resumes from its last checkpoint; ends by writing the package's weights and a summary on unseen images.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch.nn import functional

from cfglab.scenes.classifier import PARTS, Network, SceneClassifier
from cfglab.scenes.vocabulary import triples
from training.common import WORK, Ema, checkpoint, log, one_cycle, resume, to_tensor
from training.decoder import with_trained_decoder
from training.label import Labeller

WEIGHTS = Path(__file__).parents[1] / "src/cfglab/scenes/weights/readers"
ARCHITECTURE = {1: "grid", 2: "attentive"}
POOL, REBUILT, BATCH, PEAK = 80_000, 24_000, 96, 3e-3
TEST_SEED, TEST = 1_000_000, 4000


def pool() -> tuple[np.ndarray, np.ndarray]:
    """The images and answers that both readers learn from, drawn once."""
    path = WORK / "reader-pool.npz"
    if not path.exists():
        pictures, answers = zip(*(Labeller(seed).labelled(1000) for seed in range(POOL // 1000)), strict=True)
        WORK.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".part.npz"), pictures=np.concatenate(pictures), answers=np.concatenate(answers))
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as file:
        return file["pictures"], file["answers"]


def load_autoencoder() -> AutoencoderKL | None:
    if not (WORK / "vae").exists():
        return None
    return with_trained_decoder(AutoencoderKL.from_pretrained(WORK / "vae")).eval().requires_grad_(False)


def rebuild(model: AutoencoderKL, pictures: np.ndarray, seed: int, noise: float) -> np.ndarray:
    """Images through the autoencoder, uint8; `noise`: at most so much of the latents' deviation is added."""
    generator, chunks = torch.Generator().manual_seed(seed), []
    for start in range(0, len(pictures), 50):
        latents = model.encode(to_tensor(pictures[start : start + 50])).latent_dist.mean
        share = noise * latents.std() * torch.rand(len(latents), 1, 1, 1, generator=generator)
        pixels = model.decode(latents + share * torch.randn(latents.shape, generator=generator)).sample
        chunks.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(chunks)


def rebuilt_pool(pictures: np.ndarray) -> np.ndarray | None:
    path = WORK / "reader-rebuilt.npy"
    if not path.exists():
        if (model := load_autoencoder()) is None:
            return None
        np.save(path.with_suffix(".part.npy"), rebuild(model, pictures[:REBUILT], seed=0, noise=0.3))
        path.with_suffix(".part.npy").rename(path)
    return np.load(path)


def soften(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Changes that leave an image readable: shift, colour, contrast, a light blur on a third, light noise on half."""
    n = len(pixels)

    def draw(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32))

    padded = functional.pad(pixels, (3, 3, 3, 3), mode="replicate")
    corners = rng.integers(0, 7, (n, 2))
    pixels = torch.stack([p[:, y : y + 64, x : x + 64] for p, (y, x) in zip(padded, corners, strict=True)])
    middle, grey = pixels.mean((1, 2, 3), keepdim=True), pixels.mean(1, keepdim=True)
    pixels = grey + draw(0.75, 1.4) * (pixels - grey)
    pixels = middle + draw(0.8, 1.3) * (pixels - middle) + draw(-0.07, 0.07, 3)
    some = n // 3
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / float(rng.uniform(0.3, 1.2))) ** 2)
    kernel = torch.outer(taps, taps).div(taps.sum() ** 2).expand(3, 1, 7, 7)
    padded = functional.pad(pixels[:some], (3, 3, 3, 3), mode="replicate")
    pixels[:some] = functional.conv2d(padded, kernel, groups=3)
    pixels[::2] += draw(0, 0.12)[::2] * torch.from_numpy(rng.standard_normal(pixels[::2].shape, dtype=np.float32))
    return pixels.clamp(-1, 1)


def exact(reader: SceneClassifier, pictures: np.ndarray, answers: np.ndarray) -> dict[str, object]:
    """Share of images read right, in all parts and part by part, and the most frequent mistakes."""
    readings = reader.classify(to_tensor(pictures))
    right, mistakes = np.ones((len(answers), len(PARTS)), bool), Counter[str]()
    for i, (reading, row) in enumerate(zip(readings, answers, strict=True)):
        for j, (part, names) in enumerate(PARTS.items()):
            if row[j] >= 0:
                wanted, found = (None, *names)[row[j]], getattr(reading, part)
                right[i, j] = wanted == found
                mistakes.update([] if wanted == found else [f"{part}: {wanted} read as {found}"])
    shares = {part: round(float(right[:, j].mean()), 4) for j, part in enumerate(PARTS)}
    return {
        "n": len(answers),
        "exact": round(float(right.all(1).mean()), 4),
        **shares,
        "mistakes": mistakes.most_common(5),
    }


def summary(reader: SceneClassifier) -> dict[str, object]:
    """The reader on images it never saw: compositions of the training set, held-out ones, rebuilt, and spoiled."""
    labeller, found = Labeller(TEST_SEED), dict[str, object]()
    for name, held_out in (("real, seen compositions", False), ("real, held-out compositions", True)):
        scenes = [s for s in triples() if s.held_out == held_out]
        chosen = [scenes[i] for i in labeller.rng.integers(0, len(scenes), TEST)]
        backgrounds = labeller.rng.choice(PARTS["background"], TEST)
        drawn = [
            labeller.pictured(s.model_copy(update={"background": str(b)}))
            for s, b in zip(chosen, backgrounds, strict=True)
        ]
        pictures, answers = np.stack([p for p, _ in drawn]), np.array([a for _, a in drawn])
        found[name] = exact(reader, pictures, answers)
        if (model := load_autoencoder()) is not None:
            found[name.replace("real", "rebuilt")] = exact(reader, rebuild(model, pictures, 1, 0.0), answers)
    for make in labeller.kinds:
        if make != labeller.real:
            drawn = [make() for _ in range(400)]
            found[make.__name__] = exact(reader, np.stack([p for p, _ in drawn]), np.array([a for _, a in drawn]))
    return found


def train(which: int, steps: int, minutes: float) -> Network | None:
    """The averaged network after `steps`; None when the time ran out before."""
    pictures, answers = pool()
    rebuilt = rebuilt_pool(pictures)
    torch.manual_seed(which)
    network = Network(ARCHITECTURE[which])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=0.02)
    ema, path = Ema(network, 0.998), WORK / f"reader{which}.pt"
    step = resume(path, network, optimizer, ema)
    start, total = time.time(), 0.0
    while step < steps and time.time() - start < 60 * minutes:
        rng = np.random.default_rng((which, step))
        half = BATCH if rebuilt is None else BATCH // 2
        rows = rng.integers(0, len(pictures), half)
        images, wanted = pictures[rows], answers[rows]
        if rebuilt is not None:
            rows = rng.integers(0, len(rebuilt), half)
            images, wanted = np.concatenate([images, rebuilt[rows]]), np.concatenate([wanted, answers[rows]])
        order = rng.permutation(len(images))
        pixels, targets = soften(to_tensor(images[order]), rng), torch.from_numpy(wanted[order])
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, steps, PEAK)
        logits = network(pixels.contiguous(memory_format=torch.channels_last))
        losses = [functional.cross_entropy(logits[p], targets[:, j], ignore_index=-1) for j, p in enumerate(PARTS)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        ema.update(network, step)
        step += 1
        total += loss.item()
        if step % 100 == 0:
            took = round((time.time() - start) / 60, 2)
            log(WORK / f"reader{which}.log", step=step, loss=round(total / 100, 4), minutes=took)
            total = 0.0
        if step % 500 == 0 or step == steps:
            checkpoint(path, network, optimizer, ema, step)
    network.load_state_dict(ema.shadow)
    return network if step >= steps else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--which", type=int, choices=(1, 2), required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = train(options.which, options.steps, options.minutes)
    if network is None:
        raise SystemExit("stopped before the last step; run again to continue")
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    halves = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()}
    config = {"architecture": network.architecture, "seed": options.which, "steps": options.steps}
    path = WEIGHTS / f"reader{options.which}.safetensors"
    save_file(halves, path, metadata={"config": json.dumps(config)})
    path.chmod(0o644)
    found = summary(SceneClassifier.load(options.which))
    (WORK / f"reader{options.which}.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
