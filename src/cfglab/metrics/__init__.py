"""What is measured: pure functions on images and on features, each with its unit and its direction. No torch.

`images` (one number an image), `sets` (one number for a set of features), `jackknife` and `byprompt` (their intervals),
`registry` (names, units, directions). What a classifier finds in an image is held against its prompt in
`cfglab.scenes.alignment`.
"""

from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS, Metric

__all__ = ["METRICS", "Estimate", "Metric"]
