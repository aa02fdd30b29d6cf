"""What is measured: pure functions on images and on features, each with its unit and its direction. No torch.

`pictures` (one number an image), `alignment` (what a judge reads back), `sets` (one number for a set of features),
`jackknife` and `byprompt` (their intervals), `registry` (the words).
"""

from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS, Metric

__all__ = ["METRICS", "Estimate", "Metric"]
