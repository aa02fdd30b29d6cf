"""Networks inside modules that only pass calls on: compiled modules, DataParallel, DDP, FSDP, adapters."""

import inspect
from functools import cache
from typing import Any

from torch import nn

_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "module", "base_model", "model")


def core_of(module: Any) -> Any:
    """The network inside its wrappers (torch.compile, DataParallel, FSDP, adapters).

    Args:
        module: A module.

    Returns:
        The first module, from outside to inside, whose `forward` names its arguments.
    """
    while not names_of(module.__class__):
        parts = getattr(module, "_modules", {})
        inner = next((parts[name] for name in _INSIDE if isinstance(parts.get(name), nn.Module)), None)
        if inner is None and len(parts) == 1:
            inner = next(iter(parts.values()))
        if inner is None:
            break
        module = inner
    return module


@cache
def names_of(kind: Any) -> tuple[str, ...]:
    """The arguments of a class's `forward` that can be given by name.

    Args:
        kind: The class.

    Returns:
        The names; empty if it takes `*args` and `**kwargs` only.
    """
    try:
        parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    except (AttributeError, TypeError, ValueError):
        return ()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(parameter.name for parameter in parameters if parameter.kind not in variadic)
