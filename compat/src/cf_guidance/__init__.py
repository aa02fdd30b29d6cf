"""The import name of the notebooks' schedules and transforms, over cfglab."""

__version__ = "0.0.3+cfglab"  # whose names these are
