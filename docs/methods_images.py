"""Draw docs/images/methods/: every method beside plain guidance on the bundled model, with its curve.

    python docs/methods_images.py [METHOD …] [--steps 20]

Three prompts, two seeds each; above them plain guidance at w = 4 with the same noise. On the right w at every step and
the length of `c - u`, grey for plain guidance. `make docs` puts the images into docs/methods.md.
"""

import argparse
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.denoising.trace import Trace
from cfglab.experiments import Experiment
from cfglab.experiments.storage.files import write_whole
from cfglab.guidance.guidance import parse_guidance
from cfglab.pipelines import guide, load
from docs.methods_page import IMAGES, PAGE, SHOWN, card_of

PROMPTS = (
    "an astronaut riding a horse",
    "a cat next to a red car on a green background",
    "a moon above a house on a blue background",
)
SEEDS = (1, 2)
PLAIN = "4"
OURS = "#c23b22"
EXAMPLES = {
    "constant": "7",
    "cogvideox_shipped": "cogvideox_shipped(scale=4)",
    "ideogram4": "ideogram4(steps=20)",
    "cfg_skip": 'cfg_skip(w=5, mode="alternate", ratio=0.5)',
    "phases": "phases(scales=(7, 4, 1), sigma=(2, 0.5))",
    "perp_neg": "4 | perp_neg(prompt='a green background')",
    "composed": "4 | composed(prompt='a moon above a house', weight=0.7)",
    "dual_cfg": "4 | dual_cfg(prompt='a cat', middle=2)",
    "and_salt": "4 | and_salt(prompt='a moon above a house')",
    "and_topk": "4 | and_topk(prompt='a moon above a house')",
    "snf": "4 | snf(prompt='a moon above a house')",
    "contrastive_cfg": "4 | contrastive_cfg(prompt='a green background')",
    "dng": "4 | dng(prompt='a green background')",
    "vsf": "4 | vsf(prompt='a green background')",
    "per_position": "8 | per_position(map='0 1')",
    "per_channel": "6 | per_channel(map='1*4 0.5*2 0*2')",
}
"""Where the comparison has no setting of a method, or another one shows it better."""


def example(name: str) -> str:
    """A guidance with that method: from EXAMPLES, or the first of the comparison's settings that has it."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    return next(str(setting.guidance) for setting in _comparison().settings if setting.group == name)


@cache
def _comparison() -> Experiment:
    return Experiment.preset("methods")


def draw(pipe: Any, guidance: str, steps: int) -> tuple[np.ndarray, Trace]:
    """(6, 128, 128, 3) between 0 and 1, and what was run."""
    prompts = [prompt for prompt in PROMPTS for _ in SEEDS]
    generators = [torch.Generator().manual_seed(seed) for _ in PROMPTS for seed in SEEDS]
    with guide(pipe, guidance) as trace:
        images = pipe(prompts, num_inference_steps=steps, generator=generators, output_type="np").images
    return images, trace


def sheet(name: str, guidance: str, ours: tuple[np.ndarray, Trace], plain: tuple[np.ndarray, Trace]) -> bytes:
    """The image of one method, a PNG."""
    rows = ours[1].rows_run / len(ours[0])
    strips = np.concatenate([_strip(plain[0]), _strip(ours[0])])
    width, height = 1060, strips.shape[0] + 36  # in pixels: the images keep their size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.text(30 / width, 1 - 22 / height, guidance, fontsize=10, family="monospace")
    figure.text(1 - 8 / width, 1 - 22 / height, f"{rows:.0f} rows an image", fontsize=8, ha="right", color="0.3")
    figure.figimage(strips, xo=30, yo=0)
    for share, label, colour in ((0.75, f"plain, w = {PLAIN}", "0.4"), (0.25, name, OURS)):
        place = share * strips.shape[0] / height
        figure.text(16 / width, place, label, fontsize=9, rotation=90, ha="center", va="center", color=colour)
    top, bottom = figure.add_axes((0.83, 0.53, 0.16, 0.27)), figure.add_axes((0.83, 0.1, 0.16, 0.27))
    for trace, colour in ((plain[1], "0.65"), (ours[1], OURS)):
        top.plot([_mean(record.w) for record in trace.steps], color=colour, drawstyle="steps-mid", linewidth=1.5)
        bottom.plot([_mean(record.difference) for record in trace.steps], color=colour, linewidth=1.5)
    for axes, title in ((top, "w at each step"), (bottom, "length of c - u")):
        axes.set_title(title, fontsize=8, loc="left", pad=4)
        axes.tick_params(labelsize=7, length=2)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.spines[["top", "right"]].set_visible(False)
    file, small = io.BytesIO(), io.BytesIO()
    figure.savefig(file, format="png")
    drawn = Image.open(file).convert("RGB")
    few = drawn.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def _strip(images: np.ndarray) -> np.ndarray:
    """Side by side on white, 4 pixels apart, 12 between the prompts."""
    white = np.ones((images.shape[1], 4, 3))
    parts: list[np.ndarray] = []
    for index, image in enumerate(images):
        parts += [image, *[white] * (3 if index % len(SEEDS) == len(SEEDS) - 1 else 1)]
    row = np.concatenate(parts[:-3], axis=1)
    return np.concatenate([row, np.ones((4, *row.shape[1:]))])


def _mean(values: tuple[float | None, ...]) -> float:
    """Over the images; a gap in the curve where no image has a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="their names in text; all if left out")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    names = given.methods or SHOWN
    folder = PAGE.parent / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    pipe = load("scenes", sampler="euler")
    pipe.set_progress_bar_config(disable=True)
    plain = draw(pipe, PLAIN, given.steps)
    for name in names:
        guidance = example(name)
        shown = str(parse_guidance(guidance))
        write_whole(folder / f"{name}.png", sheet(name, shown, draw(pipe, guidance, given.steps), plain))
        print(f"{card_of(name).title}: {folder / name}.png", flush=True)


if __name__ == "__main__":
    main()
