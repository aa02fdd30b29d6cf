"""Classes are swapped while a pipeline is guided, and swapped back: the one interception that survives model offload.

The pipeline, its denoisers and its helpers get a cached subclass of their own class, of the same name, whose `__call__`
asks who guides it. A replaced `forward` would be dropped when offload removes its hooks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from cfglab.errors import InputError
from cfglab.pipelines.running import Guided

_ACTIVE: "WeakKeyDictionary[Any, Guided]" = WeakKeyDictionary()
_CLASSES: dict[type, type] = {}
_ORIGINAL: dict[type, type] = {}


def check_free(pipe: Any) -> None:
    """Raises InputError for a pipeline that is guided already, by itself or through one that shares its denoiser."""
    guided = next((_ACTIVE[one] for one in (pipe, *_denoisers(pipe)) if one in _ACTIVE), None)
    if guided is None:
        return
    other = "" if guided.pipe is pipe else f" (its denoiser is, as part of a {type(guided.pipe).__name__})"
    raise InputError(
        f"this {type(pipe).__name__} is guided already{other}: one guide() at a time; leave the other one first, or "
        "give it a list with one guidance per image."
    )


def swap(pipe: Any, guided: Guided) -> None:
    """Guide the pipeline from now on."""
    check_free(pipe)
    for one in (pipe, *_components(pipe, guided)):
        _ACTIVE[one] = guided
        object.__setattr__(one, "__class__", _guided_class(type(one)))  # past the __setattr__ of compiled modules


def swap_back(guided: Guided) -> None:
    """Leave everything as it was."""
    for one in [one for one, by in _ACTIVE.items() if by is guided]:
        object.__setattr__(one, "__class__", _ORIGINAL[type(one)])
        del _ACTIVE[one]


def guided_by(pipe: Any) -> Guided | None:
    """What guides this pipeline at the moment."""
    return _ACTIVE.get(pipe)


def _components(pipe: Any, guided: Guided) -> list[nn.Module]:
    names = (*guided.profile.denoisers, *guided.profile.helpers)
    found = (getattr(pipe, name, None) for name in names)
    return list(dict.fromkeys(one for one in found if isinstance(one, nn.Module)))


def _denoisers(pipe: Any) -> list[nn.Module]:
    return [one for one in getattr(pipe, "components", {}).values() if isinstance(one, nn.Module)]


def _guided_class(base: type) -> type:
    """One subclass per class, of the same name: a fresh one each time would recompile compiled models."""
    if base not in _CLASSES:
        members: dict[str, Any] = {"__call__": _module_call(base) if issubclass(base, nn.Module) else _pipe_call(base)}
        members |= {"__reduce_ex__": _reduced(base), "__module__": base.__module__, "__doc__": base.__doc__}
        members["__qualname__"] = base.__qualname__
        if hasattr(base, "cache_context"):
            members["cache_context"] = _noted_context(base)
        _CLASSES[base] = type(base.__name__, (base,), members)
        _ORIGINAL[_CLASSES[base]] = base
    return _CLASSES[base]


def _module_call(base: Any) -> Callable[..., Any]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        plain = base.__call__.__get__(self)
        guided = _ACTIVE.get(self)
        return plain(*args, **kwargs) if guided is None else guided.call_module(plain, self, args, kwargs)

    return call


def _pipe_call(base: Any) -> Callable[..., Any]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        plain = base.__call__.__get__(self)
        guided = _ACTIVE.get(self)
        return plain(*args, **kwargs) if guided is None else guided.call_pipeline(plain, args, kwargs)

    return call


def _reduced(base: Any) -> Callable[..., Any]:
    """Copies and pickles are of the original class: they are not guided."""

    def reduce(self: Any, protocol: Any) -> Any:
        _, _, *rest = base.__reduce_ex__(self, protocol)
        return (object.__new__, (base,), *rest)

    return reduce


def _noted_context(base: Any) -> Callable[..., Any]:
    """`cache_context("cond")` around a call says whose call it is."""

    @contextmanager
    def cache_context(self: Any, name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        guided = _ACTIVE.get(self)
        before = None if guided is None else guided.context
        if guided is not None:
            guided.context = name
        try:
            with base.cache_context(self, name, *args, **kwargs):
                yield
        finally:
            if guided is not None:
                guided.context = before

    return cache_context
