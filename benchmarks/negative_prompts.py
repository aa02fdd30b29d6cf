"""Does a negative prompt at w = 1 act on a learned transformer? The background that it names should become rare.

    python -m benchmarks.negative_prompts      # two minutes on one core

Prompts name an object of scenes and no background; the negative prompt names one background. Share of images with
that background by classifier 2, on the same starting noises, with 95 % intervals (Wilson).
"""

import argparse

from scipy.stats import binomtest

import cfglab
from benchmarks.transfer import drawn
from cfglab.scenes import ARGUMENTS
from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS

GUIDANCES = ("1", "1 | nag(s=5, prompt={negative!r})", "1 | vsf(s=3, prompt={negative!r})", "3")
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes-flow")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--background", choices=BACKGROUNDS, default="white")
    options = parser.parse_args()
    pipe = cfglab.load(options.model, sampler="euler", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": options.steps, **ARGUMENTS.get(options.model, {})}
    prompts = [f"a {name}" for name in OBJECTS] * 2
    negative = f"a {options.background} background"
    print(f"| guidance | {options.background} background |\n|---|---|")
    for text in GUIDANCES:
        guidance = text.format(negative=negative)
        found = drawn(pipe, prompts, guidance, BATCH, **arguments)
        hits = sum(labels.background == options.background for labels in found)
        low, high = binomtest(hits, len(prompts)).proportion_ci(method="wilson")
        print(f"| `{guidance}` | {hits / len(prompts):.0%} ({low:.0%} to {high:.0%}) |", flush=True)


if __name__ == "__main__":
    main()
