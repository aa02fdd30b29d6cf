"""Feedback guidance against what it estimates: the exact posterior of the class at every step."""

from lab import COOL, GREEN, INK, WARM, arguments, contradicted, expect, legend, plt, save

from cfglab import Constant, Guidance
from cfglab.guidance import FeedbackGuidance
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import modes

given = arguments(samples=3000)
whole = modes()
one, steps = whole.of_class(0), noise_steps(karras(48, 40))


class Watched:
    """The class's denoiser; notes how sure the class is of each x it is given."""

    dimension = 2

    def __init__(self):
        self.sure = []

    def predict(self, x, step, space="epsilon"):
        self.sure.append(whole.mixture.posterior(x, step)[:, 0].mean().item())
        return one.mixture.predict(x, step, space)


settings = {
    "feedback, π 0.9": (Guidance(1, [FeedbackGuidance(pi=0.9, t0=0.556, tau=1)]), WARM),
    "feedback, π 0.5": (Guidance(1, [FeedbackGuidance(pi=0.5, t0=0.556, tau=1)]), GREEN),
    "interval 0.3 to 2": (Guidance(Constant(4).inside(sigma=(0.3, 2))), COOL),
    "constant 4": (Guidance(4), INK),
}
figure, plots = plt.subplots(1, 3, figsize=(10.5, 3.5))
found, curves = {}, {}
for name, (guidance, colour) in settings.items():
    watched, calls = Watched(), []
    x = generate(watched, whole.mixture, guidance, steps, range(given.samples), calls=calls)
    small = one.shares(one.mixture.components(x))[:, 1].mean().item()
    found[name] = small, one.mixture.log_density(x).mean().item()
    sigma, w = [call.sigma for call in calls], [call.w for call in calls]
    push = [(call.w - 1) * (0 if call.w == 1 else call.difference) for call in calls]
    curves[name] = sigma, w, watched.sure, push
    print(f"{name:18} small mode {small:.3f}, mean log density {found[name][1]:.2f}, w at the end {w[-1]:.2f}")
    for axes, values in zip(plots, (w, watched.sure, push), strict=True):
        axes.plot(sigma, values, color=colour, label=name)
for axes, label in zip(
    plots, ("w, mean over the samples", "exact p(class | x), mean", "push (w − 1) |c − u|"), strict=True
):
    axes.set(xscale="log", xlabel="noise level σ, the run goes to the right", ylabel=label)
    axes.invert_xaxis()
legend(figure, plots[0])
sigma, w, sure, push = curves["feedback, π 0.9"]
early, end = sum(s > 5 for s in sigma), len(sigma) - 1
expect("feedback guides little while the noise is high", max(w[:early]) < 2)
expect(
    "so it keeps more of the small mode than constant guidance",
    found["feedback, π 0.9"][0] > found["constant 4"][0] + 0.02,
)
expect("it is on par with the interval", abs(found["feedback, π 0.9"][1] - found["interval 0.3 to 2"][1]) < 0.2)
expect("the push fades once the class is sure", push[end] < 0.1 * max(push))
contradicted("the scale itself fades", w[end] < 3)
save(figure, given.out, "feedback")
