"""Constant guidance of N(0, 1) away from N(0, 2): the variance it ends with, by the flow and by ancestral steps."""

import math

import numpy as np
from lab import COOL, INK, WARM, arguments, expect, plt, save

from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import karras, noise_steps
from cfglab.mixtures.sampling import generate

given = arguments(samples=4000)
cond, uncond = Mixture([1], [[0]], 1), Mixture([1], [[0]], 2)
w = np.linspace(0, 6, 200)
laws = {
    "probability flow (Heun)": (2 ** (1 - w), COOL),
    "ancestral steps": ((2 - 2 ** (2 - 2 * w)) / np.where(abs(2 * w - 1) < 1e-9, np.nan, 2 * w - 1), WARM),
}
figure, axes = plt.subplots(figsize=(6, 3.8))
for (name, (law, colour)), method, count in zip(laws.items(), ("heun", "ancestral"), (48, 500), strict=True):
    axes.plot(w, law, color=colour, label=f"{name}: the law")
    for scale in (0, 1, 2, 3, 4, 6):
        x = generate(cond, uncond, scale, noise_steps(karras(count, 100)), range(given.samples), method)
        found, error = x.var().item(), 4 * x.var().item() * math.sqrt(2 / given.samples)
        exact = float(np.interp(scale, w, law))
        axes.errorbar(scale, found, error, fmt="o", color=colour, capsize=2, markersize=4)
        print(f"{name:24} w {scale}: variance {found:.4f}, law {exact:.4f}")
        expect("within four standard errors and 8 % for the steps", abs(found - exact) < error + 0.08 * exact)
axes.plot(w, 2 / (w + 1), "--", color=INK, linewidth=1, label="the density p_c^w p_u^(1 - w)")
axes.set(xlabel="guidance scale w", ylabel="variance of the samples", yscale="log")
axes.legend()
save(figure, given.out, "variance")
