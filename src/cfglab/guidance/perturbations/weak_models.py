"""Weak denoisers by name, for autoguidance. Loads no torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.schedules.fields import nearest

_WEAK: dict[str, Callable[[Any], Any]] = {}


def register_weak_model(name: str, model: Any) -> None:
    """Register a weaker denoiser under a name, as in `autoguidance(w=2, model=name)`.

    Args:
        name: One word of letters, digits and _.
        model: The network itself, called with the arguments of the network it is weaker than and on its device; or a
            function that takes the denoiser in use and returns a network that fits it, loaded when it is first needed.

    Raises:
        InputError: The name cannot be written in text.
    """
    if not name.isidentifier():
        raise InputError(f"weak model {name!r}: its name is one word of letters, digits and _; write twin.")
    _WEAK[name] = model if _is_function(model) else lambda _: model


def weak_models() -> list[str]:
    """The registered names.

    Returns:
        The names in alphabetical order.
    """
    return sorted(_WEAK)


def weak_model(name: str, denoiser: Any) -> Any:
    """The network of a registered name for use beside a denoiser.

    Args:
        name: A registered name.
        denoiser: The denoiser in use.

    Returns:
        The weaker network.

    Raises:
        InputError: The name is not registered; the message lists the known names.
    """
    if name not in _WEAK:
        names = weak_models()
        choices = f"there are {', '.join(names)}" if names else "there are none"
        hint = nearest(name, names) or " register it with register_weak_model(name, model)."
        raise InputError(f"no weak model {name!r}: {choices};{hint}")
    return _WEAK[name](denoiser)


def _is_function(model: Any) -> bool:
    """Whether it makes a network rather than being one: networks are called too, but have parameters."""
    return callable(model) and not hasattr(model, "parameters")


@dataclass(frozen=True)
class WeakModelPass(ConditionalPass):
    """A perturbed pass: the rows run through another network of the same interface.

    Attributes:
        model: Its name in the registry.
    """

    model: str

    def applied(self, denoiser: Any) -> AbstractContextManager[Any]:
        return nullcontext(weak_model(self.model, denoiser))
