"""Whether the image shows what the prompt states: the scene of the prompt beside the labels of a classifier."""

from cfglab.scenes.vocabulary import UNORDERED, Scene, SceneLabels, read_caption

ARRANGED = {"riding": ("riding",), "above": ("above",), "next to": ("beside",)}
"""Relation -> the arrangements that show it; `and` is shown by any."""


def alignment(stated: Scene, found: SceneLabels) -> dict[str, float]:
    """Score an image against its prompt: 1.0 or 0.0 for each part, and `alignment` for all parts together.

    `alignment` is 1.0 only if every object is whole, and nothing is there that the prompt does not state: a second
    object, or more of the first. `next to` and `and` have no order, and neither have two objects that are side by side
    or apart: the two objects are then matched in the better order. A background or a colour that the prompt does not
    state is not scored.

    Args:
        stated: the scene of the prompt.
        found: what the classifier found in the image.

    Returns:
        Values by key: `alignment`, `alignment_whole`, `alignment_a`, and if stated `alignment_b`,
        `alignment_relation`, `alignment_count`, `alignment_colours` and `alignment_background`.

    Examples:
        >>> found = SceneLabels(whole=True, a="car", colour_a="blue", count=1)
        >>> alignment(Scene("car", colour_a="red"), found)
        {'alignment': 0.0, 'alignment_whole': 1.0, 'alignment_a': 1.0, 'alignment_colours': 0.0}
    """
    (first, second), expected = _objects(stated, found), (stated.a, stated.b)
    parts = {"alignment_whole": found.whole, "alignment_a": first[0] == stated.a}
    alone = found.b is None and found.count == stated.count
    if stated.relation is not None:
        shown = found.arranged is not None and found.arranged in ARRANGED.get(stated.relation, (found.arranged,))
        parts |= {"alignment_b": second[0] == stated.b, "alignment_relation": shown}
    if stated.count > 1:
        parts["alignment_count"] = alone
    colours = [(stated.colour_a, first, expected[0]), (stated.colour_b, second, expected[1])]
    if any(colour is not None for colour, *_ in colours):
        parts["alignment_colours"] = all(colour is None or seen == (name, colour) for colour, seen, name in colours)
    if stated.background is not None:
        parts["alignment_background"] = stated.background == found.background
    return {"alignment": float((alone or stated.relation is not None) and all(parts.values()))} | {
        name: float(right) for name, right in parts.items()
    }


def by_composition(stated: Scene, aligned: float) -> dict[str, float]:
    """Return the alignment of a composition once more, under the key of its kind.

    Args:
        stated: the scene of the prompt.
        aligned: its alignment, 0 or 1.

    Returns:
        `{"alignment_unseen": aligned}` for what no training image showed (`Scene.held_out`): one in ten compositions of
        two objects, of two coloured objects, and of an object in a number; else `{"alignment_seen": aligned}`. Empty
        for a prompt of one object.
    """
    if stated.relation is None and stated.count == 1:
        return {}
    return {"alignment_unseen" if stated.held_out else "alignment_seen": aligned}


def prompt_alignment(prompt: str, found: SceneLabels) -> dict[str, float]:
    """Return the alignment of a prompt.

    Args:
        prompt: the prompt.
        found: what the classifier found in the image.

    Returns:
        The values of `alignment`; empty for a prompt that is not a sentence of the vocabulary.
    """
    stated = read_caption(prompt)
    return {} if stated is None else alignment(stated, found)


_Object = tuple[str | None, str | None]


def _objects(stated: Scene, found: SceneLabels) -> tuple[_Object, _Object]:
    """The objects that were found, with their colours, in the order in which they are held against the stated ones."""
    first, second = (found.a, found.colour_a), (found.b, found.colour_b)
    if stated.relation not in UNORDERED and found.arranged not in ("beside", "apart"):
        return first, second

    def fit(pair: tuple[_Object, _Object]) -> tuple[int, int]:
        asked = ((stated.a, stated.colour_a), (stated.b, stated.colour_b))
        named = sum(seen[0] == one[0] for seen, one in zip(pair, asked, strict=True))
        return named, sum(seen == one for seen, one in zip(pair, asked, strict=True))

    return max(((first, second), (second, first)), key=fit)
