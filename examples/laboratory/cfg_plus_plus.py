"""CFG++ as a schedule of plain guidance: its w at every step, and what more steps make of one lambda."""

import torch
from lab import COOL, INK, WARM, arguments, expect, plt, save

from cfglab import CFGPlusPlus, Guidance
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import integrate

given = arguments(samples=1)  # the mean of a linear flow is one point's path
LAM, COUNTS, S = 0.6, (10, 20, 50, 100, 200), 0.5
cond, uncond = Mixture([1], [[1]], S**2), Mixture([1], [[0]], S**2)


def written_out(steps, x):
    """The paper's own step: denoise guided, renoise with the unconditional noise (2406.08070, algorithm 2)."""
    for step in steps:
        free, told = uncond.predict(x, step), cond.predict(x, step)
        x = x - step.sigma * (free + LAM * (told - free)) + step.next_sigma * free
    return x


figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
ends, plain = [], []
for count, shade in zip(COUNTS, (0.25, 0.4, 0.6, 0.8, 1), strict=True):
    levels = karras(count, 14.6, 0.03)
    steps, schedule = noise_steps(levels), CFGPlusPlus(lam=LAM)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    ends.append(integrate(cond, uncond, Guidance(schedule), steps, zero).item())
    plain.append(integrate(cond, uncond, Guidance(7.5), steps, zero).item())
    apart = abs(ends[-1] - written_out(steps, zero).item())
    print(
        f"{count:3} steps: mean ends at {ends[-1]:.2f} (plain 7.5: {plain[-1]:.2f}); from the paper's step {apart:.0e}"
    )
    expect("the schedule is the paper's step", apart < 1e-9)
    left.plot(levels[:-1], schedule.values(count, levels), color=COOL, alpha=shade, label=f"{count} steps")
left.axhline(7.5, color=INK, linestyle="--", linewidth=1)
left.set(xscale="log", yscale="log", ylabel=f"w of CFG++ with λ = {LAM}")
left.invert_xaxis()
left.set_xlabel("noise level σ, the run goes to the right")
left.set_ylim(0.15, None)
left.legend(ncols=2, fontsize=8.5, loc="lower left")
right.plot(COUNTS, ends, "o-", color=COOL, label=f"CFG++, λ = {LAM}")
right.plot(COUNTS, plain, "s--", color=WARM, label="plain, w = 7.5")
right.set(xscale="log", yscale="log", xlabel="steps", ylabel="where the mean ends (class 1, all 0)")
right.set_xticks(COUNTS, [str(count) for count in COUNTS])
right.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
right.minorticks_off()
right.legend()
expect("one λ is another scale for every number of steps", ends[-1] > 8 * ends[0])
expect("plain guidance converges", abs(plain[-1] / plain[-2] - 1) < 0.05)
save(figure, given.out, "cfg_plus_plus")
