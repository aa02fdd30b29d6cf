"""Does a negative prompt at w = 1 act on a learned transformer? The background that it names should become rare.

    python -m benchmarks.negative_prompts      # two minutes on one core

Prompts name an object of scenes and no background; the negative prompt names one background. Share of images with
that background by classifier 2, on the same starting noises, with 95 % intervals (Wilson).
"""

import argparse

import torch
from scipy.stats import binomtest

import cfglab
from cfglab.scenes import ARGUMENTS
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS

GUIDANCES = ("1", "1 | nag(s=5, prompt={negative!r})", "1 | vsf(s=3, prompt={negative!r})", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes-flow")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--background", choices=BACKGROUNDS, default="white")
    options = parser.parse_args()
    pipe, classifier = cfglab.load(options.model, sampler="euler", device="cpu"), SceneClassifier.load(2)
    pipe.set_progress_bar_config(disable=True)
    prompts = [f"a {name}" for name in OBJECTS] * 2
    negative = f"a {options.background} background"
    print(f"| guidance | {options.background} background |\n|---|---|")
    for text in GUIDANCES:
        guidance, hits = text.format(negative=negative), 0
        for start in range(0, len(prompts), 16):
            part = prompts[start : start + 16]
            noise = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
            with cfglab.guide(pipe, guidance):
                images = pipe(
                    part,
                    num_inference_steps=options.steps,
                    generator=noise,
                    output_type="np",
                    **ARGUMENTS.get(options.model, {}),
                ).images
            found = classifier.classify(torch.from_numpy(images).permute(0, 3, 1, 2).float() * 2 - 1)
            hits += sum(labels.background == options.background for labels in found)
        low, high = binomtest(hits, len(prompts)).proportion_ci(method="wilson")
        print(f"| `{guidance}` | {hits / len(prompts):.0%} ({low:.0%} to {high:.0%}) |", flush=True)


if __name__ == "__main__":
    main()
