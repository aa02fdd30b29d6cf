"""Fit the scene of a prompt to an image that a model drew, and say of each object how well it is drawn.

A model that draws a scene right draws its sprites, a little softened, at some place and size. The sprites of the prompt
are placed by correlation, then moved and resized until they explain the image best. The structural similarity of
image and fitted scene (Wang et al., IEEE TIP 13, 2004) around an object is near 1 where it is whole, and lower where a
part is missing, doubled or melted. Everything is computed at half of the image's resolution.

It needs the prompt, and it takes a fifth of a second for an image: the classifiers learn from it what damage by a model
looks like (`drawn.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from cfglab.scenes import renderer
from cfglab.scenes.renderer import Placed, bank, layers
from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURED, SIZE, Scene

HALF = SIZE // 2
REACH = 28  # pixels from the middle at which the centre of a sprite is searched
ALONE, MANY, RIDDEN, RIDER, PAIR = (
    (34, 37, 40, 43, 46, 49),
    (20, 22, 24, 26, 28, 30),
    (27, 31, 35, 38, 41, 44, 47),
    (21, 23, 25, 27, 29),
    (21, 23, 25, 27, 29, 31),
)
"""The longer sides that are tried, in pixels."""
WINDOW, SHIFT = 9, 2  # of the structural similarity: pixels of its window, and by how many an outline may be off
STEPS = 40


@dataclass(frozen=True, slots=True)
class Candidate(Placed):
    """A sprite somewhere, and how much of the image it explains."""

    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fitted scene of an image.

    Attributes:
        rows: The sprites from back to front, rows of the bank.
        similarity: Of each of them, the structural similarity around it, at most 1.
        alpha: `(objects, 64, 64)`, how far each covers a pixel.
    """

    rows: tuple[int, ...]
    similarity: tuple[float, ...]
    alpha: Tensor


def fit(pictures: Tensor, scenes: Sequence[Scene]) -> list[Fitted]:
    """Fit the scenes that were asked for.

    Args:
        pictures: `(n, 3, 128, 128)` in [0, 1].
        scenes: The scene of each.
    """
    halves = functional.avg_pool2d(pictures, 2)
    found = [_search(picture, scene) for picture, scene in zip(halves, scenes, strict=True)]
    fitted: list[Fitted | None] = [None] * len(found)
    for count in {len(each) for each in found}:
        which = [i for i, each in enumerate(found) if len(each) == count]
        for i, each in zip(which, _refine(halves[which], [found[i] for i in which]), strict=True):
            fitted[i] = each
    return [each for each in fitted if each is not None]


@cache
def _sprites() -> Tensor:
    """The bank at half of its resolution, `(n, 4, 54, 54)`."""
    return functional.avg_pool2d(bank().sprites, 2)


@cache
def _template(row: int, side: float) -> Tensor:
    """A sprite in the middle of an image, `(4, 64, 64)`."""
    return layers(torch.tensor([row]), torch.tensor([[HALF / 2, HALF / 2, side]]), _sprites(), 2)[0]


def _background(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Its colour `(3,)` and its shade, from the pixels at the left and right border."""
    edge = torch.cat([picture[:, :, :2], picture[:, :, -2:]], 2).median(2).values
    upper, lower = edge[:, : HALF // 2].median(1).values, edge[:, HALF // 2 :].median(1).values
    return (upper + lower) / 2, (lower - upper).mean()


def _ground(colour: Tensor, shade: Tensor) -> Tensor:
    """Backgrounds `(n, 3, 64, 64)` of colours `(n, 3)` and shades `(n,)`."""
    line = torch.linspace(-1, 1, HALF)
    return (colour[:, :, None] + shade[:, None, None] * line)[..., None].expand(-1, -1, -1, HALF)


def _rows(name: str, colour: str | None) -> list[int]:
    """The sprites of an object; in all its colours where none is stated."""
    colours = COLOURED[name] if name in COLOURED and colour is None else (colour,)
    return [bank().rows[name, each] for each in colours]


def _gains(rest: Tensor, colour: Tensor, rows: list[int], sides: tuple[int, ...]) -> tuple[Tensor, list[Candidate]]:
    """How much of `rest` `(3, 64, 64)` each sprite explains at each place: `(sprites × sides, 57, 57)`."""
    keys = [Candidate(row, 0.0, 0.0, float(side)) for row in rows for side in sides]
    stack = torch.stack([_template(key.sprite, key.side) for key in keys])
    shown = stack[:, :3] - stack[:, 3:] * colour[None, :, None, None]
    ours, theirs = (torch.fft.rfft2(each, s=(2 * HALF, 2 * HALF)) for each in (rest[None], shown))
    product = torch.fft.irfft2((ours * theirs.conj()).sum(1), s=(2 * HALF, 2 * HALF))
    energy = shown.square().sum((1, 2, 3))[:, None, None]
    gain = (2 * product - energy) / energy.sqrt()  # between what is explained and its share of the sprite
    gain = torch.cat([gain[:, -REACH:], gain[:, : REACH + 1]], 1)
    return torch.cat([gain[:, :, -REACH:], gain[:, :, : REACH + 1]], 2), keys


def _placed(key: Candidate, gain: float, x: int, y: int) -> Candidate:
    return Candidate(key.sprite, HALF / 2 + x - REACH, HALF / 2 + y - REACH, key.side, gain)


def _peaks(gain: Tensor, keys: list[Candidate], count: int) -> list[Candidate]:
    """The best places, each at least six pixels from a better one."""
    best, which = gain.max(0)
    best, found = best.clone(), []
    for _ in range(count):
        y, x = divmod(int(best.argmax()), best.shape[1])
        found.append(_placed(keys[int(which[y, x])], float(best[y, x]), x, y))
        best[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = -torch.inf
    return found


def _search(picture: Tensor, scene: Scene) -> list[Candidate]:
    """The sprites of a scene where they explain a picture best, from back to front."""
    colour, shade = _background(picture)
    rest, first = picture - _ground(colour[None], shade[None])[0], _rows(scene.a, scene.colour_a)
    if scene.b is None:
        return _one_kind(rest, colour, first, scene.count)
    second = _rows(scene.b, scene.colour_b)
    if scene.relation == "riding":
        return _ridden(rest, colour, scene.b, first, second)
    ours = _peaks(*_gains(rest, colour, first, PAIR), 10)
    theirs = _peaks(*_gains(rest, colour, second, PAIR), 10)
    pairs = [[one, other] for one in ours for other in theirs if _arranged(scene, one, other)]
    return max(pairs or [[ours[0], theirs[0]]], key=lambda pair: pair[0].gain + pair[1].gain)


def _one_kind(rest: Tensor, colour: Tensor, rows: list[int], count: int) -> list[Candidate]:
    """One to three of one kind, each on what the ones before left."""
    found = []
    for _ in range(count):
        found += _peaks(*_gains(rest, colour, rows, ALONE if count == 1 else MANY), 1)
        one = found[-1]
        place = torch.tensor([[one.x, one.y, one.side]])
        rest = rest * (1 - layers(torch.tensor([one.sprite]), place, _sprites(), 2)[0, 3:])
    return found


def _arranged(scene: Scene, one: Candidate, other: Candidate) -> bool:
    across, down = other.x - one.x, other.y - one.y
    if scene.relation == "above":
        return down > 15 and abs(across) < 0.9 * abs(down)
    if scene.relation == "next to":
        return abs(across) > 18 and abs(down) < 0.9 * abs(across)
    return across**2 + down**2 > 400


def _ridden(rest: Tensor, colour: Tensor, mount: str, riders: list[int], mounts: list[int]) -> list[Candidate]:
    """A mount, and a rider near its seat."""
    gain, keys = _gains(rest, colour, riders, RIDER)
    best: tuple[Candidate, Candidate] | None = None
    candidates = _peaks(*_gains(rest, colour, mounts, RIDDEN), 6)
    for under in candidates:
        for number, key in enumerate(keys):
            x, y = (round(each - HALF / 2) + REACH for each in bank().seated(under, mount, key.sprite, key.side))
            near = gain[number, max(0, y - 5) : max(0, y + 6), max(0, x - 5) : max(0, x + 6)]
            if not near.numel():
                continue
            down, right = divmod(int(near.argmax()), near.shape[1])
            rider = _placed(key, float(near.max()), max(0, x - 5) + right, max(0, y - 5) + down)
            if best is None or under.gain + rider.gain > best[0].gain + best[1].gain:
                best = under, rider
    return list(best or (candidates[0], _peaks(gain, keys, 1)[0]))


def _refine(pictures: Tensor, found: list[list[Candidate]]) -> list[Fitted]:
    """Move and resize the sprites of images with equally many, and measure the similarity."""
    rows = torch.tensor([[each.sprite for each in one] for one in found])
    start = torch.tensor([[(each.x, each.y, each.side) for each in one] for one in found])
    grounds = [_background(picture) for picture in pictures]
    colour, shade = (torch.stack(each) for each in zip(*grounds, strict=True))
    moved, tinted = torch.zeros_like(start, requires_grad=True), torch.zeros(len(found), 4, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [moved], "lr": 0.3}, {"params": [tinted], "lr": 0.004}], betas=(0.8, 0.95))
    later = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.92 ** max(0, step - STEPS // 2))

    def drawn() -> tuple[Tensor, Tensor]:
        table = start + moved * torch.tensor([1.0, 1.0, 1.5])
        sprites = layers(rows.flatten(), table.flatten(0, 1), _sprites(), 2).unflatten(0, rows.shape)
        canvas = _ground(colour + tinted[:, :3], shade + tinted[:, 3])
        for depth in range(rows.shape[1]):
            canvas = sprites[:, depth, :3] + (1 - sprites[:, depth, 3:]) * canvas
        return canvas, sprites[:, :, 3]

    for _ in range(STEPS):
        error = (drawn()[0] - pictures).square().sum(1)
        optimizer.zero_grad()
        torch.sqrt(error + 0.02**2).mean((1, 2)).sum().backward()
        optimizer.step()
        later.step()
    with torch.no_grad():
        canvas, alpha = drawn()
        alike = similarity(pictures, canvas)
        around = functional.max_pool2d(alpha, 5, 1, 2) > 0.3
        return [
            Fitted(tuple(row), tuple(float(each[ring].mean()) if ring.any() else 0.0 for ring in rings), covered)
            for row, each, rings, covered in zip(rows.tolist(), alike, around, alpha, strict=True)
        ]


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity `(n, h, w)` of images `(n, 3, h, w)` in [0, 1]: the best of small shifts of the second."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    height, width = first.shape[2:]
    padded = functional.pad(second, (SHIFT,) * 4, mode="replicate")
    centre = mean(first)
    spread = mean(first.square()) - centre.square()
    best = first.new_full((len(first), height, width), -1.0)
    for down in range(2 * SHIFT + 1):
        for across in range(2 * SHIFT + 1):
            other = padded[:, :, down : down + height, across : across + width]
            there = mean(other)
            both = mean(first * other) - centre * there
            bright = (2 * centre * there + 1e-3) / (centre.square() + there.square() + 1e-3)
            alike = (2 * both + 3e-3) / (spread + mean(other.square()) - there.square() + 3e-3)
            best = torch.maximum(best, (bright * alike).mean(1))
    return best


def named(fitted: Fitted, whole: float, damaged: float) -> Tensor:
    """What each of 8×8 cells shows, int64: a sprite whose similarity is above `whole`, damage below `damaged`; -1 where
    neither is sure, and on the background.
    """
    cells = torch.full((renderer.CELLS, renderer.CELLS), -1)
    shares = functional.avg_pool2d(fitted.alpha[None], HALF // renderer.CELLS)[0]
    for row, similar, share in zip(fitted.rows, fitted.similarity, shares, strict=True):
        shown = len(BACKGROUNDS) + row if similar > whole else renderer.SHOWN if similar < damaged else -1
        cells = torch.where(share > 0.4, shown, cells)
    return cells
