"""Schedules: the guidance scale as a value. Loads no torch."""

from cfglab.schedules.dose import step_weights
from cfglab.schedules.interop import from_invokeai, from_sd_cpp, to_invokeai, to_sd_cpp
from cfglab.schedules.parser import parse
from cfglab.schedules.published.curves import C2FG, Beta
from cfglab.schedules.published.named import PUBLISHED
from cfglab.schedules.published.sampler_aware import CFGPlusPlus, CogVideoXShipped
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Cosine, Function, Linear, Power, Table
from cfglab.schedules.union import SHAPES, AnySchedule, as_schedule

__all__ = [
    "C2FG",
    "PUBLISHED",
    "SHAPES",
    "AnySchedule",
    "Beta",
    "CFGPlusPlus",
    "CogVideoXShipped",
    "Constant",
    "Cosine",
    "Function",
    "Linear",
    "Power",
    "Schedule",
    "Table",
    "as_schedule",
    "from_invokeai",
    "from_sd_cpp",
    "parse",
    "step_weights",
    "to_invokeai",
    "to_sd_cpp",
]
