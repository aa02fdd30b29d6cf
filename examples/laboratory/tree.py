"""A tree of 40 limbs, known through a fog: what guidance does to samples between the limbs, and to the limbs."""

from lab import COOL, INK, SOFT, WARM, arguments, contradicted, expect, plt, save

from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import tree

given = arguments(samples=1500)
whole, w = tree(), 3
one = whole.of_class(0)
good = whole.mixture.blurred(0.0008)  # a good model of all three trees, and a weak one of this tree
weak = good.of_class(0).blurred(0.006)
settings = {
    "the class itself": None,
    "no guidance": (good, 1),
    f"classifier-free, w = {w}": (good, w),
    f"autoguidance, w = {w}": (weak, w),
}
exact, true = one.mixture.sample(range(20_000, 24_000)), one.shares(one.mixture.weights)
rare = one.mixture.log_density(exact).quantile(0.01)
figure, plots = plt.subplots(1, 4, figsize=(11, 3.6), sharex=True, sharey=True)
found = {}
for axes, (name, model) in zip(plots, settings.items(), strict=True):
    if model is None:
        x = one.mixture.sample(range(given.samples))
    else:
        x = generate(good.of_class(0), *model, noise_steps(karras(32, 20)), range(given.samples), "heun")
    outside = one.mixture.log_density(x) < rare
    limbs = one.shares(one.mixture.components(x))
    apart = (limbs.mean(0) - true).abs().sum().item() / 2
    there = len(limbs.argmax(1)[~outside].unique())
    found[name] = outside.double().mean().item(), there, apart
    print(f"{name:24} outliers {found[name][0]:.3f}, {there} of 40 limbs, total variation of limbs {apart:.3f}")
    axes.scatter(*exact[:2500].T, s=1, color=SOFT, alpha=0.5, linewidths=0, rasterized=True)
    axes.scatter(*x[~outside].T, s=3, color=COOL, alpha=0.6, linewidths=0, rasterized=True)
    axes.scatter(*x[outside].T, s=5, color=WARM, linewidths=0, rasterized=True)
    axes.set_title(
        f"{name}\noutliers {found[name][0]:.1%}, {there} limbs\nlimbs' variation {apart:.2f}", fontsize=9.5, color=INK
    )
    axes.set(aspect="equal", xlabel="x")
plots[0].set_ylabel("y (grey: the class, red: outliers)")
_, none, free, auto = found.values()
expect("autoguidance removes outliers", auto[0] < 0.4 * none[0])
expect("and keeps the limbs", auto[2] < none[2] + 0.06)
expect("classifier-free guidance loses limbs", free[2] > none[2] + 0.3 and free[1] < auto[1])
contradicted("classifier-free guidance removes outliers of this fog", free[0] < none[0])
save(figure, given.out, "tree")
