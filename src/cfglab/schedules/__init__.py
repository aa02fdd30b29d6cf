"""Schedules: the guidance scale as a value. Loads no torch."""

from cfglab.schedules.base import Schedule
from cfglab.schedules.curves import C2FG, Beta
from cfglab.schedules.match import step_weights
from cfglab.schedules.peers import from_invokeai, from_sd_cpp, to_invokeai, to_sd_cpp
from cfglab.schedules.published import PUBLISHED
from cfglab.schedules.sampled import CFGPlusPlus, CogVideoXShipped
from cfglab.schedules.shapes import Constant, Cosine, Function, Linear, Power, Table
from cfglab.schedules.text import parse
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
