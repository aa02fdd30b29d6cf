"""Names of a package that are imported when they are first used."""

import sys
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any


def lazy_getattr(package: str, modules: Mapping[str, str], submodules: Collection[str] = ()) -> Callable[[str], Any]:
    """A `__getattr__` for a package.

    Args:
        package: the name of the package, its `__name__`.
        modules: name -> dotted name of the module that defines it.
        submodules: modules of the package that are imported as its attributes.

    Returns:
        A function that imports a name and keeps it in the package. It raises AttributeError for any other name, with
        the closest one.
    """

    def getattr_(name: str) -> Any:
        if name in modules:
            value = getattr(import_module(modules[name]), name)
        elif name in submodules:
            value = import_module(f"{package}.{name}")
        else:
            public = sys.modules[package].__all__
            closest = get_close_matches(name, public, n=1)
            hint = f"did you mean {closest[0]}?" if closest else f"its public names are in {package}.__all__."
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {hint}")
        setattr(sys.modules[package], name, value)
        return value

    return getattr_
