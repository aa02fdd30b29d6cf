"""The world of `scenes`: objects, colours, counts, relations and backgrounds, and the captions that name them.

A scene is one object, two or three of one kind, or two objects in a relation, on a background. These are the six
kinds of GenEval (2310.11513): one object, two objects, counting, colours, position, colour of each of two. Captions
are made from scenes and read back into scenes by one small grammar, so the content of a prompt is known exactly.
"""

import hashlib
import itertools
import re
from dataclasses import asdict, dataclass

from cfglab.errors import InputError

SIZE = 128  # pixels of the side of an image
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
PLURALS: dict[str, str] = {"fish": "fish", "butterfly": "butterflies"}
HELD_OUT_ONE_IN = 10
UNORDERED = ("next to", "and")


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of an image, or of a prompt, which may leave parts of it open.

    Attributes:
        a: The first object, one of OBJECTS.
        relation: One of RELATIONS; None with one object.
        b: The second object; None with one object.
        background: One of BACKGROUNDS; None if it is not stated.
        count: How many of `a`: 1, 2 or 3; 1 if there is a second object.
        colour_a: The colour of `a`, one of `COLOURED[a]`; None if it is not stated, or `a` comes in one colour.
        colour_b: The colour of `b`.

    Raises:
        InputError: A part is not in this world, or a relation stands without a second object.

    Examples:
        >>> Scene("car", "next to", "balloon", colour_a="red").triple
        ('balloon', 'next to', 'car')
    """

    a: str
    relation: str | None = None
    b: str | None = None
    background: str | None = None
    count: int = 1
    colour_a: str | None = None
    colour_b: str | None = None

    def __post_init__(self) -> None:
        known = {"a": OBJECTS, "relation": RELATIONS, "b": OBJECTS, "background": BACKGROUNDS, "count": (1, 2, 3)}
        for part, values in known.items():
            value = getattr(self, part)
            if value not in values and (value is not None or part in ("a", "count")):
                raise InputError(
                    f"{part} {value!r}: is not in the world of scenes; give one of {', '.join(map(str, values))}."
                )
        if (self.relation is None) != (self.b is None) or (self.count > 1 and self.b is not None):
            raise InputError(f"{asdict(self)}: a relation and a second object go together, and a count with neither.")
        for name, colour in ((self.a, self.colour_a), (self.b, self.colour_b)):
            if colour is not None and colour not in COLOURED.get(str(name), ()):
                colours = ", ".join(COLOURED.get(str(name), ())) or "no colour"
                raise InputError(f"{colour} {name}: does not exist in the world of scenes; {name} comes in {colours}.")

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


@dataclass(frozen=True, slots=True)
class SceneLabels:
    """What a classifier finds in an image; None means "none of these".

    Attributes:
        whole: Whether every object is whole: no part is missing, doubled or melted.
        a: The first object: the rider, the upper one, or the left one of two that are side by side or apart.
        colour_a: Its colour; None for an object that comes in one colour.
        arranged: How two objects are arranged: `riding`, `beside`, `above` or `apart`; None for one object.
        b: The second object.
        colour_b: Its colour.
        count: The number of `a`; None with a second object.
        background: One of BACKGROUNDS.
    """

    whole: bool = False
    a: str | None = None
    colour_a: str | None = None
    arranged: str | None = None
    b: str | None = None
    colour_b: str | None = None
    count: int | None = None
    background: str | None = None


def _article(noun: str) -> str:
    vowel = noun[0] in "aeiou" and not noun.startswith("ufo")
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of an object's name."""
    return PLURALS.get(noun, f"{noun}s")


def caption(scene: Scene, prefix: str = "a photograph of") -> str:
    """The sentence of a scene.

    Args:
        scene: The scene.
        prefix: Its beginning, one of PREFIXES.

    Returns:
        The prompt.

    Examples:
        >>> caption(Scene("car", "next to", "balloon", "white", colour_a="red", colour_b="blue"))
        'a photograph of a red car next to a blue balloon on a white background'
        >>> caption(Scene("butterfly", count=3))
        'a photograph of three butterflies'
    """
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
    """The scene of a prompt.

    Args:
        prompt: Any text.

    Returns:
        The scene; None if the prompt does not end in a sentence of this world.

    Examples:
        >>> read_caption("mdjrny-v4 style two yellow umbrellas")
        Scene(a='umbrella', relation=None, b=None, background=None, count=2, colour_a='yellow', colour_b=None)
    """
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
    except InputError:  # a colour that the object does not come in
        return None


def triples(relations: tuple[str | None, ...] = (None, *RELATIONS)) -> list[Scene]:
    """Every object and every pair in a relation, without colours, counts and backgrounds, in a fixed order.

    Args:
        relations: The relations; None for single objects.

    Returns:
        The scenes.
    """
    scenes = []
    for relation in relations:
        if relation is None:
            scenes += [Scene(name) for name in OBJECTS]
        else:
            scenes += [Scene(a, relation, b) for a, b in itertools.permutations(OBJECTS, 2)]
    return scenes
