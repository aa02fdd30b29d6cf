"""Schedules: the guidance scale as a value. Loads no torch."""

from cfglab.schedules import algebra, dose  # noqa: F401 (they enter the composites)
from cfglab.schedules.coercion import as_schedule
from cfglab.schedules.interop import from_dynthres, from_invokeai, from_sd_cpp, to_invokeai, to_sd_cpp
from cfglab.schedules.parser import parse
from cfglab.schedules.published.curves import C2FG, Beta
from cfglab.schedules.published.named import constructor
from cfglab.schedules.published.sampler_aware import CFGPlusPlus, CogVideoXShipped
from cfglab.schedules.published.skips_and_phases import CFGSkip, Phases
from cfglab.schedules.registry import PUBLISHED, SHAPES
from cfglab.schedules.schedule import AnySchedule, Schedule
from cfglab.schedules.shapes import Constant, Cosine, Function, Linear, Power, Table
from cfglab.step import step_weights

__all__ = [
    "C2FG",
    "PUBLISHED",
    "SHAPES",
    "AnySchedule",
    "Beta",
    "CFGPlusPlus",
    "CFGSkip",
    "CogVideoXShipped",
    "Constant",
    "Cosine",
    "Function",
    "Linear",
    "Phases",
    "Power",
    "Schedule",
    "Table",
    "as_schedule",
    "constructor",
    "from_dynthres",
    "from_invokeai",
    "from_sd_cpp",
    "parse",
    "step_weights",
    "to_invokeai",
    "to_sd_cpp",
]
