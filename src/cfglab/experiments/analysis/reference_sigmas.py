"""The noise levels of a Stable Diffusion 1.x run, for doses where a run stores none. Loads no torch."""

import numpy as np


def standard_sigmas(count: int) -> list[float]:
    """The count + 1 noise levels (sigma, noise over signal) of a run of `count` steps; the last one is 0.

    Scaled-linear betas 0.00085 to 0.012 over 1,000 training steps (Rombach et al., arXiv 2112.10752, and its
    published configuration), sampled at timesteps evenly spaced from 999 to 0, as the LMS and Euler samplers do.
    """
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas_cumprod = np.cumprod(1 - betas)
    sigmas = np.sqrt((1 - alphas_cumprod) / alphas_cumprod)
    timesteps = np.linspace(999, 0, count)
    return [*np.interp(timesteps, np.arange(1000), sigmas).tolist(), 0.0]
