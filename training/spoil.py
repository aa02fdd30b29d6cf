"""Images with known answers for the classifiers: real scenes, and scenes with an object that a person calls wrong.

An object is damaged as a model damages it: a part missing, doubled, two heads, melted, half of another object, two
objects blended, two colours. Such an image is not whole, whatever else is right in it.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from cfglab.scenes import renderer
from cfglab.scenes.classifier_network import PARTS
from cfglab.scenes.renderer import SPRITES, Layout, Placed
from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURED, Scene
from training.source import SceneSource

ASK_NOT = -1
Answer = dict[str, int]


def number(part: str, name: str | None) -> int:
    """Class number of a name; 0 for none."""
    return 0 if name is None else PARTS[part].index(name) + 1


def answer(layout: Layout, scene: Scene) -> Answer:
    """What a layout shows. `a` is the rider or the upper object; of two side by side or apart, the one on the left."""
    seen = [(*SPRITES[placed.sprite], placed) for placed in layout.sprites]
    arranged = None
    if scene.b is not None:
        if scene.relation == "riding":
            seen.reverse()  # drawn after its mount
            arranged = "riding"
        else:
            first, second = seen[0][2], seen[1][2]
            across, down = abs(first.x - second.x), abs(first.y - second.y)
            arranged = "beside" if across > 2 * down else "above" if down > 2 * across else "apart"
            seen.sort(key=lambda each: each[2].y if arranged == "above" else each[2].x)
    background = list(BACKGROUNDS)[layout.background]
    found = {"whole": 1, "arranged": number("arranged", arranged), "background": number("background", background)}
    for key, each in zip("ab", [*seen[:2], None] if scene.b else [seen[0], None], strict=False):
        found[key] = number(key, each[0] if each else None)
        found[f"colour_{key}"] = number(f"colour_{key}", each[1] if each else None)
    found["count"] = scene.count if scene.b is None else 0
    return found


def _erased(sprite: Tensor, random: Random) -> Tensor:
    """One side of it gone, 30 to 60 % of what is seen."""
    side = sprite.shape[-1]
    line = torch.linspace(-1, 1, side)
    angle = torch.tensor(random.uniform(0, 6.2832))
    height = line[:, None] * angle.sin() + line[None] * angle.cos()
    seen = height[sprite[3] > 0.3]
    return sprite * (height < seen.quantile(random.uniform(0.4, 0.7))).float()


def _doubled(sprite: Tensor, random: Random) -> Tensor:
    """A second copy behind it, moved by a part of its size."""
    far = (random.choice((-1, 1)) * random.randint(16, 34), random.randint(-14, 14))
    return _over(sprite, torch.roll(sprite, far[:: random.choice((1, -1))], (1, 2)))


def _over(front: Tensor, back: Tensor) -> Tensor:
    return front + (1 - front[3:]) * back


def _two_headed(sprite: Tensor, random: Random) -> Tensor:
    """One half of it and its mirror image."""
    middle = sprite.shape[-1] // 2 + random.randint(-6, 6)
    mirrored = sprite.flip(2)
    left = torch.arange(sprite.shape[-1]) < middle
    return torch.where(left if random.random() < 0.5 else ~left, sprite, mirrored)


def _melted(sprite: Tensor, random: Random) -> Tensor:
    """Smeared along a coarse random field, or blurred beyond recognition."""
    if random.random() < 0.35:
        size = random.choice((13, 17, 21))
        return functional.avg_pool2d(functional.avg_pool2d(sprite[None], size, 1, size // 2), size, 1, size // 2)[0]
    generator = torch.Generator().manual_seed(random.getrandbits(32))
    field = torch.randn(1, 2, random.choice((4, 5, 6)), random.choice((4, 5, 6)), generator=generator)
    field = functional.interpolate(field, sprite.shape[1:], mode="bicubic") * random.uniform(0.16, 0.30)
    line = torch.linspace(-1, 1, sprite.shape[-1])
    grid = torch.stack([line[None].expand(len(line), -1), line[:, None].expand(-1, len(line))], -1)
    return functional.grid_sample(sprite[None], grid[None] + field.permute(0, 2, 3, 1), align_corners=True)[0]


def _chimera(sprite: Tensor, random: Random) -> Tensor:
    """Half of it, half of another object; or both at once."""
    other = renderer.bank().sprites[random.randrange(len(SPRITES))]
    if random.random() < 0.4:
        share = random.uniform(0.35, 0.65)
        return share * sprite + (1 - share) * other
    side = sprite.shape[-1]
    first = torch.arange(side) < side / 2 + random.uniform(-10, 10)
    return torch.where(first if random.random() < 0.5 else first[:, None], sprite, other)


Damage = Callable[[Tensor, Random], Tensor]
DAMAGES: tuple[Damage, ...] = (_erased, _doubled, _two_headed, _melted, _chimera)
SYMMETRIC = {"sun", "star", "frog", "robot", "tree", "mushroom", "astronaut", "umbrella", "chick", "balloon", "rose"}
SYMMETRIC |= {"apple", "flower", "house", "butterfly"}  # two halves of one side look whole


def damaged(row: int, random: Random, damages: tuple[Damage, ...]) -> Tensor:
    """A sprite that a person calls wrong: it differs on more than a fifth of what is seen."""
    sprite = renderer.bank().sprites[row]
    while True:
        damage = random.choice(damages)
        if damage is _two_headed and SPRITES[row][0] in SYMMETRIC:
            continue
        made = damage(sprite, random).clamp(0, 1)
        made[:3] = torch.minimum(made[:3], made[3:])
        seen = torch.maximum(sprite[3], made[3]) > 0.3
        if float(((made - sprite).abs().sum(0) > 0.35)[seen].float().mean()) > 0.22:
            return made


class Labeller:
    """A seeded stream of layouts with answers and the damaged sprites they use. Held-out compositions occur too."""

    KINDS = ("real", "damaged", "third", "swapped", "empty")
    SHARES = (0.50, 0.37, 0.06, 0.04, 0.03)

    def __init__(self, seed: int, shares: tuple[float, ...] = SHARES, damages: tuple[Damage, ...] = DAMAGES) -> None:
        self.shares, self.damages = shares, damages
        self.random = Random(seed)
        self.seen, self.held_out = SceneSource(seed), SceneSource(seed + 1, held_out=True)

    def scene(self) -> Scene:
        return (self.held_out if self.random.random() < 0.25 else self.seen).scene()

    def pictures(self, count: int, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        """Images uint8 `(count, 3, 128, 128)` and the class numbers of every part `(count,)`."""
        return self.pictures_with_cells(count, device)[:2]

    def pictures_with_cells(self, count: int, device: torch.device) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The same, and what each of 8×8 cells shows, as `draw_with_cells` counts; damaged sprites come last."""
        layouts, answers = [], []
        extra: list[Tensor] = []
        for _ in range(count):
            scene = self.scene()
            layout, found = self._labelled(scene, renderer.arrange(scene, self.random), extra)
            layouts.append(layout)
            answers.append(found)
        bank = torch.cat([renderer.bank().sprites, *(sprite[None] for sprite in extra)])
        table = {part: torch.tensor([found[part] for found in answers], device=device) for part in PARTS}
        pictures, cells = renderer.draw_with_cells(layouts, device, bank)
        return pictures, table, cells

    def _labelled(self, scene: Scene, layout: Layout, extra: list[Tensor]) -> tuple[Layout, Answer]:
        random, found = self.random, answer(layout, scene)
        kind = random.choices(self.KINDS, self.shares)[0]
        if kind == "real":
            return layout, found
        if kind == "empty":
            return replace(layout, sprites=()), {**dict.fromkeys(PARTS, 0), "background": found["background"]}
        wrong = {**dict.fromkeys(PARTS, ASK_NOT), "whole": 0, "background": found["background"]}
        if kind == "third":  # one object too many
            placed = Placed(random.randrange(len(SPRITES)), random.uniform(24, 104), random.uniform(24, 104), 44)
            return replace(layout, sprites=(*layout.sprites, placed)), wrong
        which = random.randrange(len(layout.sprites))
        placed = layout.sprites[which]
        made = self._two_colours(placed.sprite) if kind == "swapped" else damaged(placed.sprite, random, self.damages)
        extra.append(made)
        sprites = list(layout.sprites)
        sprites[which] = replace(placed, sprite=len(SPRITES) + len(extra) - 1)
        return replace(layout, sprites=tuple(sprites)), wrong

    def _two_colours(self, row: int) -> Tensor:
        """Half of it in another of its colours; an object of one colour is damaged instead."""
        name, colour = SPRITES[row]
        others = [other for other in COLOURED.get(name, ()) if other != colour]
        if not others:
            return damaged(row, self.random, self.damages)
        bank = renderer.bank()
        one, other = bank.sprites[row], bank.sprites[bank.rows[name, self.random.choice(others)]]
        first = torch.arange(one.shape[-1]) < one.shape[-1] / 2 + self.random.uniform(-12, 12)
        return torch.where(first if self.random.random() < 0.5 else first[:, None], one, other)
