"""ICG: a random condition in the place of none. Where it is as good, and what its extra push does."""

import torch
from lab import COOL, INK, WARM, arguments, contradicted, expect, plt, save

from cfglab import Guidance
from cfglab.guidance import ICG
from cfglab.mixtures.noise_paths import karras, noise_steps, random_numbers
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.text_conditioned import TextConditionedMixture
from cfglab.mixtures.toys import modes

given = arguments(samples=2000)
whole = modes()
one, told, seeds = whole.of_class(0), TextConditionedMixture(whole.mixture, 0), range(given.samples)
steps = noise_steps(karras(32, 40))
uniform, normal, noise = random_numbers(seeds, 1, 2, 2)
texts = torch.randn(given.samples, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
levels, gap, push, end = [], [], [], {}
for step in steps:
    x = one.mixture.sample_from(uniform, normal) + step.sigma * noise
    free = whole.mixture.predict(x, step, "x0")
    random, class_ = told.predict(x, step, "x0", encoder_hidden_states=texts), told.predict(x, step, "x0")
    levels.append(step.sigma)
    gap.append(((class_ - random).norm(dim=1).mean() / (class_ - free).norm(dim=1).mean()).item())
    push.append(((class_ - free).norm(dim=1).mean().item(), (class_ - random).norm(dim=1).mean().item()))
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6))
left.plot(levels, [free for free, _ in push], "o-", color=COOL, markersize=4, label="against no condition (CFG)")
left.plot(levels, [random for _, random in push], "^-", color=WARM, markersize=4, label="against a random one (ICG)")
left.set(xscale="log", xlabel="noise level σ, the run goes to the right", ylabel="mean length of the update in x0")
left.invert_xaxis()
left.legend(fontsize=8.5)
scales = (1, 1.5, 2, 3, 4)
for name, transforms, colour, mark in (("CFG", [], COOL, "o"), ("ICG", [ICG()], WARM, "^")):
    ends = []
    for w in scales:
        x = generate(told, whole.mixture, Guidance(w, transforms), steps, seeds)
        ends.append((x[:, 0].mean().item(), whole.mixture.posterior(x)[:, 0].mean().item()))
        print(f"{name} w {w}: mean x {ends[-1][0]:.3f}, p(class) {ends[-1][1]:.4f}")
    end[name] = ends
    right.plot(scales, [mean for mean, _ in ends], mark + "-", color=colour, label=name, markersize=5)
right.axhline(1, color=INK, linestyle="--", linewidth=1, label="the class itself")
right.set(xlabel="guidance scale w", ylabel="mean of x")
right.legend(fontsize=8.5)
early, late = gap[2], gap[sum(sigma > 0.5 for sigma in levels)]
print(f"length of the update, ICG over CFG: {early:.2f} at sigma {levels[2]:.0f}, {late:.1f} at sigma 0.5")
expect("ICG guides towards the class like CFG", end["ICG"][2][1] > 0.99 and end["ICG"][2][0] > 1.05)
expect("at one w it pushes more", all(icg[0] > cfg[0] for icg, cfg in zip(end["ICG"][1:], end["CFG"][1:], strict=True)))
contradicted("its update is that of CFG when the noise is low", late < 1.5)
save(figure, given.out, "icg")
