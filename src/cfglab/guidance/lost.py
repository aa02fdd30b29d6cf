"""Which transform would throw away what another one does. Two such have no meaning together, and are refused."""

from collections.abc import Iterator, Sequence
from itertools import permutations

from cfglab.errors import InputError
from cfglab.guidance.transform import Transform

_PREDICTIONS = {"cond": "conditional", "uncond": "unconditional", "guided": "guided"}


def check_nothing_lost(transforms: Sequence[Transform]) -> None:
    """Refuse transforms of which one would throw away what another one does.

    A prediction that takes the place of another one loses what was done to that one before it. A guided prediction made
    of the two predictions loses every change of the update, before it or behind it.

    Args:
        transforms: The transforms of a guidance, in their order.

    Raises:
        InputError: One of them would be lost.
    """
    acting = [(place, transform) for place, transform in enumerate(transforms) if transform.strength > 0]
    for (place, one), (other_place, other) in permutations(acting, 2):
        before = place < other_place
        if before and (twice := _replaced(one) & _replaced(other)) and ("guided" not in twice or other.strength == 1):
            raise InputError(
                f"{one} and {other}: each puts a prediction of its own in the place of the "
                f"{_PREDICTIONS[min(twice)]} one, so the first would be lost; leave one of them out."
            )
        if before and one.kind == other.kind == "audio_guidance" and other.strength == 1:
            raise InputError(f"{one} and {other}: the sound has one scale, so the first would be lost; leave one out.")
        for what in _lost(one, other, before) if other.strength == 1 else ():
            raise InputError(f"{one} and {other}: {what}")


def _replaced(transform: Transform) -> set[str]:
    if transform.replaces is None:
        return set()
    return {"cond", "uncond"} if transform.replaces == "both" else {transform.replaces}


def _lost(one: Transform, other: Transform, before: bool) -> Iterator[str]:
    """Why the first of two would be lost, and what to do."""
    replaced = _replaced(other)
    if "guided" in replaced and _has(one, "update"):
        yield (
            f"{other.kind} makes the guided prediction from the two predictions and not from their difference, so what "
            f"{one.kind} does to it would be lost; leave one of them out."
        )
    if not other.reads_w and _has(one, "scale") and not _saves_rows(one):
        yield f"{other.kind} reads no scale, so that of {one.kind} would be lost; leave one of them out."
    hooks = {"cond": "conditional", "uncond": "unconditional", "guided": "prediction"}
    for name in sorted(replaced) if before else ():
        if _has(one, hooks[name]) and not (name == "guided" and _saves_rows(one)):
            yield (
                f"{other.kind} puts a prediction of its own in the place of the {_PREDICTIONS[name]} one, so what "
                f"{one.kind} does before it would be lost; write {one.kind} behind {other.kind}, or leave one of them "
                "out."
            )


def _has(transform: Transform, hook: str) -> bool:
    return getattr(type(transform), hook) is not getattr(Transform, hook)


def _saves_rows(transform: Transform) -> bool:
    """Whether it acts by leaving predictions out, which no other transform undoes."""
    return transform.strength == 1 and (_has(transform, "supplies") or _has(transform, "is_zero"))
