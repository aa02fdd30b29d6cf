"""Draw docs/pictures/methods/: every method beside plain guidance on the bundled model, with its curve.

    python docs/methods_pictures.py [METHOD …] [--steps 20]

Two prompts, two seeds each; above them plain guidance at w = 2 with the same noise. On the right w at every step (plain
guidance grey) and the length of `c - u`. `make docs` puts the pictures into docs/methods.md.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.denoisers.trace import Trace
from cfglab.experiments import Experiment
from cfglab.experiments.files import write_whole
from cfglab.guidance.text import parse_guidance
from cfglab.pipelines import guide, load
from docs.methods_page import GROUPS, PAGE, PICTURES, card_of

PROMPTS = ("an astronaut riding a horse", "a cat next to a red car on a green background")
SEEDS = (1, 2)
PLAIN = "2"
EXAMPLES = {
    "constant": "4",
    "cogvideox_shipped": "cogvideox_shipped(scale=2)",
    "ideogram4": "ideogram4(steps=20)",
    "perp_neg": "2 | perp_neg(prompt='a green background')",
    "composed": "2 | composed(prompt='a moon above a house', weight=0.7)",
    "dual_cfg": "3 | dual_cfg(prompt='a cat', middle=1.5)",
}
"""Where the comparison has no setting of a method, or another one shows it better."""


def example(name: str) -> str:
    """A guidance with that method: from EXAMPLES, or the first of the comparison's settings that has it."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    settings = Experiment.preset("methods").settings
    return next(str(one.guidance) for one in settings if one.group == name)


def draw(pipe: Any, guidance: str, steps: int) -> tuple[np.ndarray, Trace]:
    """(4, 64, 64, 3) between 0 and 1, and what was run."""
    prompts = [prompt for prompt in PROMPTS for _ in SEEDS]
    generators = [torch.Generator().manual_seed(seed) for _ in PROMPTS for seed in SEEDS]
    with guide(pipe, guidance) as trace:
        pictures = pipe(prompts, num_inference_steps=steps, generator=generators, output_type="np").images
    return pictures, trace


def sheet(name: str, guidance: str, ours: tuple[np.ndarray, Trace], plain: tuple[np.ndarray, Trace]) -> bytes:
    """The picture of one method, a PNG."""
    figure = Figure(figsize=(6.3, 2.4), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=[1, 1, 1, 1, 1.6])
    for row, (label, pictures) in enumerate((("plain, w = 2", plain[0]), (name, ours[0]))):
        for column, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(label, fontsize=7)
    top, bottom = figure.add_subplot(grid[0, 4]), figure.add_subplot(grid[1, 4])
    for trace, colour in ((plain[1], "0.7"), (ours[1], "tab:red")):
        top.plot([_mean(record.w) for record in trace.steps], color=colour, drawstyle="steps-mid", linewidth=1)
        bottom.plot([_mean(record.difference) for record in trace.steps], color=colour, linewidth=1)
    top.set_title("w", fontsize=7, loc="left", pad=2)
    bottom.set_title("|c - u|", fontsize=7, loc="left", pad=2)
    for axes in (top, bottom):
        axes.tick_params(labelsize=6, length=2)
    rows = ours[1].rows_run / len(ours[0])
    figure.suptitle(f"{guidance}     {rows:.0f} rows a picture", fontsize=7, family="monospace")
    file = io.BytesIO()
    figure.savefig(file, format="png", pil_kwargs={"optimize": True})
    return file.getvalue()


def _mean(values: tuple[float | None, ...]) -> float:
    """Over the images; a gap in the curve where no image has a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="their names in text; all if left out")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    names = given.methods or [name for group in GROUPS.values() for name in group]
    folder = PAGE.parent / PICTURES
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
