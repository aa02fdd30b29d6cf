"""Classifier-free guidance as a program and a laboratory. This file is the index: public names, grouped by file.

`import cfglab` loads nothing else: each name is imported when it is first used, so that
help, lists and stored runs cost no torch. It imports nothing at its top, so that the command line can answer Ctrl-C
from its first moment on.
"""

TYPE_CHECKING = False  # as `typing` has it, which takes longer to import than all of this file

__version__ = "0.2.0"

_NAMES: dict[str, tuple[str, ...]] = {
    "errors": ("CfglabError", "DownloadNeeded", "InputError", "MachineError", "NotFinite", "NotMatchable"),
    "step": ("Step", "steps"),
    "schedules": ("Schedule", "Constant", "Linear", "Cosine", "Power", "Table", "Function", "as_schedule", "parse"),
    "schedules.curves": ("curves", "Curves"),
    "schedules.published.skips_and_phases": ("CFGSkip", "Phases"),
    "schedules.published.curves": ("Beta", "C2FG"),
    "schedules.published.sampler_aware": ("CFGPlusPlus", "CogVideoXShipped"),
    "guidance": ("Transform", "Guidance", "Guide", "PredictionNorm", "UpdateNorm", "FullNorm", "parse_guidance"),
    "guidance.parameterization": ("convert",),
    "denoising.step_reader": ("StepReader",),
    "hosts": ("Host", "SigmaSteps"),
    "hosts.levels": ("Levels",),
    "hosts.guided": ("guided", "GuidedDenoiser"),
    "pipelines.model_levels": ("levels",),
    "pipelines.advice.advice": ("advise", "Advice"),
    "pipelines": ("load", "guide", "attach", "detach", "Profile", "Trace", "weights_hash"),
    "pipelines.best_of": ("generate", "Generated"),
    "pipelines.guider.guider": ("to_guider", "Guider"),
    "pipelines.guider.block": ("GuidanceBlock",),
    "pipelines.guider.save": ("save_with_guider",),
    "metrics": ("METRICS", "Metric"),
    "experiments": ("Experiment", "Setting", "Cell", "Store", "Result", "Estimate", "Run", "Comparison", "run"),
    "experiments.execution.reproduce": ("reproduce",),
    "integrations.validation": ("validation", "Validation"),
    "widgets": (),
}
_WHERE = {name: f"cfglab.{module}" for module, names in _NAMES.items() for name in names}
__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    import cfglab.widgets  # noqa: F401
    from cfglab.denoising.step_reader import StepReader as StepReader
    from cfglab.errors import CfglabError as CfglabError
    from cfglab.errors import DownloadNeeded as DownloadNeeded
    from cfglab.errors import InputError as InputError
    from cfglab.errors import MachineError as MachineError
    from cfglab.errors import NotFinite as NotFinite
    from cfglab.errors import NotMatchable as NotMatchable
    from cfglab.experiments import Cell as Cell
    from cfglab.experiments import Comparison as Comparison
    from cfglab.experiments import Estimate as Estimate
    from cfglab.experiments import Experiment as Experiment
    from cfglab.experiments import Result as Result
    from cfglab.experiments import Run as Run
    from cfglab.experiments import Setting as Setting
    from cfglab.experiments import Store as Store
    from cfglab.experiments import run as run
    from cfglab.experiments.execution.reproduce import reproduce as reproduce
    from cfglab.guidance import FullNorm as FullNorm
    from cfglab.guidance import Guidance as Guidance
    from cfglab.guidance import Guide as Guide
    from cfglab.guidance import PredictionNorm as PredictionNorm
    from cfglab.guidance import Transform as Transform
    from cfglab.guidance import UpdateNorm as UpdateNorm
    from cfglab.guidance import parse_guidance as parse_guidance
    from cfglab.guidance.parameterization import convert as convert
    from cfglab.hosts import Host as Host
    from cfglab.hosts import SigmaSteps as SigmaSteps
    from cfglab.hosts.guided import GuidedDenoiser as GuidedDenoiser
    from cfglab.hosts.guided import guided as guided
    from cfglab.hosts.levels import Levels as Levels
    from cfglab.integrations.validation import Validation as Validation
    from cfglab.integrations.validation import validation as validation
    from cfglab.metrics import METRICS as METRICS
    from cfglab.metrics import Metric as Metric
    from cfglab.pipelines import Profile as Profile
    from cfglab.pipelines import Trace as Trace
    from cfglab.pipelines import attach as attach
    from cfglab.pipelines import detach as detach
    from cfglab.pipelines import guide as guide
    from cfglab.pipelines import load as load
    from cfglab.pipelines import weights_hash as weights_hash
    from cfglab.pipelines.advice.advice import Advice as Advice
    from cfglab.pipelines.advice.advice import advise as advise
    from cfglab.pipelines.best_of import Generated as Generated
    from cfglab.pipelines.best_of import generate as generate
    from cfglab.pipelines.guider.block import GuidanceBlock as GuidanceBlock
    from cfglab.pipelines.guider.guider import Guider as Guider
    from cfglab.pipelines.guider.guider import to_guider as to_guider
    from cfglab.pipelines.guider.save import save_with_guider as save_with_guider
    from cfglab.pipelines.model_levels import levels as levels
    from cfglab.schedules import Constant as Constant
    from cfglab.schedules import Cosine as Cosine
    from cfglab.schedules import Function as Function
    from cfglab.schedules import Linear as Linear
    from cfglab.schedules import Power as Power
    from cfglab.schedules import Schedule as Schedule
    from cfglab.schedules import Table as Table
    from cfglab.schedules import as_schedule as as_schedule
    from cfglab.schedules import parse as parse
    from cfglab.schedules.curves import Curves as Curves
    from cfglab.schedules.curves import curves as curves
    from cfglab.schedules.published.curves import C2FG as C2FG
    from cfglab.schedules.published.curves import Beta as Beta
    from cfglab.schedules.published.sampler_aware import CFGPlusPlus as CFGPlusPlus
    from cfglab.schedules.published.sampler_aware import CogVideoXShipped as CogVideoXShipped
    from cfglab.schedules.published.skips_and_phases import CFGSkip as CFGSkip
    from cfglab.schedules.published.skips_and_phases import Phases as Phases
    from cfglab.step import Step as Step
    from cfglab.step import steps as steps

if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> "Any":
    from cfglab.lazy_names import lazy_getattr

    return lazy_getattr(__name__, _WHERE, _NAMES)(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_NAMES})
