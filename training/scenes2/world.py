"""The world of the second edition: 32 objects, colours, counts, relations and backgrounds, and captions for them.

A scene is one object, two or three of one kind, or two objects in a relation, on a background. These are the six
kinds of GenEval (2310.11513): one object, two objects, counting, colours, position, colour of each of two. Every
prompt of the first edition is a prompt of this one. Pure Python: a training machine needs nothing but torch.
"""

import hashlib
import itertools
import re
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import ClassVar

OBJECTS: tuple[str, ...] = (
    *("astronaut", "horse", "rocket", "apple", "cat", "dog", "tree", "house"),
    *("car", "sun", "moon", "star", "balloon", "fish", "rose", "banana"),
    *("mushroom", "frog", "chick", "butterfly", "cake", "turtle", "elephant", "ufo"),
    *("flower", "umbrella", "book", "bird", "penguin", "dinosaur", "robot", "pig"),
)
COLOURS: tuple[str, ...] = ("red", "yellow", "green", "blue", "purple")
COLOURED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("car", "balloon", "umbrella", "book", "bird", "fish", "butterfly"), COLOURS),
    "flower": ("red", "yellow", "blue", "purple"),
    "apple": ("red", "yellow", "green"),
    "rose": ("red", "yellow", "purple"),
}
RELATIONS: tuple[str, ...] = ("riding", "next to", "above", "and")
COUNTS: dict[str, int] = {"two": 2, "three": 3}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 244),
    "blue": (140, 190, 245),
    "green": (150, 215, 150),
    "pink": (250, 180, 205),
    "yellow": (250, 230, 130),
    "purple": (190, 160, 230),
    "grey": (198, 198, 203),
    "black": (42, 44, 52),
}
PREFIXES: tuple[str, ...] = ("a photograph of", "an image of", "a drawing of")
STYLES: tuple[str, ...] = ("mdjrny-v4 style", "style", "an emoji style", "high quality,", "sticker:")
PLURALS: dict[str, str] = {"fish": "fish", "butterfly": "butterflies"}
HELD_OUT_ONE_IN = 10
UNORDERED = ("next to", "and")


@dataclass(frozen=True, slots=True)
class Scene:
    """What an image shows. A background, and the colour of an object that has several, may be None: unstated.

    `relation` and `b` are both given or both None; a `count` above one goes without them.
    """

    a: str
    relation: str | None = None
    b: str | None = None
    background: str | None = None
    count: int = 1
    colour_a: str | None = None
    colour_b: str | None = None

    def __post_init__(self) -> None:
        if (self.relation is None) != (self.b is None) or (self.count > 1 and self.b is not None):
            raise ValueError(f"{asdict(self)}: a relation and a second object go together, a count goes with neither")
        for name, colour in ((self.a, self.colour_a), (self.b, self.colour_b)):
            if colour is not None and colour not in COLOURED.get(str(name), ()):
                raise ValueError(f"{colour} {name}: this object does not come in that colour")

    @property
    def triple(self) -> tuple[str, str | None, str | None]:
        """(object, relation, object); where a relation has no order, its two objects are sorted."""
        if self.b is not None and self.relation in UNORDERED:
            first, second = sorted((self.a, self.b))
            return first, self.relation, second
        return self.a, self.relation, self.b

    @property
    def held_out(self) -> bool:
        """True for what no training scene shows: one in ten pairs in a relation, one in ten pairs of coloured objects
        in any relation, and one in ten objects in each count above one.
        """
        keys = []
        if self.relation is not None:
            keys.append("|".join(str(part) for part in self.triple))
        if self.colour_a is not None and self.colour_b is not None:
            keys.append("|".join(sorted((f"{self.colour_a} {self.a}", f"{self.colour_b} {self.b}"))))
        if self.count > 1:
            keys.append(f"{self.count}|{self.a}")
        return any(hashlib.sha256(key.encode()).digest()[0] % HELD_OUT_ONE_IN == 0 for key in keys)


def _article(noun: str) -> str:
    vowel = noun[0] in "aeiou" and not noun.startswith("ufo")
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    return PLURALS.get(noun, f"{noun}s")


def caption(scene: Scene, prefix: str = "a photograph of") -> str:
    """The sentence that names a scene, e.g. `a picture of a red car next to a blue balloon on a white background`."""
    first = f"{scene.colour_a} {scene.a}" if scene.colour_a else scene.a
    if scene.count > 1:
        number = next(word for word, count in COUNTS.items() if count == scene.count)
        parts = [prefix, number, *([scene.colour_a] if scene.colour_a else []), plural(scene.a)]
    else:
        parts = [prefix, _article(first)]
    if scene.relation is not None and scene.b is not None:
        parts += [scene.relation, _article(f"{scene.colour_b} {scene.b}" if scene.colour_b else scene.b)]
    if scene.background is not None:
        parts += ["on", _article(scene.background), "background"]
    return " ".join(part for part in parts if part)


_OBJECT = "|".join(OBJECTS)
_COLOUR = "|".join(COLOURS)
_SINGULAR = {plural(name): name for name in OBJECTS}
_GRAMMAR = re.compile(
    rf"(?:^|(?<=\s))(?:"
    rf"(?:an?|the) (?:(?P<colour_a>{_COLOUR}) )?(?P<a>{_OBJECT})"
    rf"(?: (?P<relation>{'|'.join(RELATIONS)}) (?:an?|the) (?:(?P<colour_b>{_COLOUR}) )?(?P<b>{_OBJECT}))?"
    rf"|(?P<number>{'|'.join(COUNTS)}) (?:(?P<colour>{_COLOUR}) )?(?P<many>{'|'.join(_SINGULAR)})"
    rf")(?: on an? (?P<background>{'|'.join(BACKGROUNDS)}) background)?\s*\.?$"
)


def read_caption(prompt: str) -> Scene | None:
    """The scene that a prompt asks for; None when it does not end in a sentence of this world."""
    found = _GRAMMAR.search(" ".join(prompt.lower().split()))
    if found is None:
        return None
    part = found.groupdict()
    try:
        if part["number"]:
            name, count = _SINGULAR[part["many"]], COUNTS[part["number"]]
            return Scene(name, background=part["background"], count=count, colour_a=part["colour"])
        return Scene(
            part["a"],
            part["relation"],
            part["b"],
            part["background"],
            colour_a=part["colour_a"],
            colour_b=part["colour_b"],
        )
    except ValueError:  # a colour that the object does not come in
        return None


def triples(relations: tuple[str | None, ...] = (None, *RELATIONS)) -> list[Scene]:
    """Every object and every pair in a relation, without colours, counts and background, in a fixed order."""
    scenes = []
    for relation in relations:
        if relation is None:
            scenes += [Scene(name) for name in OBJECTS]
        else:
            scenes += [Scene(a, relation, b) for a, b in itertools.permutations(OBJECTS, 2)]
    return scenes


class SceneSource:
    """An endless, seeded stream of complete scenes (every colour and background stated) and captions for them.

    Held-out compositions never appear, or only they do. `KINDS` has the shares: relations most, since they are
    hardest; pairs of two coloured objects are drawn on purpose, since chance would give few.
    """

    KINDS: ClassVar = {"one": 0.14, "many": 0.14, "riding": 0.24, "next to": 0.18, "above": 0.18, "and": 0.12}
    COLOURED_PAIRS = 0.35

    def __init__(self, seed: int, held_out: bool = False) -> None:
        self.random = Random(seed)
        self.held_out = held_out

    def scene(self) -> Scene:
        while True:
            scene = self._any_scene()
            if scene.held_out == self.held_out:
                return scene

    def _any_scene(self) -> Scene:
        random = self.random
        kind = random.choices(list(self.KINDS), list(self.KINDS.values()))[0]
        background = random.choice(list(BACKGROUNDS))
        names = list(COLOURED) if kind != "one" and random.random() < self.COLOURED_PAIRS else list(OBJECTS)
        a, b = random.sample(names, 2)
        colour_a, colour_b = (random.choice(COLOURED[name]) if name in COLOURED else None for name in (a, b))
        if kind == "one":
            return Scene(a, background=background, colour_a=colour_a)
        if kind == "many":
            return Scene(a, background=background, count=random.choice((2, 3)), colour_a=colour_a)
        return Scene(a, kind, b, background, colour_a=colour_a, colour_b=colour_b)

    def caption(self, scene: Scene) -> str:
        """A caption whose prefix, background and colours are sometimes left out, sometimes after a style word."""
        random = self.random
        if random.random() < 0.3:
            scene = replace(scene, background=None)
        if random.random() < 0.3:
            scene = replace(scene, colour_a=None, colour_b=None)
        prefix = random.choice(PREFIXES) if random.random() < 0.7 else ""
        if random.random() < 0.1:
            prefix = f"{random.choice(STYLES)} {prefix}".strip()
        return caption(scene, prefix)
