"""The contracts of a transform that need no torch, checked when a class of another package enters its name."""

from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import registry
from cfglab.schedules.contracts import check_frozen, check_value, first_example, numbers_changed, refused_by_name


def check_transform_kind(kind: Any) -> None:
    """Refuse a class that breaks a contract of transforms, by the name of the contract. Loads no torch.

    Args:
        kind: A subclass of Transform whose name is entered.

    Raises:
        InputError: A contract is broken.
        NotReadyError: The module of the class does not yet define all that the class uses.
    """
    with refused_by_name(kind, "transform") as owner:
        check_frozen(kind, owner)
        names = {entered.__name__: entered for entered in registry.TRANSFORMS.entered()} | {kind.__name__: kind}
        example = first_example(kind, owner)
        for transform in (example, *numbers_changed(example)):
            check_value(transform, owner, registry.read, names)
        _check_strength(example, owner)


def _check_strength(transform: Any, owner: str) -> None:
    """Strength 0 is plain CFG: a Guide leaves a transform of strength 0 out, so it must stay 0, and is 1 at most."""
    fields = {name: getattr(transform, name) for name in type(transform).model_fields if name != "kind"}
    try:
        strength = type(transform)(**fields | {"strength": 0}).strength
    except InputError as error:
        raise InputError(f"{owner} breaks the contract that strength 0 is plain CFG: it refuses it ({error})") from None
    if strength != 0:
        raise InputError(f"{owner} breaks the contract that strength 0 is plain CFG: it becomes {strength}; keep it 0.")
    for value in (-0.5, 2.0):
        try:
            type(transform)(**fields | {"strength": value})
        except InputError:
            continue
        raise InputError(
            f"{owner} breaks the contract that strength is 0 to 1: it takes {value}; leave the field as it is."
        )
