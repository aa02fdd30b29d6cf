"""Which code a network runs: functions and classes of known libraries, or other code.

Names can be borrowed (`functools.wraps` copies `__module__`), so a function is looked up by the module of its globals,
and the functions that it wraps are looked up as well."""

import functools
from collections.abc import Callable, Iterator
from enum import Enum
from operator import is_not
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

LIBRARIES = frozenset(
    (
        *("torch", "diffusers", "transformers", "peft", "accelerate", "cfglab", "bitsandbytes", "torchao", "optimum"),
        *("xformers", "huggingface_hub", "safetensors", "typing", "abc", "functools", "builtins", "contextlib"),
    )
)
"""Packages whose layers keep the rows of a batch apart, but for the kinds that `row_mixing` names."""

PIPELINES = "diffusers.pipelines."
"""Attention processors and hooks of diffusers' pipelines are made for one batch: they share, store or edit."""

VOUCHED = "row_independent"
"""A function, or a class about its own methods, says with this attribute that it keeps rows apart."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple, list, dict, set, frozenset, Enum, type, Tensor)
_PLAIN_TYPES: dict[type, bool] = {}
_KLASSES: "WeakKeyDictionary[type, tuple[list[Any], str]]" = WeakKeyDictionary()


def is_plain(kind: type) -> bool:
    """Whether values of a type are data that a network cannot call.

    Args:
        kind: The type.

    Returns:
        True for data.
    """
    plain = _PLAIN_TYPES.get(kind)
    if plain is None:
        plain = issubclass(kind, _PLAIN) or kind is BuiltinFunctionType or not is_called(kind)
        _PLAIN_TYPES[kind] = plain
    return plain


def is_called(kind: type) -> bool:
    """Whether instances of a class can be called.

    Args:
        kind: A class.

    Returns:
        True if a class of its hierarchy has `__call__`.
    """
    return any("__call__" in vars(klass) for klass in kind.__mro__)


def foreign(called: Any) -> str:
    """The name of code that is not a known library's.

    Args:
        called: A function, method or callable object.

    Returns:
        Its name and module; "" if all of it is library code.
    """
    for part in _layers(called):
        if isinstance(part, FunctionType):
            if vars(part).get(VOUCHED) is True:
                continue
            home = str(part.__globals__.get("__name__", ""))
            if not is_library(home):
                return f"{part.__qualname__} of {home or 'a module without a name'}"
        elif not isinstance(part, BuiltinFunctionType) and (name := foreign_class(type(part))):
            return name
    return ""


def foreign_class(kind: type) -> str:
    """The name of a method that is not a known library's, of a class or its parents.

    Args:
        kind: A class.

    Returns:
        Its name and module; "" if all of it is library code.
    """
    for klass in kind.__mro__:
        if klass is object or vars(klass).get(VOUCHED) is True:
            continue
        values = list(vars(klass).values())
        cached = _KLASSES.get(klass)
        if cached is None or len(cached[0]) != len(values) or any(map(is_not, cached[0], values)):
            cached = _KLASSES[klass] = values, _foreign_method(klass)
        if cached[1]:
            return cached[1]
    return ""


def is_library(module: str) -> bool:
    """Whether a module belongs to a known library.

    Args:
        module: A dotted name.

    Returns:
        True if it does.
    """
    return module.partition(".")[0] in LIBRARIES


def home(called: Any) -> str:
    """The module in which code was defined.

    Args:
        called: A function, or an object of a class.

    Returns:
        Its dotted name.
    """
    innermost = (list(_layers(called)) or [called])[-1]
    return (
        str(innermost.__globals__.get("__name__", ""))
        if isinstance(innermost, FunctionType)
        else type(innermost).__module__
    )


def _layers(called: Any) -> Iterator[Any]:
    """What is called in the end, and everything that is wrapped on the way."""
    pending: list[Any] = [called]
    visited: set[int] = set()
    while pending and len(visited) < 50:
        part = pending.pop()
        if isinstance(part, functools.partial):
            pending.append(part.func)
        elif isinstance(part, MethodType) and vars(type(part.__self__)).get(VOUCHED) is True:
            continue  # the class speaks for its methods
        elif isinstance(part, MethodType):
            pending += [part.__func__] if isinstance(part.__func__, FunctionType) else [part.__func__, part.__self__]
            continue
        elif id(part) in visited:
            continue
        else:
            visited.add(id(part))
            yield part
        for name in ("__wrapped__", "_torchdynamo_orig_callable"):
            if (inner := getattr(part, "__dict__", {}).get(name)) is not None:
                pending.append(inner)


def _foreign_method(klass: type) -> str:
    for name, value in list(vars(klass).items()):
        if isinstance(value, property | functools.cached_property):
            value = value.fget if isinstance(value, property) else value.func
        elif isinstance(value, staticmethod | classmethod):
            value = value.__func__
        function = isinstance(value, FunctionType | functools.partial | MethodType)
        called: Callable[..., Any] | None = value if function or name in ("forward", "__call__") else None
        if called is None or isinstance(called, type) or not callable(called):
            continue
        if foreign_name := foreign(called):
            defined_here = getattr(value, "__qualname__", "").startswith(f"{klass.__qualname__}.")
            return f"{klass.__name__} of {klass.__module__}" if defined_here else foreign_name
    return ""


def is_custom_tensor(value: Any) -> bool:
    """Whether a parameter is neither torch's own kind nor a library's, such as a quantized one.

    Args:
        value: The parameter.

    Returns:
        True if it is.
    """
    kind = type(value)
    return kind not in (nn.Parameter, Tensor, type(None)) and not (
        isinstance(value, torch.Tensor) and is_library(kind.__module__)
    )
