"""The gallery shows every method of the catalogue that the bundled model can, as the model generates it now."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfglab.guidance import TRANSFORMS
from cfglab.pipelines import load
from cfglab.schedules.published.cards import CARDS
from docs import gallery
from docs.methods_page import SHOWN

METHODS = [name for name in (*CARDS, *TRANSFORMS) if name in SHOWN]
FOLDER = gallery.PAGE.parent / gallery.IMAGES


def test_the_page_is_what_the_catalogue_says() -> None:
    text = gallery.PAGE.read_text(encoding="utf-8")
    assert text == gallery.page(), "run `make gallery`"
    assert text.count("](methods.md#") == len(METHODS)


def test_every_method_has_one_small_image() -> None:
    assert {path.name for path in FOLDER.glob("*")} == {f"{name}.webp" for name in METHODS}, "make gallery"
    assert sum(path.stat().st_size for path in FOLDER.glob("*")) < 600_000
    for path in FOLDER.glob("*"):
        with Image.open(path) as image:
            assert image.size == (128 + gallery.GAP + 128, 128)


def test_the_high_scale_is_three_times_the_default() -> None:
    default, high = gallery.pair("apg")
    assert (str(default), str(high)) == ("4 | apg()", "12 | apg()")
    for name in CARDS:
        default, high = gallery.pair(name)
        if default.schedule.reads_sigma():
            continue  # its values need the noise levels of a run
        for w, scaled in zip(default.schedule.values(20), high.schedule.values(20), strict=True):
            off = w == scaled == 1
            assert off or scaled == pytest.approx(3 * w), name


def test_plain_guidance_is_what_diffusers_generates_with_that_prompt_and_seed() -> None:
    pipe = load("scenes", sampler="euler")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(gallery.SEED)
    expected = pipe(gallery.PROMPT, num_inference_steps=gallery.STEPS, guidance_scale=4.0, generator=generator).images[
        0
    ]
    image = Image.open(io.BytesIO((FOLDER / "constant.webp").read_bytes())).convert("RGB").crop((0, 0, 128, 128))
    difference = np.abs(np.asarray(image, dtype=float) - np.asarray(expected, dtype=float))
    assert difference.mean() < 6, "the model changed: run `make gallery`"


def test_the_page_is_in_the_navigation_and_make_writes_it() -> None:
    root = Path(__file__).parents[1]
    assert "gallery.md" in (root / "mkdocs.yml").read_text(encoding="utf-8")
    assert "docs/gallery.py" in (root / "Makefile").read_text(encoding="utf-8")
