"""Images with known answers, for the reader: real scenes, and images spoiled on purpose.

An answer is four class numbers (a, relation, b, background); 0 is "none of these", `ASK_NOT` is a part that has no
well-posed answer and is not learned. In `next to` the object on the left is `a`. A relation needs both its objects
readable; with a third object in the image nothing but the background is readable.
"""

import itertools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from cfglab.scenes.renderer import SIZE, _background, _paste, render
from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS, RELATIONS, Scene

ASK_NOT = -1
Answer = tuple[int, int, int, int]
Labelled = tuple[np.ndarray, Answer]
NAMES = list(BACKGROUNDS)


def number(name: str | None, names: tuple[str, ...] | list[str]) -> int:
    """Class number of a name; 0 for none."""
    return 0 if name is None else names.index(name) + 1


def answer(a: str | None, relation: str | None, b: str | None, background: str | None) -> Answer:
    return number(a, OBJECTS), number(relation, RELATIONS), number(b, OBJECTS), number(background, NAMES)


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def coarse_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """A random texture of about `cells` × `cells` soft or hard patches."""
    small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    how = Image.Resampling.BICUBIC if rng.integers(0, 2) else Image.Resampling.NEAREST
    return np.asarray(small.resize((SIZE, SIZE), how))


def odd_canvas(rng: np.random.Generator) -> np.ndarray:
    """A background that has no name: dark, grey, red to orange, cyan, in two tones, or a texture."""
    kind = rng.integers(0, 6)
    if kind == 4:  # two named colours, split or fading into each other
        first, second = rng.choice(len(NAMES), 2, replace=False)
        ramp = np.linspace(0, 1, SIZE)[:, None, None] if rng.integers(0, 2) else np.linspace(0, 1, SIZE)[None, :, None]
        ramp = ramp if rng.integers(0, 2) else (ramp > 0.5).astype(float)
        tones = np.array([BACKGROUNDS[NAMES[first]], BACKGROUNDS[NAMES[second]]], dtype=float)
        return as_bytes(np.broadcast_to(tones[0] * (1 - ramp) + tones[1] * ramp, (SIZE, SIZE, 3)))
    if kind == 5:
        return coarse_noise(rng, int(rng.integers(3, 20)))
    colour = {
        0: rng.uniform(0, 90, 3),
        1: rng.uniform(80, 175) + rng.uniform(-8, 8, 3),
        2: np.array([rng.uniform(190, 255), rng.uniform(30, 130), rng.uniform(10, 60)]),
        3: np.array([rng.uniform(0, 80), rng.uniform(170, 235), rng.uniform(180, 235)]),
    }[int(kind)]
    shade = rng.uniform(-14, 14) * np.linspace(-1, 1, SIZE)[:, None, None]
    return as_bytes(np.broadcast_to(colour + shade, (SIZE, SIZE, 3)))


class Labeller:
    """A seeded stream of images with answers. Held-out compositions occur too: a judge must know them all."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.kinds: dict[Callable[[], Labelled], float] = {
            self.real: 0.60,
            self.doubled: 0.03,
            self.small: 0.04,
            self.on_odd_canvas: 0.05,
            self.spoiled_object: 0.12,
            self.diagonal: 0.02,
            self.crowded: 0.03,
            self.mixed: 0.03,
            self.halves: 0.02,
            self.unreadable: 0.03,
            self.rubbish: 0.02,
            self.empty: 0.01,
        }

    def labelled(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 `(count, 64, 64, 3)` and answers int64 `(count, 4)` of all kinds."""
        makers, shares = list(self.kinds), np.array(list(self.kinds.values()))
        chosen = self.rng.choice(len(makers), count, p=shares / shares.sum())
        pictures, answers = zip(*(makers[i]() for i in chosen), strict=True)
        return np.stack(pictures), np.array(answers, dtype=np.int64)

    def scene(self, relation: str | None = "any") -> Scene:
        """A random composition; half of the pairs are `riding`, whose overlap is hardest to read."""
        rng = self.rng
        if relation == "any":
            relation = (None, "riding", "riding", "next to", "above")[rng.choice(5, p=(0.16, 0.21, 0.21, 0.21, 0.21))]
        a, b = (OBJECTS[i] for i in rng.choice(len(OBJECTS), 2, replace=False))
        b = None if relation is None else b
        return Scene.model_validate({"a": a, "relation": relation, "b": b, "background": rng.choice(NAMES)})

    def again(self, scene: Scene, *others: Scene) -> list[np.ndarray]:
        """Scenes drawn with the same positions, sizes and mirroring."""
        state, pictures = self.rng.bit_generator.state, []
        for each in (scene, *others):
            self.rng.bit_generator.state = state
            pictures.append(render(each, self.rng))
        return pictures

    def pictured(self, scene: Scene) -> Labelled:
        """A scene and its answer; whose object is on the left is seen by drawing `a` on both sides."""
        if scene.relation != "next to":
            return render(scene, self.rng), answer(scene.a, scene.relation, scene.b, scene.background)
        picture, twin = self.again(scene, scene.model_copy(update={"b": scene.a}))
        left, right = (scene.a, scene.b) if (picture[:, :24] == twin[:, :24]).all() else (scene.b, scene.a)
        return picture, answer(left, scene.relation, right, scene.background)

    def real(self) -> Labelled:
        return self.pictured(self.scene())

    def doubled(self) -> Labelled:
        """The same object twice: outside the world's prompts, but a model may draw it."""
        scene = self.scene(RELATIONS[self.rng.integers(len(RELATIONS))])
        return self.pictured(scene.model_copy(update={"b": scene.a}))

    def small(self) -> Labelled:
        """One object of any size anywhere."""
        rng, scene = self.rng, self.scene(None)
        canvas, x, y = _background(str(scene.background), rng), rng.uniform(12, 52), rng.uniform(12, 52)
        _paste(canvas, scene.a, int(rng.integers(23, 47)), x, y, bool(rng.integers(0, 2)))
        return np.asarray(canvas), answer(scene.a, None, None, scene.background)

    def empty(self) -> Labelled:
        name = NAMES[self.rng.integers(len(NAMES))]
        return np.asarray(_background(name, self.rng)), answer(None, None, None, name)

    def rubbish(self) -> Labelled:
        rng = self.rng
        kind = rng.integers(0, 4)
        if kind == 0:
            picture = as_bytes(127.5 + rng.uniform(30, 160) * rng.standard_normal((SIZE, SIZE, 3)))
        elif kind == 1:
            picture = odd_canvas(rng)
        elif kind == 2:
            picture = coarse_noise(rng, int(rng.integers(3, 32)))
        else:  # a mosaic of pieces of scenes
            tiles = [render(self.scene(), rng) for _ in range(4)]
            side = int(rng.choice((8, 16)))
            picture = np.empty_like(tiles[0])
            for y, x in itertools.product(range(0, SIZE, side), repeat=2):
                v, u = rng.integers(0, SIZE - side + 1, 2)
                picture[y : y + side, x : x + side] = tiles[rng.integers(4)][v : v + side, u : u + side]
        return picture, (0, 0, 0, 0)

    def on_odd_canvas(self) -> Labelled:
        """A scene cut out (from its images on two backgrounds) and laid on a background without a name."""
        scene = self.scene().model_copy(update={"background": "yellow"})
        state = self.rng.bit_generator.state
        ground = np.asarray(_background("yellow", self.rng), dtype=float)
        self.rng.bit_generator.state = state
        picture, found = self.pictured(scene)
        after, self.rng.bit_generator.state = self.rng.bit_generator.state, state
        other = render(scene.model_copy(update={"background": "blue"}), self.rng)
        self.rng.bit_generator.state = after
        distance = BACKGROUNDS["blue"][2] - BACKGROUNDS["yellow"][2]
        share = np.clip((other[..., 2:].astype(float) - picture[..., 2:]) / distance, 0, 1)
        return as_bytes(picture + share * (odd_canvas(self.rng) - ground)), (*found[:3], 0)

    def spoiled_object(self) -> Labelled:
        """One object of a scene blended with another, half of each, smeared, scrambled or covered; the other stays."""
        rng, scene = self.rng, self.scene()
        part = "b" if scene.relation in ("next to", "above") and rng.integers(0, 2) else "a"
        other = str(rng.choice([name for name in OBJECTS if name not in (scene.a, scene.b)]))
        state = rng.bit_generator.state
        picture, found = self.pictured(scene)
        rng.bit_generator.state = state
        twin = render(scene.model_copy(update={part: other}), rng)
        rows, columns = np.nonzero((picture != twin).any(-1))
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        box, source = picture[top:bottom, left:right], twin[top:bottom, left:right]
        first = part == "a" if scene.relation != "next to" else (left + right) / 2 < SIZE / 2
        shape = (picture != twin).any(-1)[top:bottom, left:right]
        spoiled = self._spoil(box, source)
        while min(self._changed(spoiled, clean, shape) for clean in (box, source)) < 0.25:
            spoiled = self._spoil(box, source)
        picture = picture.copy()
        picture[top:bottom, left:right] = spoiled
        return picture, (0, 0, found[2], found[3]) if first else (found[0], 0, 0, found[3])

    @staticmethod
    def _changed(spoiled: np.ndarray, clean: np.ndarray, shape: np.ndarray) -> float:
        """Share of the object's pixels that look different."""
        return float((np.abs(spoiled.astype(int) - clean).sum(-1) > 60)[shape].mean())

    def _spoil(self, box: np.ndarray, other: np.ndarray) -> np.ndarray:
        rng, how = self.rng, self.rng.integers(0, 6)
        height, width = box.shape[:2]
        if how <= 1:
            share = rng.uniform(0.35, 0.65)
            return as_bytes(share * box + (1 - share) * other)
        if how == 2:
            return blurred(np.ascontiguousarray(box), rng.uniform(5, 8))
        if how == 3:
            side = int(rng.integers(4, 8))
            corners = list(itertools.product(range(0, height - side + 1, side), range(0, width - side + 1, side)))
            mixed = box.copy()
            for (y, x), i in zip(corners, rng.permutation(len(corners)), strict=True):
                v, u = corners[i]
                mixed[y : y + side, x : x + side] = box[v : v + side, u : u + side]
            return mixed
        if how == 4:
            other = np.broadcast_to(rng.integers(0, 256, 3) if rng.integers(0, 2) else box[0, 0], box.shape)
            cut = rng.uniform(0.6, 0.8)
        else:
            cut = rng.uniform(0.42, 0.58)
        across = (np.arange(height)[:, None] < cut * height) if rng.integers(0, 2) else (np.arange(width) < cut * width)
        across = np.broadcast_to(across, (height, width))[..., None]
        across = across if rng.integers(0, 2) else across[::-1, ::-1]
        return np.where(across, other, box).astype(np.uint8)

    def diagonal(self) -> Labelled:
        """Two objects in no relation. Which is `a` has no answer."""
        rng, scene = self.rng, self.scene("above")
        canvas, rising = _background(str(scene.background), rng), int(rng.integers(0, 2))
        for name, at in ((scene.a, 0), (scene.b, 1)):
            x, y = 17 + 30 * (at ^ rising) + rng.uniform(-3, 3), 17 + 30 * at + rng.uniform(-3, 3)
            _paste(canvas, str(name), int(rng.integers(23, 30)), x, y, bool(rng.integers(0, 2)))
        return np.asarray(canvas), (ASK_NOT, 0, ASK_NOT, number(scene.background, NAMES))

    def crowded(self) -> Labelled:
        """A pair and a third object, where the image is emptiest."""
        rng = self.rng
        scene = self.scene(RELATIONS[rng.integers(len(RELATIONS))])
        picture, side = render(scene, rng), int(rng.integers(20, 28))
        busy = np.abs(picture - picture[[0, 0, -1, -1], [0, -1, 0, -1]].mean(0)).sum(-1) > 90
        places = list(itertools.product(range(side // 2, SIZE - side // 2, 6), repeat=2))
        half = side // 2
        free = [busy[y - half : y + half, x - half : x + half].sum() + 8 * rng.random() for y, x in places]
        y, x = places[int(np.argmin(free))]
        canvas = Image.fromarray(picture)
        _paste(canvas, OBJECTS[rng.integers(len(OBJECTS))], side, x, y, bool(rng.integers(0, 2)))
        return np.asarray(canvas), (0, 0, 0, number(scene.background, NAMES))

    def mixed(self) -> Labelled:
        """Two whole scenes half transparent over each other."""
        first, second = self.scene(), self.scene()
        while second.a == first.a:
            second = self.scene()
        share = self.rng.uniform(0.35, 0.65)
        picture = as_bytes(share * render(first, self.rng) + (1 - share) * render(second, self.rng))
        return picture, answer(None, None, None, first.background if first.background == second.background else None)

    def halves(self) -> Labelled:
        """One half of each of two scenes whose objects reach over the middle."""
        first, second = self.scene(None), self.scene((None, "riding")[self.rng.integers(0, 2)])
        while second.a == first.a:
            second = self.scene(None)
        picture, other = render(first, self.rng).copy(), render(second, self.rng)
        if self.rng.integers(0, 2):
            picture[:, SIZE // 2 :] = other[:, SIZE // 2 :]
        else:
            picture[SIZE // 2 :] = other[SIZE // 2 :]
        return picture, answer(None, None, None, first.background if first.background == second.background else None)

    def unreadable(self) -> Labelled:
        """A whole scene smeared beyond recognition, or drowned in noise."""
        rng, scene = self.rng, self.scene()
        picture = render(scene, rng)
        if rng.integers(0, 2):
            return blurred(picture, rng.uniform(6, 10)), (0, 0, 0, number(scene.background, NAMES))
        noisy = picture + rng.uniform(150, 300) * rng.standard_normal(picture.shape)
        return as_bytes(noisy), (0, 0, 0, ASK_NOT)
