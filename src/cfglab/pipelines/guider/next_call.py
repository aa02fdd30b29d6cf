"""One denoiser call that is replaced: recorded, or run under a perturbation.

The module is intercepted for one call of the context that asked for it, and released before anything else runs. So an
error inside the call leaves nothing behind, a module compiled in place stays compiled, offload hooks, which replace
`forward`, still work, and a call from another thread is not affected."""

from collections.abc import Callable
from typing import Any

from torch import nn

from cfglab.denoising import intercepted
from cfglab.errors import InputError
from cfglab.guidance import Perturbation

Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_SAMPLE, _TIMESTEP = ("sample", "hidden_states", "x"), ("timestep", "t")


class _PendingCall:
    """The answer to the next call, and how to take the interception back."""

    def __init__(self, denoiser: nn.Module, call: Call) -> None:
        self.call = call
        self.interception = intercepted.intercept(denoiser)

    def __call__(self, denoiser: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        restore_call(denoiser)
        return self.call(denoiser, args, kwargs)


def replace_next_call(denoiser: nn.Module, call: Call) -> None:
    """Replace the next call of a module in this context.

    Args:
        denoiser: The module.
        call: `call(denoiser, args, kwargs)` returns the output.
    """
    restore_call(denoiser)
    awaited = _PendingCall(denoiser, call)
    intercepted.NEXT.set({**intercepted.NEXT.get(), awaited.interception: awaited})


def restore_call(denoiser: nn.Module) -> Call | None:
    """Remove the replacement of the next call.

    Args:
        denoiser: The module.

    Returns:
        The replacement; None if there was none.
    """
    waiting = dict(intercepted.NEXT.get())
    interception = next((key for key in waiting if key.is_of(denoiser)), None)
    if interception is None:
        return None
    awaited: Any = waiting.pop(interception)
    intercepted.NEXT.set(waiting)
    intercepted.restore(denoiser, interception)
    return awaited.call


def sample_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The sample among a denoiser's arguments.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        The sample.

    Raises:
        InputError: No argument has the name of a sample.
    """
    return args[0] if args else kwargs[_argument_name(kwargs, _SAMPLE)]


def perturbed_call(module: Any, variation: Perturbation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A denoiser call under a perturbation.

    Args:
        module: The denoiser.
        variation: The perturbed pass.
        args: Positional arguments; the sample and the timestep are the first two.
        kwargs: Keyword arguments.

    Returns:
        The output.

    Raises:
        InputError: The sample or the timestep is not found.
    """
    positional, keywords = list(args[:2]), dict(kwargs)
    names = [_argument_name(keywords, choices) for choices in (_SAMPLE, _TIMESTEP)[len(positional) :]]
    sample, timestep = *positional, *(keywords.pop(name) for name in names)
    with variation.applied(module) as network:
        sample, timestep, arguments = variation.inputs(sample, timestep, keywords)
        values = [sample, timestep]
        by_name = dict(zip(names, values[len(positional) :], strict=True))
        return network(*values[: len(positional)], *args[2:], **by_name, **arguments)


def _argument_name(kwargs: dict[str, Any], names: tuple[str, ...]) -> str:
    name_found = next((name for name in names if name in kwargs), None)
    if name_found is None:
        raise InputError(
            f"a denoiser called with {', '.join(kwargs) or 'nothing'}: none of these is {' or '.join(names)}; use a "
            "guidance without transforms here."
        )
    return name_found
