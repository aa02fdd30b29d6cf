"""Wrong captions make guidance matter; the noise level at which the class is decided says where in the run."""

import math

import torch
from lab import COOL, INK, SOFT, WARM, arguments, expect, plt, save

from cfglab import Constant, Cosine, Guidance, levels
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.sampling import generate

given = arguments(samples=4000)
CLASSES, W, STEPS, FAR = 8, 2, 25, 4
WRONG, RADII = (0, 0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 1, 2, 4, 8)
steps = levels("sd", STEPS).steps
schedules = {
    "falling cosine": (Cosine(max=7.5, min=1).matched_to(W), WARM, "o"),
    "constant": (Constant(W), INK, "s"),
    "rising cosine": (Cosine(max=7.5, min=1).inverted().matched_to(W), COOL, "^"),
    "none, w = 1": (Constant(1), SOFT, "v"),
}


def correct(schedule, wrong, radius):
    """The share of samples of class 0 where a share of the captions "class 0" stands beside any image."""
    turns = [2 * math.pi * index / CLASSES for index in range(CLASSES)]
    means, variance = [[radius * math.cos(turn), radius * math.sin(turn)] for turn in turns], (0.1 * radius) ** 2
    weights = torch.full((CLASSES,), max(wrong, 1e-12) / CLASSES)
    weights[0] += 1 - wrong
    world, captioned = Mixture([1] * CLASSES, means, variance, range(CLASSES)), Mixture(weights, means, variance)
    x = generate(captioned, world, Guidance(schedule), steps, range(given.samples), "heun", start=captioned)
    return 100 * (world.posterior(x).argmax(1) == 0).double().mean().item()


figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.8), sharey=True)
by_wrong, by_radius = {}, {}
for name, (schedule, colour, mark) in schedules.items():
    by_wrong[name] = [correct(schedule, wrong, FAR) for wrong in WRONG]
    by_radius[name] = [correct(schedule, 0.2, radius) for radius in RADII]
    print(f"{name:18}", *(f"{share:5.1f}" for share in by_wrong[name]), "|", *(f"{y:5.1f}" for y in by_radius[name]))
    left.plot(WRONG, by_wrong[name], mark, ls="-", color=colour, label=name, markersize=5)
    right.plot(RADII, by_radius[name], mark, ls="-", color=colour, markersize=5)
left.set(xlabel="share of wrong captions", ylabel="samples of the class asked for, %", title="classes at distance 4")
right.set(xlabel="distance of the classes from the centre", xscale="log", title="one caption in five is wrong")
right.set_xticks(RADII, labels=[f"{radius:g}" for radius in RADII])
right.minorticks_off()
left.legend(loc="lower left")
falling, constant, rising, none = by_wrong.values()
expect("with true captions every schedule is correct", min(row[0] for row in by_wrong.values()) > 99.9)
expect("without guidance the wrong captions are drawn", abs(none[2] - 82.5) < 5)
ahead = all(a > b for a, b in zip(falling[1:], constant[1:], strict=True))
expect("falling is better than constant where captions are wrong", ahead)
expect("constant is better than rising", all(a > b for a, b in zip(constant[1:], rising[1:], strict=True)))
near = [row[1] for row in by_radius.values()]
expect("where the class is decided late, falling is not better", near[0] < near[1] + 0.1)
save(figure, given.out, "captions")
