"""APG drops the part of the update along the prediction: what that part did, at growing scales."""

from lab import COOL, GREEN, INK, WARM, arguments, contradicted, expect, legend, plt, save

from cfglab import Guidance
from cfglab.guidance import APG
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import modes

given = arguments(samples=3000)
whole = modes()
one, scales = whole.of_class(0), (1, 2, 4, 8, 12)
methods = {
    "plain": ([], COOL, "o"),
    "APG, η = 0.5": ([APG(eta=0.5, momentum=0)], GREEN, "s"),
    "APG, η = 0": ([APG(eta=0, momentum=0)], WARM, "^"),
}
figure, plots = plt.subplots(1, 3, figsize=(10.5, 3.5))
found = {}
for name, (transforms, colour, mark) in methods.items():
    rows = []
    for w in scales:
        steps = noise_steps(karras(32, 40))
        x = generate(one.mixture, whole.mixture, Guidance(w, transforms), steps, range(given.samples))
        small = one.shares(one.mixture.components(x))[:, 1].mean().item()
        sure = whole.mixture.posterior(x)[:, 0].mean().item()
        rows.append((x.norm(dim=1).mean().item(), small, sure))
        print(f"{name:13} w {w:2}: mean length {rows[-1][0]:.3f}, small mode {small:.3f}, p(class) {sure:.4f}")
    found[name] = rows
    for axes, values in zip(plots, zip(*rows, strict=True), strict=True):
        axes.plot(scales, values, mark + "-", color=colour, label=name, markersize=5)
true = one.mixture.sample(range(4000)).norm(dim=1).mean().item()
for axes, label, value in zip(
    plots,
    ("mean length of the samples", "share of the small mode", "p(class | sample)"),
    (true, 0.3, None),
    strict=True,
):
    if value:
        axes.axhline(value, color=INK, linestyle="--", linewidth=1, label="the class itself")
    axes.set(xlabel="guidance scale w", ylabel=label, xticks=scales)
legend(figure, plots[0])
plots[2].set_ylim(0.9, 1.005)
plain, apg = found["plain"], found["APG, η = 0"]
expect("plain guidance makes samples longer and longer", plain[3][0] > true + 0.15)
expect("without the parallel part they do not grow", all(row[0] < true + 0.05 for row in apg))
expect("the small mode is not lost", apg[3][1] > plain[3][1] + 0.05)
expect("the class is as sure as before", apg[3][2] > 0.97)
contradicted("its share is the class's own", abs(apg[4][1] - 0.3) < 0.05)
save(figure, given.out, "apg")
