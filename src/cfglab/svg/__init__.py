"""Line plots as SVG text, without any plotting library."""

from cfglab.svg.plot import COLOURS, Level, Line, Mark, Shape, path, plot
from cfglab.svg.scale import Axis, log_ticks, ticks

__all__ = ["COLOURS", "Axis", "Level", "Line", "Mark", "Shape", "log_ticks", "path", "plot", "ticks"]
