"""The output of the first of two calls, whose value the second call decides."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from cfglab.errors import InputError

_READS = frozenset(("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__contains__"))
"""Functions of a tensor that give numbers, which cannot be computed again."""


class DeferredPrediction(Tensor):
    """A provisional prediction; what is computed from it before the second call is computed again from the final one.

    A pipeline may convert the first prediction (to x0, to float32, to the frames that are not given) before it makes
    the second call. Every torch function of a deferred tensor is recorded; `settle` runs the same functions again, in
    order, and writes each result into the tensor that the pipeline holds. Then it is a tensor as any other.

    Example:
        >>> prediction = deferred(torch.tensor([1.0]))
        >>> converted = 3 - 2 * prediction
        >>> settle(prediction, torch.tensor([5.0]))
        >>> converted + 0
        tensor([-7.])
    """

    _replay: "_Replay"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a torch function on the plain tensors, and record it until the final value is there.

        Raises:
            InputError: The function gives numbers of a provisional value, or changes a tensor that has another value.
        """
        everything = (args, kwargs or {})
        plain_args, plain_kwargs = tree_map_only(cls, lambda tensor: _plain(tensor), everything)
        replays = [leaf._replay for leaf in tree_flatten(everything)[0] if isinstance(leaf, cls)]
        waiting = next((replay for replay in replays if not replay.done), None)
        if waiting is None:
            return func(*plain_args, **plain_kwargs)
        name = getattr(func, "__name__", "")
        in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
        if name in _READS or (in_place and not isinstance(args[0], cls)):
            raise InputError(
                f"{name}() of the first prediction of a step before the second is made: the pipeline goes by a value "
                "that guidance has not decided yet; it cannot be guided as two calls a step."
            )
        result = func(*plain_args, **plain_kwargs)
        tensors = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        if not tensors:
            return result
        waiting.record(lambda: func(*plain_args, **plain_kwargs), tensors)
        return tree_map_only(Tensor, lambda tensor: _recorded(tensor, waiting), result)


class _Replay:
    """The functions that were run on a provisional value, and the tensors that they gave."""

    def __init__(self) -> None:
        self.done = False
        self._calls: list[tuple[Callable[[], Any], list[Tensor]]] = []

    def record(self, call: Callable[[], Any], results: list[Tensor]) -> None:
        self._calls.append((call, results))

    def run(self) -> None:
        self.done = True
        for call, results in self._calls:
            again = [leaf for leaf in tree_flatten(call())[0] if isinstance(leaf, Tensor)]
            for held, tensor in zip(results, again, strict=True):
                if held.data_ptr() != tensor.data_ptr():  # else a view, or the same tensor
                    held.copy_(tensor)
        self._calls.clear()


def deferred(provisional: Tensor) -> Tensor:
    """A tensor with this value until `settle`.

    Args:
        provisional: Any shape; its storage is taken over.

    Returns:
        A DeferredPrediction. A tensor of a class of its own (distributed, simulated) stays what it is: the final value
        is written into it, and what was computed from it before is not computed again.
    """
    return _recorded(provisional, _Replay()) if type(provisional) is Tensor else provisional


def settle(prediction: Tensor, value: Tensor) -> None:
    """Write the final value, and run again what was computed from the provisional one.

    Args:
        prediction: As `deferred` returned it.
        value: A tensor that fits the last positions of dimension 1, or the whole shape.
    """
    plain = _plain(prediction) if isinstance(prediction, DeferredPrediction) else prediction
    plain[:, -value.shape[1] :].copy_(value) if plain.ndim > 1 else plain.copy_(value)
    if isinstance(prediction, DeferredPrediction):
        prediction._replay.run()


def _recorded(tensor: Tensor, replay: _Replay) -> DeferredPrediction:
    recorded = _plain(tensor).as_subclass(DeferredPrediction)
    recorded._replay = replay
    return recorded


def _plain(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)
