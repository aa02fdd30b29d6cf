"""The import name of the notebooks' small Stable Diffusion loop and its plots, over cfglab."""

__version__ = "0.0.3+cfglab"  # whose names these are
