"""Widgets for notebooks, on anywidget: a schedule that is dragged by its knots, and two images in one place.

They need the extra `cfglab[notebook]` and work in JupyterLab, Notebook 7, VS Code, Colab and marimo.
"""

from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.lazy_names import lazy_getattr

if TYPE_CHECKING:
    from cfglab.widgets.curve import Curve as Curve
    from cfglab.widgets.flicker import Flicker as Flicker

__all__ = ["Curve", "Flicker"]

_lookup = lazy_getattr(__name__, {"Curve": "cfglab.widgets.curve", "Flicker": "cfglab.widgets.flicker"})


def __getattr__(name: str) -> Any:
    try:
        return _lookup(name)
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "traitlets"):
            raise
        raise InputError(
            f"widgets.{name} needs anywidget, which is not installed; pip install 'cfglab[notebook]'"
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
