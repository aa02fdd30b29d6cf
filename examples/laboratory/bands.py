"""Guidance in one band of noise only, on a class with a large and a small mode: what is kept, and what is sharpened."""

from lab import COOL, INK, WARM, arguments, expect, plt, save

from cfglab import Constant, Guidance
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import modes

given = arguments(samples=4000)
whole, w = modes(), Constant(4)
one = whole.of_class(0)
settings = {
    "none": Constant(1),
    "early, σ > 2": w.inside(sigma=(2, 100)),
    "middle, 0.3 to 2": w.inside(sigma=(0.3, 2)),
    "late, σ < 0.3": w.inside(sigma=(0, 0.3)),
    "everywhere": w,
}
figure, plots = plt.subplots(1, 5, figsize=(11, 3.4), sharex=True, sharey=True)
found = {}
for axes, (name, schedule) in zip(plots, settings.items(), strict=True):
    steps = noise_steps(karras(48, 40))
    x = generate(one.mixture, whole.mixture, Guidance(schedule), steps, range(given.samples), "heun")
    small = one.shares(one.mixture.components(x))[:, 1].mean().item()
    found[name] = small, one.mixture.log_density(x).mean().item(), x[:, 0].mean().item()
    print(f"{name:18} small mode {small:.3f}, mean log density {found[name][1]:.2f}, mean x {found[name][2]:.3f}")
    axes.scatter(*x[:1500].T, s=2, color=COOL, alpha=0.35, linewidths=0, rasterized=True)
    axes.scatter([1, 1], [1, -1], marker="+", color=WARM, s=70, zorder=3)
    axes.set_title(f"{name}\nsmall mode {small:.3f}\nlog density {found[name][1]:.2f}", fontsize=9.5, color=INK)
    axes.set(xlabel="x", xlim=(0.3, 1.9), ylim=(-1.9, 1.9))
plots[0].set_ylabel("y (modes' centres: +)")
none, early, middle, late, all_of_it = found.values()
expect("guidance everywhere and early lose the small mode", max(early[0], all_of_it[0]) < none[0] - 0.03)
expect("the late band keeps it", abs(late[0] - none[0]) < 0.01)
expect("the middle loses less than the early band", early[0] < middle[0] < none[0])
expect("the middle sharpens most", middle[1] == max(row[1] for row in found.values()))
expect("early guidance overshoots", early[2] > none[2] + 0.05)
save(figure, given.out, "bands")
