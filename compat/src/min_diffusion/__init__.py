"""The import name of the notebooks' small Stable Diffusion loop and its plots, over cfglab."""
