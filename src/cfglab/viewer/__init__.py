"""A run folder in a browser, while the run works and after it: `cfglab show`. The standard library serves it."""
