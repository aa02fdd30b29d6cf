"""What `guide(pipe)` costs: its time over that of the untouched pipeline, drawing the same picture. `make bench`.

    python benchmarks/overhead.py [MODEL] [REPEATS]

The three ways take turns, in an order that rotates, so that a busy machine slows all of them alike; each repeat gives
one ratio. Shown are the median ratio and the range that holds half of them.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cfglab

PROMPT = "a photograph of an astronaut riding a horse"
SCALE, STEPS = 7.5, 20


def ways(pipe: Any) -> dict[str, Callable[[], int]]:
    """Name -> draw one picture and return the denoiser rows that were run."""

    def draw() -> None:
        pipe(PROMPT, guidance_scale=SCALE, num_inference_steps=STEPS, output_type="latent")

    def guided(guidance: cfglab.Schedule | float) -> int:
        with cfglab.guide(pipe, guidance) as trace:
            draw()
        return trace.rows_run

    def untouched() -> int:
        draw()
        return 2 * STEPS

    half = cfglab.Constant(SCALE).inside(progress=(0.0, 0.5))
    return {
        "untouched": untouched,
        f"guide, w = {SCALE}": lambda: guided(SCALE),
        "guide, off in the second half": lambda: guided(half),
    }


def main(model: str = "scenes", repeats: str = "15") -> None:
    pipe = cfglab.load(model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    draws = ways(pipe)
    names = list(draws)
    rows = {name: draw() for name, draw in draws.items()}  # and a warm-up
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(int(repeats)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            draws[name]()
            times[name].append(time.perf_counter() - start)
    print(f"{model}, {STEPS} steps, {repeats} repeats; time over the untouched pipeline's in the same repeat")
    for name in names:
        ratios = [mine / plain for mine, plain in zip(times[name], times["untouched"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        seconds = statistics.median(times[name])
        print(f"{name:<30}  {rows[name]:>3} rows  {seconds:7.3f} s  ratio {middle:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
