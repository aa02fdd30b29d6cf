"""For programs that run their own sampling loop: the steps of a list of sigmas, and what a host can do.

A host reads the Step of a call with `SigmaSteps.at`, refuses by name what it cannot run with `Host.check`, and combines
the predictions with `cfglab.denoising.row_skipping.GuidedRows`, or with one Guide where all images share a guidance.
"""

from cfglab.hosts.capabilities import Host
from cfglab.hosts.sigma_steps import SigmaSteps

__all__ = ["Host", "SigmaSteps"]
