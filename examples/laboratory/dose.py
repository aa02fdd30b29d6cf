"""Where the mean ends under any schedule: its effective dose says it, the mean of w over the steps does not."""

import torch
from lab import COOL, GREEN, INK, WARM, arguments, expect, plt, save

from cfglab import Constant, Cosine, Guidance, Linear
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import integrate

given = arguments(samples=1)  # the mean of a linear flow is one point's path
STEPS, S = 160, 0.5
levels = karras(STEPS, 80, 0.002)
cond, uncond = Mixture([1], [[1]], S**2), Mixture([1], [[0]], S**2)
falling = [Cosine(max=top, min=1, k=k) for top in (4, 7.5) for k in (0.1, 0.3, 1, 3, 5)]
families = {
    "falling (k-decay)": (falling, WARM, "o"),
    "rising (inverted)": ([one.inverted() for one in falling] + [Linear(max=1, min=7.5)], COOL, "s"),
    "an interval of sigma": (
        [Constant(w).inside(sigma=band) for w in (3, 6) for band in ((0.05, 0.3), (0.3, 1), (0.3, 2), (1, 5), (5, 80))],
        GREEN,
        "^",
    ),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.8), sharey=True)
far, doses = 0.0, []
for name, (schedules, colour, mark) in families.items():
    ends = [
        integrate(
            cond, uncond, Guidance(one), noise_steps(levels), torch.zeros(1, 1, dtype=torch.float64), "heun"
        ).item()
        for one in schedules
    ]
    plain = [one.dose(STEPS, levels) for one in schedules]
    effective = [one.effective_dose(levels, S) for one in schedules]
    doses += zip(plain, effective, ends, strict=True)
    left.plot(plain, ends, mark, color=colour, label=name, markersize=5)
    right.plot(effective, ends, mark, color=colour, markersize=5)
far = max(abs(end - effective) for _, effective, end in doses)
apart = max(abs(end - plain) for plain, _, end in doses)
for axes in (left, right):
    axes.axline((0, 0), slope=1, color=INK, linewidth=1)
left.set(xlabel="dose: mean w over the steps", ylabel="where the mean ends (class 1, all 0)", xlim=(0.5, 7.6))
right.set(xlabel=f"effective dose, s = {S}", xlim=(0.5, 7.6), ylim=(0.5, 7.6))
left.legend(loc="upper left")
print(f"{len(doses)} schedules: off by at most {far:.3f} from the effective dose, {apart:.2f} from the plain one")
expect("the effective dose says where the mean ends", far < 0.1)
expect("the plain dose does not", apart > 1)
save(figure, given.out, "dose")
