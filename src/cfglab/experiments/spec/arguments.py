"""Further arguments of a pipeline's call, as experiments and cells state them. Loads no torch."""

from collections.abc import Collection, Mapping
from typing import Annotated, TypeAlias

from pydantic import Field

from cfglab.errors import InputError
from cfglab.schedules.fields import nearest, shown

_Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,60}$")]
_Scalar: TypeAlias = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1000)]
    | None
)
Arguments: TypeAlias = Annotated[
    dict[_Name, _Scalar | Annotated[list[_Scalar], Field(max_length=64)]], Field(max_length=16)
]
"""Name -> a number, text, true, false, null, or a list of these."""


def check_arguments(arguments: Mapping[str, object], parameters: Collection[str], own: Collection[str]) -> None:
    """Check that a pipeline has these arguments and that they are not set in another way.

    Args:
        arguments: the further arguments of an experiment.
        parameters: the parameters of the pipeline's call.
        own: those that a run sets itself.

    Raises:
        InputError: if one is unknown, or is set by the run.
    """
    for name in arguments:
        if name in own:
            raise InputError(f"arguments: {name} is set by the experiment or its guidance; leave it out.")
        if name not in parameters:
            hint = nearest(name, parameters) or " leave it out."
            raise InputError(f"arguments: the pipeline has no {shown(name)};{hint}")
