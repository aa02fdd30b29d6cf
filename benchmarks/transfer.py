"""A guidance transferred from 25 steps against what tuning at the new number of steps finds, on a bundled model.

    python -m benchmarks.transfer --prompts 171 --seeds 3      # 290,000 denoiser rows, about half an hour on two cores

The same curve over sigma at 8, 12, 25 and 50 steps (DDIM; `--sampler euler` for a model that predicts a flow), with
w - 1 times 0.7, 1 and 1.4: 1 is the transfer, the best of the three is what tuning finds. Alignment by classifier 2.
Prompts and starting noise are the same everywhere, so that differences are paired; 95 % intervals by the bootstrap over
prompts.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import cfglab
from cfglab.experiments.spec.prompts import prompt_set
from cfglab.scenes import ARGUMENTS
from cfglab.scenes.alignment import prompt_alignment
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.vocabulary import SceneLabels

SOURCE, COUNTS, FACTORS = 25, (8, 12, 25, 50), (0.7, 1.0, 1.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes", help="a model of the world of scenes: a name or a folder")
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--schedule", default="linear(max=8, min=2)", help="the schedule at 25 steps")
    parser.add_argument("--steps", type=int, nargs="+", default=COUNTS, help="the numbers of steps")
    parser.add_argument("--prompts", type=int, default=48, help="prompts, every second one of a held-out composition")
    parser.add_argument("--seeds", type=int, default=1, help="images of each prompt")
    parser.add_argument("--batch", type=int, default=16, help="images in a call of the pipeline")
    options = parser.parse_args()
    prompts = prompt_set(f"scenes:{options.prompts}")
    source = cfglab.levels(options.model, SOURCE, sampler=options.sampler)
    print(
        f"{options.model}: {options.schedule} at {SOURCE} steps, {options.sampler}, {len(prompts)} prompts, "
        f"{options.seeds} seeds\n",
        flush=True,
    )
    print(
        "| steps | w - 1 times 0.7 | transferred | w - 1 times 1.4 | tuning over transferred |\n|---|---|---|---|---|",
        flush=True,
    )
    pipe = cfglab.load(options.model, sampler=options.sampler, device="cpu", dtype=options.dtype)
    pipe.set_progress_bar_config(disable=True)
    arguments = ARGUMENTS.get(options.model, {})
    for count in options.steps:
        target = cfglab.levels(options.model, count, sampler=options.sampler)
        guidance = cfglab.Guidance(options.schedule).transferred(source, target)
        scores = np.array(
            [
                score(pipe, prompts * options.seeds, guidance, factor, count, options.batch, arguments)
                for factor in FACTORS
            ]
        )
        scores = scores.reshape(len(FACTORS), options.seeds, len(prompts)).mean(1)
        best = int(scores.mean(1).argmax())
        difference = scores[best] - scores[1]
        low, high = interval(difference)
        means = " | ".join(f"{100 * mean:.1f} %" for mean in scores.mean(1))
        print(
            f"| {count} | {means} | {100 * difference.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) |",
            flush=True,
        )


def score(
    pipe: Any,
    prompts: Sequence[str],
    guidance: cfglab.Guidance,
    factor: float,
    count: int,
    batch: int,
    arguments: Mapping[str, Any],
) -> list[float]:
    """The alignment of one image of each prompt in the list, each with a starting noise of its own.

    Args:
        pipe: The pipeline.
        prompts: The prompts; a prompt may stand there several times.
        guidance: The transferred guidance.
        factor: The factor of w - 1.
        count: The number of steps.
        batch: Images in one call.
        arguments: Further arguments of the pipeline's call.

    Returns:
        One value per image, 0 to 1.
    """
    found = drawn(pipe, prompts, guidance.schedule.scaled(factor), batch, num_inference_steps=count, **arguments)
    return [prompt_alignment(prompt, label)["alignment"] for prompt, label in zip(prompts, found, strict=True)]


def drawn(pipe: Any, prompts: Sequence[str], guidance: Any, batch: int, **arguments: Any) -> list[SceneLabels]:
    """What classifier 2 sees in one image of each prompt in the list, each with a starting noise of its own.

    Args:
        pipe: The pipeline.
        prompts: The prompts; a prompt may stand there several times.
        guidance: What `cfglab.guide` takes.
        batch: Images in one call.
        **arguments: Further arguments of the pipeline's call.

    Returns:
        The labels, in the order of the prompts.
    """
    classifier, labels = SceneClassifier.load(2), []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        generators = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
        with cfglab.guide(pipe, guidance):
            images = pipe(part, generator=generators, output_type="np", **arguments).images
        labels += classifier.classify(torch.from_numpy(images).permute(0, 3, 1, 2).float() * 2 - 1)
    return labels


def interval(differences: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """The 95 % interval of the mean by the bootstrap over prompts.

    Args:
        differences: One per prompt.
        draws: The number of resamples.

    Returns:
        Its ends.
    """
    random = np.random.default_rng(0)
    means = random.choice(differences, (draws, len(differences))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
