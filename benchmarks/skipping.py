"""What a guidance that is off for half the steps saves, by the size of the batch, on `scenes`. `make bench`.

    python -m benchmarks.skipping [--repeats 3] [--steps 20]

Different seeds under one prompt, so that no rows are shared: off for half the steps is three rows for four.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import cfglab
from benchmarks.turns import arguments, circumstances, in_turns, ratio, table

PROMPT, SCALE = "a photograph of an astronaut riding a horse", 3.0
SIZES = (1, 8, 16, 32)
GUIDANCES: dict[str, cfglab.Schedule | float] = {
    "full": SCALE,
    "off in the second half": cfglab.Constant(SCALE).inside(progress=(0.0, 0.5)),
    "off in the first half": cfglab.Constant(SCALE).inside(progress=(0.5, 1.0)),
}


def draw(pipe: Any, images: int, guidance: cfglab.Schedule | float, steps: int) -> int:
    """Draw so many images, latents only; the rows that were run."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
    with cfglab.guide(pipe, guidance) as trace:
        pipe([PROMPT] * images, num_inference_steps=steps, generator=generators, output_type="latent")
    return trace.rows_run


def main() -> None:
    given = arguments(__doc__, repeats=3, steps=20)
    pipe = cfglab.load("scenes", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    said, lines = circumstances(given.repeats), []
    for images in SIZES:
        ways: dict[str, Callable[[], int]] = {
            name: partial(draw, pipe, images, guidance, given.steps) for name, guidance in GUIDANCES.items()
        }
        rows = {name: way() for name, way in ways.items()}
        seconds = in_turns(ways, given.repeats, warm=False)
        lines += [
            [str(images), name, str(rows[name]), f"{rows[name] / rows['full']:.3g}", ratio(seconds, name, "full")]
            for name in list(ways)[1:]
        ]
    print(f"{given.steps} steps; {said}\n")
    print(table(["images in the batch", "guidance", "rows", "of the rows of full", "of the time of full"], lines))


if __name__ == "__main__":
    main()
