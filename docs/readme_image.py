"""Draw docs/images/scenes.webp, the picture of the README: six prompts on the bundled model at four guidance scales.

    python docs/readme_image.py
    python docs/readme_image.py --model scenes-flow --scales 1 2 3 8    # docs/images/scenes-flow.webp, for docs/runs.md

A row is a scale, a column a prompt with one starting noise. The prompts were chosen, for objects that are easy to name
and right at w = 5; the seeds are 0 to 5. About a minute on two idle cores.
"""

import argparse
import io
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.experiments.storage.files import write_whole
from cfglab.guidance import Guidance
from cfglab.pipelines import guide, load
from cfglab.scenes import ARGUMENTS, MODELS

IMAGES = Path(__file__).parent / "images"
PROMPTS = (
    "an astronaut riding a horse on a yellow background",
    "a red car next to a blue balloon",
    "three butterflies on a grey background",
    "a rocket above a house on a pink background",
    "two yellow umbrellas on a purple background",
    "a purple flower next to a mushroom on a green background",
)
SCALES = (1.0, 2.5, 5.0, 15.0)
SIDE, GAP, LEFT, BELOW = 128, 8, 96, 54  # pixels: an image, between two, the labels on the left, the prompts below
FONT_SIZE, LETTERS = 13, 21  # letters in a line below an image


def column(pipe: Any, prompt: str, scales: list[float], seed: int, **arguments: Any) -> list[Image.Image]:
    """The images of one prompt, one for each of the scales, from the same starting noise.

    Args:
        pipe: The model.
        prompt: The prompt.
        scales: The guidance scales.
        seed: The seed of the noise.
        **arguments: Arguments of the pipeline's call.
    """
    noise = [torch.Generator().manual_seed(seed) for _ in scales]
    with guide(pipe, [Guidance(w) for w in scales]):
        images: list[Image.Image] = pipe([prompt] * len(scales), generator=noise, **arguments).images
    return images


def arranged(columns: list[list[Image.Image]], scales: list[float]) -> Image.Image:
    """The whole picture: images in rows and columns, scales on the left, prompts below.

    Args:
        columns: The images of each of PROMPTS.
        scales: The guidance scales.
    """
    font, step = ImageFont.load_default(FONT_SIZE), SIDE + GAP
    made = Image.new("RGB", (LEFT + len(columns) * step, GAP + len(scales) * step + BELOW), "white")
    draw = ImageDraw.Draw(made)
    for row, w in enumerate(scales):
        label = f"w = {w:g}\n(no guidance)" if w == 1 else f"w = {w:g}"
        draw.multiline_text((6, GAP + row * step + SIDE // 2), label, "black", font, anchor="lm")
    for place, (prompt, images) in enumerate(zip(PROMPTS, columns, strict=True)):
        x = LEFT + place * step
        for row, image in enumerate(images):
            made.paste(image, (x, GAP + row * step))
        text = textwrap.fill(prompt, LETTERS)
        middle = (x + SIDE // 2, GAP + len(scales) * step)
        draw.multiline_text(middle, text, "black", font, anchor="ma", align="center")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", choices=MODELS, default="scenes")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    given = parser.parse_args()
    pipe = load(given.model, sampler="euler")
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": given.steps, **ARGUMENTS.get(given.model, {})}
    columns = [column(pipe, prompt, given.scales, seed, **arguments) for seed, prompt in enumerate(PROMPTS)]
    out, file = IMAGES / f"{given.model}.webp", io.BytesIO()
    arranged(columns, given.scales).save(file, format="webp", quality=90, method=6)
    write_whole(out, file.getvalue())
    print(f"{out}: {len(file.getvalue()):,} bytes")


if __name__ == "__main__":
    main()
