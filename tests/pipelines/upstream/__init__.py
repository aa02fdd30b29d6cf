"""diffusers' own pipeline tests, of a checkout, with every call made twice: untouched, then under guide().

`python -m tests.pipelines.upstream` runs them in a process of their own, for a checkout has a package `tests` too.
Nothing of this folder but `__main__` is imported from here: the plugin and the hub are found by `PYTHONPATH`.
"""
