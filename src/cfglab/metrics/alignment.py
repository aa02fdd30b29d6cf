"""Whether the image shows what the prompt states: the scene of the prompt beside the scene that a classifier reads."""

from typing import Protocol

from cfglab.scenes.vocabulary import Scene, read_caption

UNORDERED = "next to"


class ReadScene(Protocol):
    """The answer of a classifier for one image; None where it finds no word of the vocabulary."""

    @property
    def a(self) -> str | None: ...
    @property
    def relation(self) -> str | None: ...
    @property
    def b(self) -> str | None: ...
    @property
    def background(self) -> str | None: ...


def alignment(stated: Scene, read: ReadScene) -> dict[str, float]:
    """Score an image against its prompt: 1.0 or 0.0 for each part, and `alignment` for all parts together.

    `alignment` is 1.0 only if the image also has no second object or relation where the prompt states one object. The
    relation `next to` has no order: if either relation is `next to`, the two objects are matched in the better order. A
    background that the prompt does not state is not scored.

    Args:
        stated: the scene of the prompt.
        read: the scene that the classifier reads in the image.

    Returns:
        Values by key: `alignment`, `alignment_a`, and if stated `alignment_b`, `alignment_relation` and
        `alignment_background`.
    """
    first, second = _objects(stated, read)
    parts = {"alignment_a": first == stated.a}
    if stated.relation is not None:
        parts |= {"alignment_b": second == stated.b, "alignment_relation": stated.relation == read.relation}
    if stated.background is not None:
        parts["alignment_background"] = stated.background == read.background
    no_other_object = stated.relation is not None or (read.relation is None and read.b is None)
    return {"alignment": float(no_other_object and all(parts.values()))} | {
        name: float(right) for name, right in parts.items()
    }


def by_composition(stated: Scene, aligned: float) -> dict[str, float]:
    """Return the alignment of a composition once more, under the key of its kind.

    Args:
        stated: the scene of the prompt.
        aligned: its alignment, 0 or 1.

    Returns:
        `{"alignment_unseen": aligned}` for the one in ten compositions of two objects that no training image showed
        (`Scene.held_out`), else `{"alignment_seen": aligned}`; empty for a prompt of one object.
    """
    if stated.relation is None:
        return {}
    return {"alignment_unseen" if stated.held_out else "alignment_seen": aligned}


def prompt_alignment(prompt: str, read: ReadScene) -> dict[str, float]:
    """Return the alignment of a prompt.

    Args:
        prompt: the prompt.
        read: the scene that the classifier reads in the image.

    Returns:
        The values of `alignment`; empty for a prompt that is not a sentence of the vocabulary.
    """
    stated = read_caption(prompt)
    return {} if stated is None else alignment(stated, read)


def _objects(stated: Scene, read: ReadScene) -> tuple[str | None, str | None]:
    """The read objects, in the order in which they are held against the asked ones."""
    straight, swapped = (read.a, read.b), (read.b, read.a)
    if UNORDERED not in (stated.relation, read.relation):
        return straight
    return max((straight, swapped), key=lambda pair: (pair[0] == stated.a) + (pair[1] == stated.b))
