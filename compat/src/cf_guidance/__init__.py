"""The import name of the notebooks' schedules and transforms, over cfglab."""
