"""The results of a run as the report reads them."""

from dataclasses import dataclass

import numpy as np

from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.storage.arrays import ResultArrays


@dataclass(frozen=True, slots=True)
class Columns(ResultArrays):
    """The ResultArrays of a run, with each metric as comparisons read it."""

    def of(self, metric: str) -> Scores:
        """Return one metric, without the settings that have no result."""
        recorded = np.atleast_1d((self.done | self.failed).any(axis=(1, 2)))
        return Scores.from_arrays(self, metric, np.flatnonzero(recorded))
