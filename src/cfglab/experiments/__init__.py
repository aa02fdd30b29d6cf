"""Experiments: what to draw (spec), where it is kept (store), drawing it (run), comparing. Reading loads no torch."""

from cfglab.experiments.cell import Cell as Cell
from cfglab.experiments.compare import Comparison as Comparison
from cfglab.experiments.run import Run as Run
from cfglab.experiments.spec import Experiment as Experiment
from cfglab.experiments.spec import Setting as Setting
from cfglab.experiments.store import Estimate as Estimate
from cfglab.experiments.store import Result as Result
from cfglab.experiments.store import Store as Store
