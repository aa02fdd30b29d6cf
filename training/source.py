"""The scenes that are learned from, and captions for them."""

from dataclasses import replace
from random import Random
from typing import ClassVar

from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURED, OBJECTS, PREFIXES, Scene, caption

STYLES: tuple[str, ...] = ("mdjrny-v4 style", "style", "an emoji style", "high quality,", "sticker:")


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
