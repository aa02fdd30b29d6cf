"""Which code called a network: the loop of the guided pipeline, or other code.

Any code with a reference to a network can call it while its pipeline runs: a callback, a hook, a scheduler, another
pipeline that shares it, another thread. Only the calls of the pipeline's own code are guided."""

import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

from torch import nn

_BETWEEN = ("torch", "accelerate", "contextlib", "cfglab.denoising.intercepted")
"""Packages whose frames may stand between a loop and its network: decorators and compiled modules."""


class Callers:
    """The code of one pipeline, as against that of the callables which one call of it was given."""

    def __init__(self, pipe: Any, arguments: dict[str, Any], entry: CodeType) -> None:
        self._pipe, self._entry = pipe, entry
        self._classes = [kind for kind in type(pipe).__mro__ if kind is not object]
        self._modules = {kind.__module__ for kind in self._classes}
        self._bodies = tuple(f"{kind.__qualname__}." for kind in self._classes)
        self._argument_code = {
            id(code) for value in arguments.values() for code in _codes(value)
        }  # hashing code is slow

    def is_pipeline_call(self, frame: FrameType | None) -> bool:
        """Whether a network was called by the loop of the pipeline call under way.

        The caller is a method of this pipeline, or a function of its module. No callable from the arguments and no call
        of another module stands between it and the entry of the call.

        Args:
            frame: The frame that called the network.

        Returns:
            True if the call is guided.
        """
        loop = False
        while frame is not None:
            code = frame.f_code
            if code is self._entry:
                return loop
            if id(code) in self._argument_code:
                return False
            module = frame.f_globals.get("__name__", "")
            if module.partition(".")[0] in _BETWEEN or module in _BETWEEN:
                if module == "torch.nn.modules.module":
                    return False  # inside another module's call: a hook, or a part of it
            elif not loop:
                loop = self._is_method(frame)
                if not loop and not self._is_function(code, module):
                    return False
            frame = frame.f_back
        return False  # another thread than the one that entered the call

    def _is_method(self, frame: FrameType) -> bool:
        """A method of this very pipeline, or a function beside its class whose first argument the pipeline is."""
        beside = frame.f_globals.get("__name__") in self._modules
        return (beside or id(frame.f_code) in self._methods) and _first_argument(frame) is self._pipe

    def _is_function(self, code: CodeType, module: str) -> bool:
        """A function inside a method, or one that stands beside the class: who called it decides."""
        inside = any(
            code.co_qualname.startswith(body) and "<locals>" in code.co_qualname.removeprefix(body)
            for body in self._bodies
        )
        return module in self._modules and (inside or code.co_qualname == code.co_name)

    @functools.cached_property
    def _methods(self) -> set[int]:
        """The code of methods that were put on the class, or on the pipeline, from elsewhere."""
        members = [vars(kind) for kind in self._classes] + [vars(self._pipe)]
        return {id(code) for member in members for value in list(member.values()) for code in _codes(value)}


def _first_argument(frame: FrameType) -> Any:
    """The first argument of a frame's function."""
    code, local = frame.f_code, frame.f_locals
    if code.co_argcount:
        return local.get(code.co_varnames[0])
    if code.co_flags & inspect.CO_VARARGS:
        positional = local.get(code.co_varnames[code.co_kwonlyargcount])
        return positional[0] if isinstance(positional, tuple) and positional else None
    return None


def _codes(value: Any) -> Iterator[CodeType]:
    """The code of a callable, of what it wraps, and of the callables in a list; of networks and classes none."""
    if isinstance(value, list | tuple):
        yield from (code for item in value for code in _codes(item))
    elif isinstance(value, dict):
        yield from (code for item in value.values() for code in _codes(item))
    elif isinstance(value, functools.partial):
        yield from _codes(value.func)
    elif isinstance(value, property):
        yield from _codes(value.fget)
    elif isinstance(value, staticmethod | classmethod):
        yield from _codes(value.__func__)
    elif isinstance(value, FunctionType):
        yield value.__code__
        if hasattr(value, "__wrapped__"):
            yield from _codes(value.__wrapped__)
    elif inspect.ismethod(value):
        yield from _codes(value.__func__)
    elif callable(value) and not isinstance(value, type | nn.Module) and not hasattr(value, "components"):
        call = type(value).__call__
        if isinstance(call, FunctionType):
            yield from _codes(call)


def function_of(frame: FrameType | None) -> str:
    """The function that made a call.

    Args:
        frame: Its frame; None for another thread.

    Returns:
        Its full name.
    """
    return "another thread" if frame is None else f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"
