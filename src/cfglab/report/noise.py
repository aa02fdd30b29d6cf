"""The noise levels of a Stable Diffusion 1.x run, under the name that the report's modules use."""

from cfglab.experiments.analysis.reference_sigmas import standard_sigmas as standard_sigmas
