"""Does the image show what the prompt asked for? The asked scene beside what a judge read back."""

from typing import Protocol

from cfglab.scenes.vocabulary import Scene, read_caption

UNORDERED = "next to"


class ReadScene(Protocol):
    """A judge's answer for one image; None where it sees none of the world's words."""

    @property
    def a(self) -> str | None: ...
    @property
    def relation(self) -> str | None: ...
    @property
    def b(self) -> str | None: ...
    @property
    def background(self) -> str | None: ...


def alignment(asked: Scene, read: ReadScene) -> dict[str, float]:
    """Score an image against its prompt: 1.0 or 0.0 for each part, and `alignment` for all parts together.

    `alignment` is 1.0 only if the image also has no second object or relation where the prompt states one object. The
    relation `next to` has no order: if either relation is `next to`, the two objects are matched in the better order. A
    background that the prompt does not state is not scored.

    Args:
        asked: the scene of the prompt.
        read: the scene that the classifier reads in the image.

    Returns:
        Values by key: `alignment`, `alignment_a`, and if stated `alignment_b`, `alignment_relation` and
        `alignment_background`.
    """
    first, second = _objects(asked, read)
    parts = {"alignment_a": first == asked.a}
    if asked.relation is not None:
        parts |= {"alignment_b": second == asked.b, "alignment_relation": asked.relation == read.relation}
    if asked.background is not None:
        parts["alignment_background"] = asked.background == read.background
    alone = asked.relation is not None or (read.relation is None and read.b is None)
    return {"alignment": float(alone and all(parts.values()))} | {name: float(right) for name, right in parts.items()}


def by_composition(asked: Scene, aligned: float) -> dict[str, float]:
    """The alignment of a composition of two objects once more, under `alignment_seen` or `alignment_unseen`.

    Unseen are the one in ten compositions that no training image showed (`Scene.held_out`). A prompt of one object
    is no composition: empty.
    """
    if asked.relation is None:
        return {}
    return {"alignment_unseen" if asked.held_out else "alignment_seen": aligned}


def prompt_alignment(prompt: str, read: ReadScene) -> dict[str, float]:
    """`alignment` of a prompt's scene; empty for a prompt that is no sentence of this world (nothing to judge)."""
    asked = read_caption(prompt)
    return {} if asked is None else alignment(asked, read)


def _objects(asked: Scene, read: ReadScene) -> tuple[str | None, str | None]:
    """The read objects, in the order in which they are held against the asked ones."""
    straight, swapped = (read.a, read.b), (read.b, read.a)
    if UNORDERED not in (asked.relation, read.relation):
        return straight
    return max((straight, swapped), key=lambda pair: (pair[0] == asked.a) + (pair[1] == asked.b))
