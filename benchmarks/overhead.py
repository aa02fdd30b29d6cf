"""What `guide(pipe)` costs: its time over that of the untouched pipeline, drawing the same image. `make bench`.

    python -m benchmarks.overhead [MODEL] [REPEATS]

The three ways take turns, in an order that rotates, so that a busy machine slows all of them alike; each repeat gives
one ratio. Shown are the median ratio and the range that holds half of them.
"""

import sys
from collections.abc import Callable
from typing import Any

import cfglab
from benchmarks.turns import circumstances, in_turns, median, ratio, table

PROMPT = "a photograph of an astronaut riding a horse"
SCALE, STEPS = 7.5, 20


def ways(pipe: Any) -> dict[str, Callable[[], int]]:
    """Name -> draw one image and return the denoiser rows that were run."""

    def draw() -> None:
        pipe(PROMPT, guidance_scale=SCALE, num_inference_steps=STEPS, output_type="latent")

    def guided(guidance: cfglab.Schedule | float) -> int:
        with cfglab.guide(pipe, guidance) as trace:
            draw()
        return trace.rows_run

    def untouched() -> int:
        draw()
        return 2 * (STEPS + 1)  # PNDM calls the denoiser once more

    half = cfglab.Constant(SCALE).inside(progress=(0.0, 0.5))
    return {
        "untouched": untouched,
        f"guide, w = {SCALE}": lambda: guided(SCALE),
        "guide, off in the second half": lambda: guided(half),
    }


def main(model: str = "scenes", repeats: str = "25") -> None:
    pipe = cfglab.load(model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    draws = ways(pipe)
    rows = {name: draw() for name, draw in draws.items()}  # and a warm-up
    said = circumstances(int(repeats))
    seconds = in_turns(draws, int(repeats), warm=False)
    print(f"{model}, {STEPS} steps of PNDM, one image; {said}\n")
    lines = [[name, str(rows[name]), median(seconds[name]), ratio(seconds, name, "untouched")] for name in draws]
    print(table(["way", "rows", "median", "of the time of the untouched pipeline"], lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
