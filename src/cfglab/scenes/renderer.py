"""Draw scenes in torch: sprites resized and pasted at positions between pixels, a whole batch at once, on any device.

A layout is plain Python and seeded: which sprite, where, how large. Drawing multiplies every sprite by two matrices
(rows and columns) that hold the weights of an anti-aliased resize, so nothing needs Pillow. Sprites are never mirrored:
a network that sees both directions draws animals with two heads.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from cfglab.scenes import png
from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURED, OBJECTS, SIZE, Scene

if TYPE_CHECKING:
    import numpy as np

SIDE = 96  # of a stored sprite
CELLS = 8
MARGIN = 6  # transparent pixels around it, so that every resize kernel ends on transparency
HUES = {"red": 0.0, "yellow": 50.0, "green": 125.0, "blue": 210.0, "purple": 280.0}
OWN_HUE = {  # what is recoloured: the pixels near this hue; leaves, windows and wheels stay
    **{"car": 0.0, "balloon": 0.0, "umbrella": 250.0, "book": 0.0, "bird": 203.0, "fish": 207.0},
    **{"flower": 335.0, "butterfly": 35.0, "apple": 10.0, "rose": 350.0},
}
Places = tuple[tuple[int, int], ...]
PAIRS: tuple[Places, ...] = (((33, 64), (95, 64)), ((34, 42), (94, 86)), ((34, 86), (94, 42)))
TRIPLES: tuple[Places, ...] = (((64, 33), (33, 94), (95, 94)), ((33, 34), (95, 34), (64, 95)))
SPRITES = [(name, colour) for name in OBJECTS for colour in COLOURED.get(name, (None,))]  # rows of the bank
SHOWN = len(BACKGROUNDS) + len(SPRITES)  # what a cell can show
SEAT = {  # where the rider sits, as a share of the mount's width from the left: behind the head
    **{"horse": 0.60, "elephant": 0.62, "cat": 0.52, "dog": 0.60, "turtle": 0.64, "dinosaur": 0.56, "pig": 0.60},
    **{"fish": 0.50, "bird": 0.50, "ufo": 0.50, "rocket": 0.50},
}


@dataclass(frozen=True, slots=True)
class Placed:
    """One sprite in an image: its row in the bank, its centre, and the pixels of its longer side."""

    sprite: int
    x: float
    y: float
    side: float


@dataclass(frozen=True, slots=True)
class Layout:
    """An image before it is drawn: sprites from back to front, the background's colour and its vertical shade."""

    sprites: tuple[Placed, ...]
    colour: tuple[float, float, float]
    shade: float
    background: int = 0  # its number, for `cells`


def _hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation and value of `(3, ...)` in [0, 1]."""
    high, low = rgb.amax(0), rgb.amin(0)
    spread = (high - low).clamp(min=1e-6)
    r, g, b = rgb
    hue = torch.where(
        high == r, (g - b) / spread % 6, torch.where(high == g, (b - r) / spread + 2, (r - g) / spread + 4)
    )
    return hue * 60, (high - low) / high.clamp(min=1e-6), high


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    def channel(n: int) -> Tensor:
        k = (n + hue / 60) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)])


def recoloured(sprite: Tensor, own: float, colour: str) -> Tensor:
    """A sprite `(4, h, w)` in [0, 1] whose main hue becomes that of `colour`; greys and other hues stay."""
    hue, saturation, value = _hsv(sprite[:3])
    away = (hue - own + 180) % 360 - 180
    share = ((55 - away.abs()) / 15).clamp(0, 1) * ((saturation - 0.12) / 0.15).clamp(0, 1)
    if colour == "yellow":
        value = value + 0.75 * (1 - value) * (value > 0.3)
    elif colour == "purple":
        saturation, value = saturation * 0.85, value * 0.88
    elif colour == "green":
        value = value * 0.80
    painted = _rgb((HUES[colour] + 0.35 * away) % 360, saturation, value)
    return torch.cat([sprite[:3] + share * (painted - sprite[:3]), sprite[3:]])


class Bank:
    """Every sprite in every colour, `(n, 4, 108, 108)` with premultiplied alpha, and where its outline runs."""

    def __init__(self, folder: Path) -> None:
        self.rows = {key: row for row, key in enumerate(SPRITES)}
        self.box: list[tuple[float, float]] = []  # width and height as shares of the longer side
        self.top: list[list[float]] = []  # of each column, the first opaque row as a share of the height
        sprites = []
        plain = {name: png.read(folder / f"{name}.png").float() / 255 for name in OBJECTS}
        for name, colour in SPRITES:
            sprite = plain[name] if colour is None else recoloured(plain[name], OWN_HUE[name], colour)
            sprites.append(self._padded(sprite))
            self.box.append((sprite.shape[2] / SIDE, sprite.shape[1] / SIDE))
            solid = sprite[3] > 0.5
            first = torch.where(solid.any(0), solid.float().argmax(0), solid.shape[0])
            self.top.append((first / solid.shape[0]).tolist())
        self.sprites = torch.stack(sprites)

    @staticmethod
    def _padded(sprite: Tensor) -> Tensor:
        side = SIDE + 2 * MARGIN
        padded = torch.zeros(4, side, side)
        _, height, width = sprite.shape
        top, left = (side - height) // 2, (side - width) // 2
        padded[:3, top : top + height, left : left + width] = sprite[:3] * sprite[3:]
        padded[3, top : top + height, left : left + width] = sprite[3]
        return padded

    def seat(self, row: int, name: str) -> tuple[float, float]:
        """Where a rider's middle and feet go, as shares of the mount's width and height."""
        x = SEAT.get(name, 0.5)
        columns = self.top[row]
        middle, reach = x * len(columns), 0.14 * len(columns)
        around = sorted(columns[max(0, int(middle - reach)) : int(middle + reach) + 1])
        return x, around[len(around) // 2]

    def seated(self, mount: Placed, name: str, rider: int, side: float) -> tuple[float, float]:
        """The centre of a rider (its row and its longer side) on a mount, whose object is `name`."""
        seat_x, seat_y = self.seat(mount.sprite, name)
        width, height = (share * mount.side for share in self.box[mount.sprite])
        tall = self.box[rider][1]
        y = mount.y - height / 2 + seat_y * height
        return mount.x + (seat_x - 0.5) * width, y + 0.12 * tall * side - tall * side / 2


@cache
def bank() -> Bank:
    return Bank(Path(__file__).parent / "sprites")


def _kernel(distance: Tensor) -> Tensor:
    """The cubic of Catmull and Rom, the usual bicubic."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, 0.0))


def weights(centre: Tensor, side: Tensor, halved: int = 1) -> Tensor:
    """Resize matrices `(n, 128, 108)` of sprites `side` pixels long whose middle lies at `centre`; with `halved=2` both
    the image and the stored sprites have half as many pixels.
    """
    scale = (halved * side / SIDE)[:, None, None]
    pixel = torch.arange(SIZE // halved, device=centre.device)[None, :, None] + 0.5
    source = torch.arange((SIDE + 2 * MARGIN) // halved, device=centre.device)[None, None, :] + 0.5
    at = (pixel - centre[:, None, None]) / scale + (SIDE / 2 + MARGIN) / halved
    shares = _kernel((at - source) * scale.clamp(max=1))
    return shares / shares.sum(-1, keepdim=True).clamp(min=1e-2)


def layers(rows: Tensor, table: Tensor, sprites: Tensor, halved: int = 1) -> Tensor:
    """One sprite each on nothing, `(n, 4, 128, 128)` with premultiplied alpha, of half the side with `halved=2`.

    `rows`: their rows in `sprites`. `table`: `(n, 3)`, the centre and the longer side in pixels.
    """
    across, down = weights(table[:, 0], table[:, 2], halved), weights(table[:, 1], table[:, 2], halved)
    flat = sprites[rows].transpose(1, 2).flatten(2)  # (n, height, 4 * width)
    tall = (down @ flat).unflatten(2, (4, -1))  # (n, 128, 4, width)
    layer = (tall.flatten(1, 2) @ across.transpose(1, 2)).unflatten(1, (-1, 4)).transpose(1, 2)
    alpha = layer[:, 3:].clamp(0, 1)
    return torch.cat([torch.minimum(layer[:, :3].clamp(min=0), alpha), alpha], 1)


def draw(layouts: list[Layout], device: str | torch.device = "cpu", sprites: Tensor | None = None) -> Tensor:
    """Images, uint8 `(n, 3, 128, 128)`; `sprites`: another bank than that of the world."""
    return draw_with_cells(layouts, device, sprites)[0]


def draw_with_cells(
    layouts: list[Layout], device: str | torch.device = "cpu", sprites: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Images, and what each of 8×8 cells shows: int16 `(n, 8, 8)`, a background, or a sprite counted after those."""
    bank_ = (bank().sprites if sprites is None else sprites).to(device)
    cells = torch.tensor([layout.background for layout in layouts], device=device, dtype=torch.int16)
    cells = cells[:, None, None].expand(-1, CELLS, CELLS).clone()
    ground = torch.tensor([layout.colour for layout in layouts], device=device)[:, :, None, None]
    shade = torch.tensor([layout.shade for layout in layouts], device=device)[:, None, None, None]
    line = torch.linspace(-1, 1, SIZE, device=device)[None, None, :, None]
    canvas = ((ground + shade * line) / 255).clamp(0, 1).expand(-1, -1, -1, SIZE).clone()
    for depth in range(max(len(layout.sprites) for layout in layouts)):
        which = [i for i, layout in enumerate(layouts) if len(layout.sprites) > depth]
        placed = [layouts[i].sprites[depth] for i in which]
        table = torch.tensor([(p.x, p.y, p.side) for p in placed], device=device)
        rows = torch.tensor([p.sprite for p in placed], device=device)
        layer = layers(rows, table, bank_)
        colour, alpha = layer[:, :3], layer[:, 3:]
        index = torch.tensor(which, device=device)
        canvas[index] = colour + (1 - alpha) * canvas[index]
        shown = (rows + len(BACKGROUNDS)).to(torch.int16)[:, None, None]
        cells[index] = torch.where(functional.avg_pool2d(alpha, SIZE // CELLS)[:, 0] > 0.4, shown, cells[index])
    return (canvas * 255).round().to(torch.uint8), cells


def _clamped(row: int, x: float, y: float, side: float) -> Placed:
    """A sprite pushed inwards where it would leave the image."""
    width, height = (share * side / 2 + 1 for share in bank().box[row])
    return Placed(row, min(max(x, width), SIZE - width), min(max(y, height), SIZE - height), side)


def sprite_row(name: str, colour: str | None, random: Random) -> int:
    """The sprite of an object; where it has several colours and none is asked for, one at random."""
    if name in COLOURED and colour is None:
        colour = random.choice(COLOURED[name])
    return bank().rows[name, colour]


def arrange(scene: Scene, random: Random) -> Layout:
    """A random layout of a scene: the relation fixes the arrangement, the seed positions and sizes."""
    name = scene.background or random.choice(list(BACKGROUNDS))
    red, green, blue = (channel + random.uniform(-5, 5) for channel in BACKGROUNDS[name])
    a = sprite_row(scene.a, scene.colour_a, random)
    if scene.count > 1:
        sprites = _many(a, scene.count, random)
    elif scene.b is None:
        sprites = [_clamped(a, 64 + random.uniform(-14, 14), 64 + random.uniform(-14, 14), random.uniform(76, 96))]
    else:
        b = sprite_row(scene.b, scene.colour_b, random)
        if scene.relation == "riding":
            sprites = _riding(a, b, scene.b, random)
        else:
            sprites = _pair(a, b, str(scene.relation), random)
    return Layout(tuple(sprites), (red, green, blue), random.uniform(-14, 14), list(BACKGROUNDS).index(name))


def _many(row: int, count: int, random: Random) -> list[Placed]:
    """Two or three of one kind that do not touch."""
    ways, low, high = (PAIRS, 46, 56) if count == 2 else (TRIPLES, 42, 52)
    places = random.choice(ways)
    side = random.uniform(low, high)
    return [
        _clamped(row, x + random.uniform(-4, 4), y + random.uniform(-4, 4), side * random.uniform(0.95, 1.05))
        for x, y in places
    ]


def _pair(a: int, b: int, relation: str, random: Random) -> list[Placed]:
    """Two objects side by side, one over the other, or (`and`) anywhere apart from each other."""
    first, second = random.uniform(48, 60), random.uniform(48, 60)
    slide = random.uniform(-16, 16)
    near, far = (32 + random.uniform(-3, 3), 96 + random.uniform(-3, 3))
    across, down = random.uniform(-6, 6), random.uniform(-6, 6)
    if relation == "above":
        return [
            _clamped(a, 64 + slide + across, near - 1, random.uniform(46, 56)),
            _clamped(b, 64 + slide - across, far + 1, random.uniform(46, 56)),
        ]
    if random.random() < 0.5:
        a, b = b, a
    kind = "beside" if relation == "next to" else random.choice(("beside", "over", "rising", "falling"))
    if kind == "beside":
        return [_clamped(a, near, 66 + slide + down, first), _clamped(b, far, 66 + slide - down, second)]
    if kind == "over":
        return [_clamped(a, 64 + slide + across, near, first), _clamped(b, 64 + slide - across, far, second)]
    high, low = 38 + random.uniform(-6, 6), 90 + random.uniform(-6, 6)
    y = (low, high) if kind == "rising" else (high, low)
    return [_clamped(a, near, y[0], first), _clamped(b, far, y[1], second)]


def _riding(a: int, b: int, mount: str, random: Random) -> list[Placed]:
    """The rider sits on the back of a larger mount, behind its head, and hides little of it."""
    box = bank().box
    rider, side = random.uniform(46, 54), random.uniform(78, 92)
    tall = 0.88 * box[a][1] * rider
    seat_y = bank().seat(b, mount)[1]
    rise = tall - seat_y * box[b][1] * side  # of the rider's head over the mount's
    side = min(side, (SIZE - 6 - max(0.0, tall)) / (box[b][1] * (1 - seat_y))) if rise > 0 else side
    height = box[b][1] * side
    bottom = SIZE - 3 - random.uniform(0, 8)
    bottom = max(bottom, min(SIZE - 2, (1 - seat_y) * height + tall + 3))
    x = 64 + random.uniform(-12, 12)
    body = _clamped(b, x, bottom - height / 2, side)
    sit_x, sit_y = bank().seated(body, mount, a, rider)
    return [body, _clamped(a, sit_x + random.uniform(-3, 3), sit_y, rider)]


def draw_scenes(scenes: list[Scene], random: Random, device: str | torch.device = "cpu") -> Tensor:
    """Images of scenes, uint8 `(n, 3, 128, 128)`."""
    return draw([arrange(scene, random) for scene in scenes], device)


def render(scenes: list[Scene], random: Random) -> "np.ndarray":
    """Render one image of each scene.

    Args:
        scenes: The scenes; a background or a colour that is None is chosen at random.
        random: The generator of positions, sizes, and what is not stated.

    Returns:
        (n, 128, 128, 3), uint8.

    Examples:
        >>> from random import Random
        >>> from cfglab.scenes.vocabulary import Scene
        >>> render([Scene("cat"), Scene("butterfly", count=3)], Random(0)).shape
        (2, 128, 128, 3)
    """
    return draw_scenes(scenes, random).permute(0, 2, 3, 1).contiguous().numpy()
