"""How often a model draws what was asked, read by both classifiers, over guidance scales; and a sheet to look at.

python -m training.evaluate denoiser --w 1 3 5 7.5 --prompts 64
"""

import argparse

import torch

from cfglab.scenes import png
from cfglab.scenes.alignment import alignment
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.vocabulary import caption
from training import classifier
from training.__main__ import trained
from training.autoencoder import to_bytes, to_pixels
from training.common import device_of, log, set_up, sheet, work
from training.latents import SCALING, frozen
from training.source import SceneSource


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", help="denoiser, flow, or a branch of one such as denoiser-w40")
    parser.add_argument("--w", type=float, nargs="+", default=[1.0, 3.0, 5.0, 7.5])
    parser.add_argument("--prompts", type=int, default=64, help="half of them held-out compositions")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    device = device_of()
    set_up(device, 0)
    model = trained(chosen.stage).to(device)
    numbers = [number for number in (1, 2) if (work() / f"classifier{number}.pt").exists()]
    classifiers = [SceneClassifier(classifier.trained(number)) for number in numbers]
    vae, half = frozen(device), chosen.prompts // 2
    sources = [SceneSource(chosen.seed + 500), SceneSource(chosen.seed + 501, held_out=True)]
    scenes = [source.scene() for source in sources for _ in range(half)]
    for w in chosen.w:
        generator = torch.Generator(device).manual_seed(chosen.seed)
        prompts = [caption(scene) for scene in scenes]
        latents = [model.sample(prompts[i : i + 16], w, chosen.steps, generator) for i in range(0, len(prompts), 16)]
        pictures = torch.cat([to_bytes(vae.decode(chunk / SCALING)) for chunk in latents])
        shares: dict[str, float] = {}
        for i, judge in enumerate(classifiers, 1):
            found = judge.classify(to_pixels(pictures))
            right = [alignment(*pair)["alignment"] for pair in zip(scenes, found, strict=True)]
            shares |= {f"seen{i}": round(sum(right[:half]) / half, 3), f"unseen{i}": round(sum(right[half:]) / half, 3)}
        log("evaluate.log", stage=chosen.stage, w=w, prompts=len(prompts), steps=chosen.steps, **shares)
        png.write(work() / f"evaluate-{chosen.stage}-{w:g}.png", sheet(pictures.cpu(), 8))


if __name__ == "__main__":
    main()
