"""Draw the sprites of `scenes` from Noto Color Emoji (SIL OFL 1.1), once; needs Pillow and the font.

python -m training.make_sprites [FONT]      # Debian: apt-get install fonts-noto-color-emoji
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from cfglab.scenes import png
from cfglab.scenes.vocabulary import OBJECTS

DRAWN = (
    *("🧑\u200d🚀", "🐎", "🚀", "🍎", "🐈", "🐕", "🌳", "🏠", "🚗", "🌞", "🌙", "⭐"),
    *("🎈", "🐟", "🌹", "🍌", "🍄", "🐸", "🐥", "🦋", "🍰", "🐢", "🐘", "🛸"),
    *("🌷", "☂️", "📕", "🐦", "🐧", "🦕", "🤖", "🐖"),
)  # in the order of OBJECTS
SIDE = 96  # pixels of the longer side; the renderer only ever shrinks
FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"


def draw(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((50, 50), text, font=font, embedded_color=True)
    sprite = canvas.crop(canvas.getbbox())
    scale = SIDE / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    return sprite.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def main() -> None:
    font = ImageFont.truetype(sys.argv[1] if len(sys.argv) > 1 else FONT, 109)
    folder = Path(png.__file__).parent / "sprites"
    for name, text in zip(OBJECTS, DRAWN, strict=True):
        sprite = draw(text, font)
        pixels = torch.frombuffer(bytearray(sprite.tobytes()), dtype=torch.uint8).view(sprite.height, sprite.width, 4)
        png.write(folder / f"{name}.png", (pixels * (pixels[..., 3:] > 0)).permute(2, 0, 1))


if __name__ == "__main__":
    main()
