"""Two Gaussian classes at distance 2 sqrt(d) in d dimensions: what guidance distorts vanishes, or does it?"""

from lab import COOL, INK, WARM, arguments, expect, plt, save

from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate

given = arguments(samples=2000)
W, SIZES = 5, (1, 4, 16, 64, 256)
over, spread = [], []
for d in SIZES:
    mixture = Mixture([1, 1], [[1.0] * d, [-1.0] * d], 1.0, [0, 1])
    x = generate(mixture.of_class(0), mixture, W, noise_steps(karras(32, 40 * d**0.5)), range(given.samples), "heun")
    along = x.sum(1) / d**0.5  # on the axis through both classes, whose means lie at ± sqrt(d)
    over.append((along.mean().item() - d**0.5, along.mean().item() / d**0.5))
    spread.append(along.std().item())
    print(f"d {d:4}: mean {over[-1][1]:.3f} of the class's, {over[-1][0]:.2f} beyond it; sd {spread[-1]:.3f} (true 1)")
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
left.plot(SIZES, [relative for _, relative in over], "o-", color=COOL)
left.axhline(1, color=INK, linewidth=1, linestyle="--")
left.set(xscale="log", xlabel="dimension d", ylabel="mean along the axis / the class's", xticks=SIZES)
right.plot(SIZES, [absolute for absolute, _ in over], "o-", color=WARM, label="overshoot of the mean")
right.plot(SIZES, spread, "s-", color=COOL, label="standard deviation (true: 1)")
right.axhline(1, color=INK, linewidth=1, linestyle="--")
right.set(xscale="log", xlabel="dimension d", ylabel="along the axis, in the class's sd", xticks=SIZES, ylim=(0, 2))
right.legend(loc="upper right")
for axes in (left, right):
    axes.set_xticks(SIZES, [str(d) for d in SIZES])
    axes.minorticks_off()
expect("relative to the class's distance the overshoot vanishes", over[-1][1] < 1.15 < over[0][1])
expect("it does so like 1 / sqrt(d): the overshoot itself stays", 0.5 < over[-1][0] / over[0][0] < 2)
expect("and so does the lost spread along the axis", max(spread) < 0.75)
save(figure, given.out, "dimension")
