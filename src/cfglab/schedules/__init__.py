"""Schedules: the guidance scale as a value. Loads no torch."""

from cfglab.schedules.base import Schedule
from cfglab.schedules.match import step_weights
from cfglab.schedules.shapes import Constant, Cosine, Function, Linear, Power, Table
from cfglab.schedules.text import parse
from cfglab.schedules.union import SHAPES, AnySchedule, as_schedule

__all__ = [
    "SHAPES",
    "AnySchedule",
    "Constant",
    "Cosine",
    "Function",
    "Linear",
    "Power",
    "Schedule",
    "Table",
    "as_schedule",
    "parse",
    "step_weights",
]
