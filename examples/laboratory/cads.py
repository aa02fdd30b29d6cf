"""CADS: noise in the text, less and less of it. What it gives back of a class's small mode, and what it costs."""

from lab import COOL, GREEN, INK, WARM, arguments, expect, legend, plt, save

from cfglab import Guidance
from cfglab.guidance import CADS
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.text_conditioned import TextConditionedMixture
from cfglab.mixtures.toys import modes

given = arguments(samples=3000)
whole = modes()
one, told, steps = whole.of_class(0), TextConditionedMixture(whole.mixture, 0), noise_steps(karras(32, 40))
scales = (1, 2, 4, 8)
methods = {
    "plain": ([], COOL, "o"),
    "CADS, s 0.25 (its default)": ([CADS()], GREEN, "s"),
    "CADS, s 1, until t = 0.3": ([CADS(s=1, tau1=0.3)], WARM, "^"),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6))
found = {}
for name, (transforms, colour, mark) in methods.items():
    for w in scales:
        x = generate(told, whole.mixture, Guidance(w, transforms), steps, range(given.samples))
        small = one.shares(one.mixture.components(x))[:, 1].mean().item()
        found[name, w] = small, x[:, 0].mean().item(), whole.mixture.posterior(x)[:, 0].mean().item()
        print(
            f"{name:27} w {w}: small mode {small:.3f}, mean x {found[name, w][1]:.3f}, p(class) {found[name, w][2]:.4f}"
        )
    for axes, which in ((left, 0), (right, 1)):
        axes.plot(scales, [found[name, w][which] for w in scales], mark + "-", color=colour, label=name, markersize=5)
left.axhline(0.3, color=INK, linestyle="--", linewidth=1, label="the class itself")
right.axhline(1, color=INK, linestyle="--", linewidth=1)
left.set(xlabel="guidance scale w", ylabel="share of the small mode", xticks=scales)
right.set(xlabel="guidance scale w", ylabel="mean of x", xticks=scales)
legend(figure, left)
plain, default, strong = (name for name in methods)
expect("more of the small mode at high scales", found[strong, 8][0] > found[plain, 8][0] + 0.01)
expect("the default does a little of that", found[plain, 8][0] <= found[default, 8][0] <= found[strong, 8][0])
expect("less overshoot too", found[strong, 8][1] < found[plain, 8][1])
expect("the class is as sure", found[strong, 8][2] > 0.995)
expect("unguided, it costs some of the class", found[strong, 1][2] < found[plain, 1][2])
save(figure, given.out, "cads")
