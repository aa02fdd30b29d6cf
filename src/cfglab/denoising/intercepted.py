"""Calls of a module, seen without changing its class, its `forward` or its hooks.

`nn.Module.__call__` looks for `_compiled_call_impl` on the module: the place where `module.compile()` keeps its result,
and which copies and pickles leave out. While a module is intercepted an `Interception` stands there. It passes every
call on, except one that belongs to the run, or to the awaited call, of the context that calls. A replaced `forward`
would be dropped when offload removes its hooks; a replaced class is not what `type(module)` is compared with.
"""

import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from types import FrameType
from typing import Any

from torch import nn

from cfglab.errors import InputError

NAME = "_compiled_call_impl"
_CALL = nn.Module._wrapped_call_impl.__code__
_LOCK = threading.RLock()

Plain = Callable[..., Any]
Route = Callable[[nn.Module, Plain, FrameType | None, tuple[Any, ...], dict[str, Any]], Any]
"""`route(module, plain, caller, args, kwargs)`: the output of a call of `module`. `plain` is the call as it would be
without interception, `caller` the frame that called the module."""

ROUTE: ContextVar[Route | None] = ContextVar("cfglab_route", default=None)
"""What answers the calls of intercepted modules in this context; None: nothing does."""

NEXT: "ContextVar[Mapping[Interception, Callable[..., Any]]]" = ContextVar("cfglab_next", default={})  # noqa: B039
"""What answers the next call of a module in this context, as `answer(module, args, kwargs)`. Replaced, not changed."""


class Interception:
    """The value of `module._compiled_call_impl` while the module is intercepted. A copy or a pickle of it is None, the
    value of a module that is not compiled."""

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)
        existing = module.__dict__.get(NAME)
        self.compiled_call = None if isinstance(existing, Interception) else existing
        """What `module.compile()` made, if anything."""
        self.users = 0
        self.guards = 0
        """How many of the users change the module during some of its calls: then calls wait for each other."""
        self.turn = threading.RLock()
        """Held during every call while there are guards; who changes the module outside of a call holds it, too."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        module = self._module()
        # replicas and shallow copies share the dictionary of their original: the module that is called is the caller's
        called: Any = frame.f_locals["self"] if frame.f_code is _CALL else module
        plain = self.compiled_call if called is module and self.compiled_call is not None else called._call_impl
        answer = NEXT.get().get(self)
        if answer is not None:
            return answer(called, args, kwargs)
        with self.turn if self.guards else nullcontext():
            route = ROUTE.get()
            if route is None:
                return plain(*args, **kwargs)
            return route(called, plain, frame.f_back, args, kwargs)

    def is_of(self, module: nn.Module) -> bool:
        """Whether this is the interception of a module.

        Args:
            module: The module.

        Returns:
            True if it is.
        """
        return self._module() is module

    def __bool__(self) -> bool:
        """Whether the module itself is compiled: peft asks."""
        return self.compiled_call is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def intercept(module: nn.Module, *, guard: bool = False) -> Interception:
    """Intercept the calls of a module. It ends when `restore` has been called as often as this.

    Args:
        module: The module.
        guard: Whether the module may be changed during its calls; calls then wait for each other.

    Returns:
        The interception.

    Raises:
        InputError: The class of the module does not call through `nn.Module.__call__`.
    """
    _unseen_by_dynamo()
    if not hasattr(type(module), NAME):
        raise InputError(f"a {type(module).__name__} in place of a network: it is not an nn.Module; give the network.")
    with _LOCK:
        interception = module.__dict__.get(NAME)
        if not isinstance(interception, Interception) or not interception.is_of(module):
            interception = Interception(module)
            module.__dict__[NAME] = interception  # past the __setattr__ of compiled modules
        interception.users += 1
        interception.guards += guard
        return interception


def restore(module: nn.Module, interception: Interception, *, guard: bool = False) -> None:
    """Undo one `intercept`. An attribute that was set in its place in the meantime stays.

    Args:
        module: The module.
        interception: The interception.
        guard: As in `intercept`.
    """
    with _LOCK:
        interception.users -= 1
        interception.guards -= guard
        if interception.users == 0 and module.__dict__.get(NAME) is interception:
            if interception.compiled_call is None:
                del module.__dict__[NAME]
            else:
                module.__dict__[NAME] = interception.compiled_call


def is_intercepted_by(module: nn.Module | None, interception: Interception) -> bool:
    """Whether an interception still stands; `module.compile()` replaces it.

    Args:
        module: The module, or None.
        interception: The interception.

    Returns:
        True if it stands.
    """
    return module is not None and module.__dict__.get(NAME) is interception


def _unseen_by_dynamo() -> None:
    """`torch.compile` skips the frame of an interception and compiles what it calls."""
    if not getattr(Interception.__call__, "_torchdynamo_disable", False):
        from torch._dynamo.decorators import skip

        skip(Interception.__call__)
