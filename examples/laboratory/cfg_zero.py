"""CFG-Zero* on an exact flow: the scaled unconditional velocity, and first steps that stand still."""

import torch
from lab import COOL, GREEN, INK, WARM, arguments, contradicted, expect, legend, plt, save

from cfglab import Guidance
from cfglab.guidance import CFGZeroStar
from cfglab.mixtures.noise_paths import flow_levels, noise_steps, random_numbers
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import modes

given = arguments(samples=3000)
whole = modes()
one, steps, scales = whole.of_class(0), noise_steps(flow_levels(25), "flow"), (1, 2, 4, 6)
methods = {
    "plain": ([], COOL, "o"),
    "scaled": ([CFGZeroStar(zero_steps=0)], GREEN, "s"),
    "scaled, 1 step still": ([CFGZeroStar(zero_steps=1)], WARM, "^"),
}
seeds = range(given.samples)
figure, plots = plt.subplots(1, 3, figsize=(10.5, 3.5))
found = {}
for name, (transforms, colour, mark) in methods.items():
    for w in scales:
        x = generate(one.mixture, whole.mixture, Guidance(w, transforms), steps, seeds, space="flow")
        found[name, w] = x[:, 0].mean().item(), one.mixture.log_density(x).mean().item()
        print(f"{name:21} w {w}: mean x {found[name, w][0]:.3f}, mean log density {found[name, w][1]:.2f}")
    for axes, which in zip(plots, (0, 1), strict=False):
        axes.plot(scales, [found[name, w][which] for w in scales], mark + "-", color=colour, label=name, markersize=5)
plots[0].axhline(1, color=INK, linestyle="--", linewidth=1, label="the class itself")
plots[0].set(xlabel="guidance scale w", ylabel="mean of x")
legend(figure, plots[0])
plots[1].set(xlabel="guidance scale w", ylabel="mean log density under the class")

places, still, guided = [], [], []
noise, uniform, normal = (random_numbers(seeds, 1, 2, 2)[i] for i in (1, 0, 2))
for step in steps:
    t = step.host_sigma
    x = (1 - t) * one.mixture.sample_from(uniform, normal) + t * noise
    told, free = one.mixture.predict(x, step, "flow"), whole.mixture.predict(x, step, "flow")
    places.append(t)
    still.append(told.norm(dim=1).mean().item())
    guided.append(((4 - 1) * (told - free)).norm(dim=1).mean().item())
plots[2].plot(places, guided, "o-", color=COOL, markersize=4, label="guided, w = 4")
plots[2].plot(places, still, "^-", color=WARM, markersize=4, label="standing still")
plots[2].set(xlabel="t, the run goes to the right", ylabel="distance from the class's velocity", xlim=(1.02, -0.02))
plots[2].set_ylim(0, None)
plots[2].legend(fontsize=8.5)

rough = whole.mixture.blurred(0.4)  # a model that knows the data through a fog, as one trained too little
foggy = [
    generate(rough.of_class(0), rough, Guidance(4, [CFGZeroStar(zero_steps=n)]), steps, seeds, space="flow")
    for n in (0, 1)
]
before, after = (one.mixture.log_density(x).mean().item() for x in foggy)
print(f"a blurred model at w 4: mean log density {before:.2f}, with a still step {after:.2f}")
expect("scaling lessens the overshoot of guidance", found["scaled", 4][0] < found["plain", 4][0] - 0.03)
expect("and raises the density", found["scaled", 4][1] > found["plain", 4][1] + 0.2)
expect("at first, standing still is nearer to the class than guiding by 4", torch.tensor(guided[0]) > still[0])
contradicted("a still first step raises the density of a blurred model", after > before)
save(figure, given.out, "cfg_zero")
