"""Published schedules that read the sampler's step: its noise levels, or its timestep."""

import math
from typing import Annotated, Literal

from pydantic import Field

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.schedules.fields import Real, bounded
from cfglab.schedules.schedule import Schedule
from cfglab.step import Step

Share = Annotated[Real, bounded(lambda value: 0 <= value <= 1, "it is between 0 and 1; write lam=0.6, eta=0.")]


class CFGPlusPlus(Schedule):
    """w = lam / (1 - sigma_down / sigma): CFG++ (arXiv:2406.08070) as a schedule of plain guidance.

    CFG++ denoises with `uncond + lam (cond - uncond)`, lam in [0, 1], and renoises with the *unconditional* noise. As
    the noises differ by -1 / sigma times what the denoised images differ by, that step is the plain step with this w:
    `lam * sigma / (sigma - next_sigma)` for `eta=0`. For samplers that add noise, `eta` times the posterior's,
    `sigma_down = next_sigma * sqrt(1 - eta² (1 - next_sigma² / sigma²))` is the level to which the step denoises.

    Exact: DDIM with its eta here, Euler and flow-matching Euler (eta=0), Euler ancestral and DDPM (eta=1), each with
    linear combines: no transforms, no clipping or thresholding in the sampler.
    An approximation: samplers that reuse earlier predictions or evaluate between two levels (LMS, PNDM, DPM-Solver,
    UniPC, KDPM2); their w is that of the Euler step over the same interval, and their own CFG++ differs.
    A call raises InputError for an evaluation at the level where the step ends, as Heun's second one, and for steps
    without sigma.

    Attributes:
        lam: The scale of CFG++, 0 to 1.
        eta: The share of the posterior's noise that the sampler adds, 0 to 1.

    Reference:
        arXiv:2406.08070.

    Examples:
        >>> from cfglab import CFGPlusPlus
        >>> CFGPlusPlus(lam=0.6).values(2, sigmas=[10, 5, 0])
        [1.2, 0.6]
    """

    kind: Literal["cfg_plus_plus"] = Field("cfg_plus_plus", repr=False)
    lam: Share
    eta: Share = 0.0

    def reads_sigma(self) -> bool:
        return True

    def _w(self, step: Step) -> float:
        if step.sigma is None or step.next_sigma is None:
            raise NoNoiseLevel(
                f"{self} at a step without sigma: it follows the run's noise over signal; give sigmas=, one a step."
            )
        if not step.next_sigma < step.sigma:
            raise InputError(
                f"{self} at step {step.index} from sigma {step.sigma:g} to {step.next_sigma:g}: CFG++ is a schedule "
                "only where the noise falls within the step, which a second evaluation does not; sample with ddim or "
                "euler."
            )
        ratio = step.next_sigma / step.sigma
        return self.lam / (1 - ratio * math.sqrt(1 - self.eta**2 * (1 - ratio**2)))


class CogVideoXShipped(Schedule):
    """w = 1 + scale (1 - cos(pi ((N - t) / N)^5)) / 2, t the timestep: CogVideoX's dynamic guidance as it runs.

    That is `use_dynamic_cfg` of the CogVideoX pipelines of diffusers (0.42.1) and of the authors' code. t is 999, 979,
    … where N is the number of steps, so the base leaves [0, 1] and w jumps between 1 and 1 + scale without a
    pattern (diffusers issue 9641). `cogvideox()` is the curve as meant. Kept to reproduce images. A call raises
    InputError for a step without a timestep.

    Attributes:
        scale: The amplitude; w is between 1 and 1 + scale.

    Examples:
        >>> from cfglab import CogVideoXShipped, Step
        >>> CogVideoXShipped(scale=6)(Step(index=0, count=50, timestep=0))
        7.0
    """

    kind: Literal["cogvideox_shipped"] = Field("cogvideox_shipped", repr=False)
    scale: Real = 6.0

    def reads_sigma(self) -> bool:
        return True

    def _w(self, step: Step) -> float:
        if step.timestep is None:
            raise NoNoiseLevel(
                f"{self} at a step without a timestep: it follows the sampler's own; run it in a pipeline, or build "
                "Step(index, count, timestep=…)."
            )
        base = (step.count - step.timestep) / step.count
        return 1 + self.scale * (1 - math.cos(math.pi * base**5.0)) / 2
