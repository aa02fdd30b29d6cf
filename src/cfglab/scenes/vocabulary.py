"""The world of `scenes`: its objects, relations and backgrounds, and the captions that name them.

A scene is one object, or two in a relation, on a background. Captions are made from scenes and read back into
scenes by one small grammar, so the content of a prompt is known exactly.
"""

import hashlib
import itertools
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

OBJECTS: tuple[str, ...] = (
    *("astronaut", "horse", "rocket", "apple", "cat", "dog", "tree", "house"),
    *("car", "sun", "moon", "star", "balloon", "fish", "rose", "banana"),
    *("mushroom", "frog", "chick", "butterfly", "cake", "turtle", "elephant", "ufo"),
)
RELATIONS: tuple[str, ...] = ("riding", "next to", "above")
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 244),
    "blue": (140, 190, 245),
    "green": (150, 215, 150),
    "pink": (250, 180, 205),
    "yellow": (250, 230, 130),
    "purple": (190, 160, 230),
}
PREFIXES: tuple[str, ...] = ("a photograph of", "an image of", "a drawing of")
HELD_OUT_ONE_IN = 10

Relation = Literal["riding", "next to", "above"]


class Scene(BaseModel):
    """The content of an image.

    Attributes:
        a: The first object, one of OBJECTS.
        relation: One of RELATIONS; None with one object.
        b: The second object; None with one object.
        background: One of BACKGROUNDS; None if it is not stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: str
    relation: Relation | None = None
    b: str | None = None
    background: str | None = None

    @property
    def triple(self) -> tuple[str, str | None, str | None]:
        """(object, relation, object); `next to` has no order, so its two objects are sorted."""
        if self.relation == "next to" and self.b is not None:
            smaller, larger = sorted((self.a, self.b))
            return smaller, self.relation, larger
        return self.a, self.relation, self.b

    @property
    def held_out(self) -> bool:
        """True for the one in ten two-object triples that no training scene shows."""
        if self.relation is None:
            return False
        digest = hashlib.sha256("|".join(str(part) for part in self.triple).encode()).digest()
        return digest[0] % HELD_OUT_ONE_IN == 0


def _article(noun: str) -> str:
    vowel = noun[0] in "aeiou" and not noun.startswith("ufo")
    return f"{'an' if vowel else 'a'} {noun}"


def caption(scene: Scene, prefix: str = "a photograph of") -> str:
    """The sentence of a scene.

    Args:
        scene: The scene.
        prefix: Its beginning, one of PREFIXES.

    Returns:
        The prompt.

    Examples:
        >>> caption(Scene(a="astronaut", relation="riding", b="horse", background="green"))
        'a photograph of an astronaut riding a horse on a green background'
    """
    parts = [prefix, _article(scene.a)]
    if scene.relation is not None and scene.b is not None:
        parts += [scene.relation, _article(scene.b)]
    if scene.background is not None:
        parts += ["on", _article(scene.background), "background"]
    return " ".join(part for part in parts if part)


_ANY_OBJECT = "|".join(OBJECTS)
_GRAMMAR = re.compile(
    rf"\b(?:an?|the) (?P<a>{_ANY_OBJECT})"
    rf"(?: (?P<relation>{'|'.join(RELATIONS)}) (?:an?|the) (?P<b>{_ANY_OBJECT}))?"
    rf"(?: on an? (?P<background>{'|'.join(BACKGROUNDS)}) background)?\s*\.?$"
)


def read_caption(prompt: str) -> Scene | None:
    """The scene of a prompt.

    Args:
        prompt: Any text.

    Returns:
        The scene; None if the prompt does not end in a sentence of this world.

    Examples:
        >>> read_caption("a photograph of a cat riding a dog").triple
        ('cat', 'riding', 'dog')
    """
    match = _GRAMMAR.search(" ".join(prompt.lower().split()))
    return Scene(**match.groupdict()) if match else None


def triples(relations: tuple[str | None, ...] = (None, *RELATIONS)) -> list[Scene]:
    """Every scene without a background, in a fixed order; the objects of a pair differ.

    Args:
        relations: The relations; None for single objects.

    Returns:
        The scenes.
    """
    scenes = []
    for relation in relations:
        if relation is None:
            scenes += [Scene(a=a) for a in OBJECTS]
        else:
            scenes += [
                Scene.model_validate({"a": a, "relation": relation, "b": b})
                for a, b in itertools.permutations(OBJECTS, 2)
            ]
    return scenes
