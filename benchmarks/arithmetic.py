"""What a transform's arithmetic costs over that of plain guidance, at the size of Stable Diffusion. `make bench`.

    python -m benchmarks.arithmetic [--repeats 20]

Ten images of 4×64×64 latents in float32, the combine alone: no denoiser. Transforms that need further predictions are
left out, for the prediction is what they cost; so are those that change what the denoiser computes.
"""

from functools import partial
from typing import Any

import torch

from benchmarks.turns import arguments, circumstances, in_turns, median, ratio, table
from cfglab.guidance import TRANSFORMS, Guidance, Transform
from cfglab.step import Step

SHAPE = (10, 4, 64, 64)
STEP = Step(4, 10, timestep=600.0, sigma=1.7, next_sigma=1.2, alpha=1 / (1 + 1.7**2) ** 0.5)
PLAIN = "plain guidance"
ASKED: dict[str, dict[str, Any]] = {
    "adaptive": {"similarity": 0.99},
    "feedback": {"pi": 0.95, "t0": 0.5, "tau": 0.01},
    "fdg": {"factors": (1, 0.5)},
    "fresca": {"high": 1.5, "cutoff": 4},
    "magnitude_aware": {"alpha": 1.0},
    "mimic_threshold": {"mimic": 2.0},
    "momentum": {"alpha": 1.5, "beta": 0.2},
    "skimmed": {"skim": 2.0},
    "update_power": {"gamma": 1.0},
    "epsilon_scaling": {"factor": 1.02},
    "imagen_threshold": {"limit": 2.5},
    "apg": {"norm_threshold": 5.0},
}
"""Values for transforms that ask for some, or that do nothing as they stand."""


def transforms() -> dict[str, Transform]:
    """One of every transform that needs no more than the two predictions."""
    found = {}
    for name, kind in TRANSFORMS.items():
        if kind.variation is Transform.variation:
            found[name] = kind(**ASKED.get(name, {}))
    return found


def combine(guidance: Guidance, uncond: torch.Tensor, cond: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    return guidance.start("epsilon").combine(uncond, cond, STEP, latents)


def main() -> None:
    given = arguments(__doc__, repeats=20)
    generator = torch.Generator().manual_seed(0)
    predictions = [torch.randn(SHAPE, generator=generator) for _ in range(3)]
    chosen = transforms()
    guidances = {PLAIN: Guidance(4), **{name: Guidance(4, (one,)) for name, one in chosen.items()}}
    seconds = in_turns({name: partial(combine, one, *predictions) for name, one in guidances.items()}, given.repeats)
    order = sorted(chosen, key=lambda name: sum(seconds[name]))
    lines = [[f"`{chosen[name]}`", median(seconds[name]), ratio(seconds, name, PLAIN)] for name in order]
    print(f"{SHAPE[0]} × {' × '.join(map(str, SHAPE[1:]))}, float32; {circumstances(given.repeats)} ")
    print(f"Plain guidance: {median(seconds[PLAIN])}.\n")
    print(table(["transform", "median", "over plain guidance"], lines))


if __name__ == "__main__":
    main()
