"""One denoiser call that is made in another way: seen, or run under a change.

The module's class is swapped for a subclass with another `__call__`, which puts the class back before it does anything
else. So an error inside the call leaves nothing behind, a module compiled in place sees its own class, and offload
hooks, which replace `forward`, are not in the way.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from cfglab.errors import InputError
from cfglab.guidance import Variation

Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_WAITING: dict[int, tuple[type, Call]] = {}
_CLASSES: dict[type, type] = {}
_SAMPLE, _TIMESTEP = ("sample", "hidden_states", "x"), ("timestep", "t")


def instead(denoiser: nn.Module, call: Call) -> None:
    """The next call of `denoiser` is `call(denoiser, args, kwargs)`."""
    release(denoiser)
    original = type(denoiser)
    _WAITING[id(denoiser)] = original, call
    denoiser.__class__ = _waiting(original)


def release(denoiser: nn.Module) -> Call | None:
    """The module as it was, and the call that was waiting, if any."""
    original, call = _WAITING.pop(id(denoiser), (None, None))
    if original is not None:
        denoiser.__class__ = original
    return call


def sample_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the denoiser is given to denoise. Raises InputError."""
    return args[0] if args else kwargs[_name(kwargs, _SAMPLE)]


def varied(module: Any, variation: Variation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call under `variation`; where other arguments are given by place, they stay as they are."""
    given, named = list(args[:2]), dict(kwargs)
    names = [_name(named, one) for one in (_SAMPLE, _TIMESTEP)[len(given) :]]
    sample, timestep = *given, *(named.pop(name) for name in names)
    with variation.applied(module) as changed:
        sample, timestep, others = variation.inputs(sample, timestep, named)
        values = [sample, timestep]
        by_name = dict(zip(names, values[len(given) :], strict=True))
        return changed(*values[: len(given)], *args[2:], **by_name, **others)


def _name(kwargs: dict[str, Any], names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in kwargs), None)
    if found is None:
        raise InputError(
            f"a denoiser called with {', '.join(kwargs) or 'nothing'}: none of these is {' or '.join(names)}; use a "
            "guidance without transforms here."
        )
    return found


def _waiting(base: type) -> type:
    """One subclass per class of denoiser, of the same name."""
    if base not in _CLASSES:

        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = release(self)
            return base.__call__(self, *args, **kwargs) if call is None else call(self, args, kwargs)

        names = {"__call__": __call__, "__module__": base.__module__, "__doc__": base.__doc__}
        _CLASSES[base] = type(base.__name__, (base,), names)
    return _CLASSES[base]
