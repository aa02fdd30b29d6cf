"""The names of the parameterizations. A separate file, so that a Guidance is read and written without torch."""

from typing import Any, Literal, get_args

from cfglab.errors import InputError
from cfglab.schedules.fields import nearest, shown

Space = Literal["epsilon", "x0", "v", "flow", "edm", "logits", "model"]
"""What the tensors of predictions mean; "edm": of a network with the preconditioning of EDM; "logits": of the tokens of
a discrete model, normalized by its sampler."""

_ELSEWHERE = {"sample": "x0", "v_prediction": "v", "flow_prediction": "flow", "velocity": "flow", "eps": "epsilon"}
"""What other programs call them."""


def check_space(argument: str, value: Any) -> None:
    """Check the name of a parameterization.

    Args:
        argument: The argument that has it.
        value: The name; None stands for a default.

    Raises:
        InputError: There is no such parameterization.

    Examples:
        >>> check_space("prediction", "v")
    """
    names = get_args(Space)
    if value is not None and not (isinstance(value, str) and value in names):
        elsewhere = _ELSEWHERE.get(value) if isinstance(value, str) else None
        hint = f" write {elsewhere}." if elsewhere else nearest(str(value), names) or " name one of them."
        raise InputError(f"{argument}={shown(value)}: a parameterization is {', '.join(names)};{hint}")
