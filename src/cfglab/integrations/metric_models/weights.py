"""Weights of the hub, loaded or refused in one line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cfglab.errors import InputError
from cfglab.pipelines.loading.quiet import quiet

T = TypeVar("T")


def load_weights(metric: str, weights: str, load: Callable[[], T]) -> T:
    """Load the weights of a metric model.

    Args:
        metric: The metric, for the message.
        weights: A hub id or folder, for the message.
        load: Loads them.

    Returns:
        What `load` returns.

    Raises:
        InputError: They cannot be loaded; the message has the command that downloads them.
    """
    try:
        with quiet():
            return load()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{metric}: the weights {weights} cannot be loaded ({reason}); with a connection they are downloaded: "
            f"hf download {weights}; or give a folder that holds them, --weights FOLDER."
        ) from error


def identity(name: str, weights: str, model: Any) -> str:
    """The key under which the numbers of a metric model are stored.

    Args:
        name: The metric model.
        weights: Where its weights are from.
        model: The model; a hub model records its commit.

    Returns:
        The key.
    """
    commit = getattr(getattr(model, "config", None), "_commit_hash", None)
    return "|".join((name, weights, *((commit,) if commit else ())))


@contextmanager
def tensors_only() -> Iterator[None]:
    """torch.load reads tensors and unpickles nothing else, whatever a package asks it for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    previous = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ[name]
        else:
            os.environ[name] = previous
