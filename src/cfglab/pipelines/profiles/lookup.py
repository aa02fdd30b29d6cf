"""The profile of a pipeline: that of its class, or of a parent whose `__call__` it shares."""

import inspect
from typing import Any

from cfglab.errors import InputError
from cfglab.pipelines.profiles.profile import Profile
from cfglab.pipelines.profiles.source_check import check_source, read_source
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import REFUSED


def profile_of(pipe: Any) -> Profile:
    """Return the profile of a pipeline: of its class, or of a parent whose `__call__` it shares.

    Args:
        pipe: a diffusers pipeline.

    Raises:
        InputError: if there is no profile; the message gives the reason and how to pass one.
    """
    kind = type(pipe)
    table = profiles()
    for parent in kind.__mro__:
        if parent.__name__ in table and _same_call(kind, parent) and parent.__module__.startswith("diffusers."):
            check_source(parent, table[parent.__name__])
            return table[parent.__name__]
    raise InputError(f"{kind.__name__} cannot be guided: {_reason(kind, REFUSED)}")


def _same_call(kind: type, parent: type) -> bool:
    return inspect.unwrap(kind.__call__) is inspect.unwrap(parent.__call__)


def _reason(kind: type, refused: dict[str, str]) -> str:
    for parent in kind.__mro__:
        if parent.__name__ in refused:
            return refused[parent.__name__]
    if not hasattr(kind, "from_pretrained"):
        return "it is no diffusers pipeline; give what DiffusionPipeline.from_pretrained(...) returns."
    return (
        f"its layout is not in cfglab's table, and {read_source(kind).description}; if you know it, pass "
        f"guide(pipe, guidance, profile=Profile(...)), and compare with the untouched pipeline once."
    )
