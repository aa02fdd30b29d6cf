"""Experiments: what to generate (spec), running it (execution), the run folder (storage), comparing (analysis).

Reading a run folder loads no torch.
"""

from typing import TYPE_CHECKING

from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.results import Result
from cfglab.experiments.storage.store import Store
from cfglab.lazy_names import lazy_getattr
from cfglab.metrics.estimate import Estimate

if TYPE_CHECKING:
    from cfglab.experiments.analysis.compare import Comparison
    from cfglab.experiments.execution.run import Run, run

__all__ = ["Cell", "Comparison", "Estimate", "Experiment", "Result", "Run", "Setting", "Store", "run"]

_LAZY = {
    "Comparison": "cfglab.experiments.analysis.compare",
    "Run": "cfglab.experiments.execution.run",
    "run": "cfglab.experiments.execution.run",
}
__getattr__ = lazy_getattr(__name__, _LAZY)
