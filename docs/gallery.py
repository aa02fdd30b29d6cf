"""Write docs/gallery.md and docs/images/gallery/: every method on one prompt and seed, at its default and a high scale.

    python docs/gallery.py [METHOD …] [--page]

`make gallery` runs this, about three minutes on two cores. With --page only the page is written.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.experiments.storage.files import write_whole
from cfglab.guidance import Guidance, parse_guidance
from cfglab.pipelines import guide, load
from cfglab.schedules import Constant
from docs.methods_images import example
from docs.methods_page import GROUPS, SHOWN, anchor, card_of

PAGE = Path(__file__).parent / "gallery.md"
IMAGES = "images/gallery"
PROMPT = "an astronaut riding a horse on a yellow background"
SEED = 0
STEPS = 20
GAP = 4  # pixels between the two images
SCALE, FACTOR = 4, 3
"""The scale of a method whose schedule is a plain number, and how many times as large the high scale is."""
TEXT = {"constant": str(SCALE), "wang_v": "wang_v(w0=3)", "wang_lambda": "wang_lambda(w0=3)"}
"""Methods that are written otherwise than in the comparison of methods."""
OWN_SCALE = ("update_norm", "full_norm", "update_power", "feedback", "autoguidance")
"""Methods whose scale does not mean what w means in plain guidance: they keep that of their example."""
HIGH = {
    "autoguidance": "1 | autoguidance(w=6, model=twin)",
    "feedback": "1 | feedback(pi=0.999, t0=0.556, tau=0.0494, max=12)",
}
"""Methods that have a scale of their own: the high one."""

INTRO = f"""\
# Gallery

Every method of the [catalogue](methods.md) that this model can show on one prompt, *{PROMPT}*,
and one starting noise (seed {SEED}, Euler, {STEPS} steps, the bundled model). Each pair has the method at its default
on the left, and with {FACTOR} times the scale on the right, where plain guidance begins to burn. Where a method comes
after a bar, w is {SCALE}, about the best scale of this model.

One image shows what a method does, not whether it helps: [Every method](findings/methods.md) compares fourteen
of them on 512 images each, and all of them on 128. `make gallery` generates this page again.
"""


def pair(name: str) -> tuple[Guidance, Guidance]:
    """The guidance of a method at its default and at the high scale.

    Args:
        name: The name of a schedule or transform in text.
    """
    default = parse_guidance(TEXT.get(name) or example(name))
    if default.transforms and name not in OWN_SCALE:
        default = Guidance(SCALE, default.transforms)
    if name in HIGH:
        return default, parse_guidance(HIGH[name])
    schedule = default.schedule
    high = Constant(round(schedule.values(1)[0] * FACTOR, 9)) if isinstance(schedule, Constant) else schedule * FACTOR
    return default, Guidance(high, default.transforms)


def page() -> str:
    """The page, as Markdown."""
    parts = [INTRO]
    for group, names in GROUPS.items():
        parts += [f"## {group}\n", '<div class="grid cards" markdown>\n']
        for name in filter(SHOWN.__contains__, names):
            title = card_of(name).title
            default, high = pair(name)
            if name in HIGH:
                then = f"`{high}`"
            else:
                then = f"w = {high.schedule}" if isinstance(high.schedule, Constant) else f"{FACTOR} times that"
            parts += [
                f"-   ![{title}: the default, and {FACTOR} times the scale]({IMAGES}/{name}.webp)"
                + "{ .gallery-image loading=lazy }\n",
                f"    [**{title}**](methods.md#{anchor(title)})\n",
                f"    `{TEXT.get(name, default)}`, then {then}\n",
            ]
        parts.append("</div>\n")
    return "\n".join(parts)


def image_of(pipe: Any, name: str) -> Image.Image:
    """The image of one method: its default beside the high scale, RGBA, with a transparent gap.

    Args:
        pipe: The bundled model.
        name: The name of a schedule or transform in text.
    """
    noise = [torch.Generator().manual_seed(SEED) for _ in range(2)]
    with guide(pipe, list(pair(name))):
        left, right = pipe([PROMPT] * 2, num_inference_steps=STEPS, generator=noise).images
    both = Image.new("RGBA", (left.width + GAP + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width + GAP, 0))
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="their names in text; all if left out")
    parser.add_argument("--page", action="store_true", help="only the page, no images")
    options = parser.parse_args()
    if not options.page:
        folder = PAGE.parent / IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        pipe = load("scenes", sampler="euler")
        pipe.set_progress_bar_config(disable=True)
        for name in options.methods or SHOWN:
            file = io.BytesIO()
            image_of(pipe, name).save(file, format="webp", quality=90, method=6)
            write_whole(folder / f"{name}.webp", file.getvalue())
            print(f"{card_of(name).title}: {len(file.getvalue()):,} bytes", flush=True)
        for old in folder.glob("*.webp"):
            if old.stem not in SHOWN:
                old.unlink()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
