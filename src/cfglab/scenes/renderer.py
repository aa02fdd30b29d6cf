"""Render a scene: sprites pasted on a softly shaded background, 64×64 pixels, about a thousand a second.

Positions, sizes and mirroring vary with the seed; the relation fixes the layout:
`riding`, the rider overlaps the back of a larger mount; `above`, one over the other; `next to`, side by side.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from cfglab.scenes.vocabulary import BACKGROUNDS, Scene

SIZE = 64


@cache
def _sprite(name: str, side: int, mirrored: bool) -> Image.Image:
    with (files("cfglab.scenes") / "sprites" / f"{name}.png").open("rb") as file:
        sprite = Image.open(file).convert("RGBa")
    scale = side / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    sprite = sprite.resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else sprite


def _background(name: str, rng: np.random.Generator) -> Image.Image:
    colour = np.array(BACKGROUNDS[name], dtype=np.float32) + rng.uniform(-5, 5, 3)
    shade = rng.uniform(-14, 14) * np.linspace(-1, 1, SIZE)[:, None, None]
    pixels = np.broadcast_to(colour + shade, (SIZE, SIZE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _paste(canvas: Image.Image, name: str, side: int, x: float, y: float, mirrored: bool) -> None:
    """Paste a sprite centred at (x, y), pushed inwards where it would leave the canvas."""
    sprite = _sprite(name, side, mirrored)
    x0 = min(max(round(x - sprite.width / 2), 0), SIZE - sprite.width)
    y0 = min(max(round(y - sprite.height / 2), 0), SIZE - sprite.height)
    canvas.paste(sprite, (x0, y0), sprite)


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Render one image of a scene.

    Args:
        scene: The scene; a background of None is chosen at random.
        rng: The generator of positions, sizes and mirroring.

    Returns:
        (64, 64, 3), uint8.

    Examples:
        >>> import numpy as np
        >>> from cfglab.scenes.vocabulary import Scene
        >>> render(Scene(a="cat"), np.random.default_rng(0)).shape
        (64, 64, 3)
    """
    background = scene.background or str(rng.choice(list(BACKGROUNDS)))
    canvas = _background(background, rng)
    mirror_a, mirror_b = (bool(flag) for flag in rng.integers(0, 2, 2))
    jitter = rng.uniform(-1, 1, 4)
    if scene.b is None:
        side = int(rng.integers(36, 47))
        _paste(canvas, scene.a, side, 32 + 7 * jitter[0], 32 + 7 * jitter[1], mirror_a)
    elif scene.relation == "next to":
        width_a, width_b = int(rng.integers(24, 30)), int(rng.integers(24, 30))
        names = (scene.a, scene.b) if rng.integers(0, 2) else (scene.b, scene.a)
        y = 34 + 8 * jitter[0]
        _paste(canvas, names[0], width_a, 16 + 2 * jitter[1], y + 3 * jitter[3], mirror_a)
        _paste(canvas, names[1], width_b, 48 + 2 * jitter[2], y - 3 * jitter[3], mirror_b)
    elif scene.relation == "above":
        upper, lower = int(rng.integers(23, 28)), int(rng.integers(23, 28))
        x = 32 + 10 * jitter[0]
        _paste(canvas, scene.a, upper, x + 3 * jitter[1], 15 + jitter[2], mirror_a)
        _paste(canvas, scene.b, lower, x - 3 * jitter[1], 48 + jitter[3], mirror_b)
    else:
        mount, rider = int(rng.integers(35, 42)), int(rng.integers(24, 29))
        x = 32 + 7 * jitter[0]
        height = _sprite(scene.b, mount, mirror_b).height
        bottom = 61 + 2 * jitter[1]
        seat = bottom - 0.72 * height
        _paste(canvas, scene.b, mount, x, bottom - height / 2, mirror_b)
        _paste(
            canvas, scene.a, rider, x + 3 * jitter[2], seat - _sprite(scene.a, rider, mirror_a).height / 2 + 2, mirror_a
        )
    return np.asarray(canvas)
