"""Do the classifiers see what a person sees? Sheets of images to label by eye, and the agreement with the labels.

python -m training.by_eye sheets RUN --out eye     # eye/sheet-01.png …, and eye/labels.csv to fill in
python -m training.by_eye agree RUN --out eye      # when labels.csv has 1 or 0 beside the numbers
python -m training.by_eye repeat eye/labels.csv eye/second.csv     # the same images labelled a second time

The images of a finished run are picked at random, as many of each setting as of any other, and shown in random order
with their prompt alone: whoever labels sees neither the setting nor what a classifier finds. A label is 1 if everything
that the prompt states is there, whole and recognizable, and nothing else; otherwise it is 0. `key.csv` says which image
of the run has which number.
"""

import argparse
import csv
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cfglab.experiments.scoring.scorer import as_floats
from cfglab.experiments.storage.png import read_pixels
from cfglab.experiments.storage.results import Result
from cfglab.experiments.storage.store import Store
from cfglab.scenes.alignment import prompt_alignment
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.vocabulary import read_caption

KEY, LABELS = "key.csv", "labels.csv"
GAP, FONT_SIZE, LINES = 12, 14, 3
CLASSIFIERS: tuple[Literal[1, 2], ...] = (1, 2)


@dataclass(frozen=True)
class Judged:
    """An image with a label.

    Attributes:
        number: The number on the sheets.
        setting: The setting that made it.
        eye: The label by eye.
        found: Of each of the two classifiers, whether it finds what the prompt states.
    """

    number: int
    setting: str
    eye: bool
    found: tuple[bool, ...]


def pick(results: Sequence[Result], count: int, seed: int) -> list[Result]:
    """Images of a run, evenly over its settings, in random order.

    Args:
        results: The results of the run; those without an image or without a prompt of the world are left out.
        count: How many; all of them if there are fewer.
        seed: The seed of the choice.
    """
    random = Random(seed)
    by_setting: dict[str, list[Result]] = {}
    for result in results:
        if result.image is not None and read_caption(result.prompt) is not None:
            by_setting.setdefault(result.setting, []).append(result)
    shuffled = [random.sample(rows, len(rows)) for rows in by_setting.values()]
    random.shuffle(shuffled)  # settings that get one image more than others are chosen at random, too
    rounds = max(map(len, shuffled), default=0)
    chosen = [rows[i] for i in range(rounds) for rows in shuffled if i < len(rows)][:count]
    random.shuffle(chosen)
    return chosen


def sheet(images: Sequence[tuple[int, Image.Image, str]], pixels: int, columns: int) -> Image.Image:
    """One sheet: numbered images, each with its prompt under it.

    Args:
        images: Number, image and prompt of each.
        pixels: The side of an image on the sheet.
        columns: How many stand side by side.
    """
    font = ImageFont.load_default(FONT_SIZE)
    width, height = pixels + GAP, pixels + (LINES + 1) * (FONT_SIZE + 4)
    rows = -(-len(images) // columns)
    made = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(made)
    for place, (number, image, prompt) in enumerate(images):
        x, y = GAP + place % columns * width, GAP + place // columns * height
        made.paste(image.resize((pixels, pixels), Image.Resampling.LANCZOS), (x, y))
        text = textwrap.fill(f"{number}. {prompt}", max(10, pixels // 8), max_lines=LINES)
        draw.multiline_text((x, y + pixels + 4), text, "black", font)
    return made


def sheets(run: Path, out: Path, *, pixels: int, columns: int, rows: int, seed: int, count: int) -> int:
    """Write the sheets, `key.csv` and an empty `labels.csv`, and return how many images there are.

    Args:
        run: A run folder.
        out: The folder of the sheets; labels that are there already are not overwritten.
        pixels: The side of an image on a sheet.
        columns: Images side by side.
        rows: Images one below the other.
        seed: The seed of the choice.
        count: How many images.
    """
    with Store.open(run) as store:
        chosen = pick(store.results(), count, seed)
    if not chosen:
        raise SystemExit(f"{run}: no image of a prompt of the world of scenes")
    if (out / LABELS).exists():
        raise SystemExit(f"{out / LABELS}: labels are there already; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(chosen), columns * rows):
        part = enumerate(chosen[first : first + columns * rows], first + 1)
        images = [(n, Image.fromarray(read_pixels(run / str(result.image))), result.prompt) for n, result in part]
        sheet(images, pixels, columns).save(out / f"sheet-{first // (columns * rows) + 1:02d}.png")
    numbered = list(enumerate(chosen, 1))
    _write(out / KEY, ("number", "cell", "setting"), [(n, result.cell, result.setting) for n, result in numbered])
    _write(out / LABELS, ("number", "label"), [(n, "") for n, _ in numbered])
    return len(chosen)


def judged(run: Path, out: Path, labels: Path) -> list[Judged]:
    """The images that have a label, with what both classifiers find.

    Args:
        run: The run folder.
        out: The folder with `key.csv`.
        labels: The labels; a number whose label is empty is left out.
    """
    eye = read_labels(labels)
    key = [row for row in _read(out / KEY) if row["number"] in eye]
    if not key:
        raise SystemExit(f"{labels}: no number of it is in {out / KEY}; give the folder with the key of these images")
    with Store.open(run) as store:
        of_cell = {result.cell: result for result in store.results()}
    chosen = [of_cell[row["cell"]] for row in key]
    pixels = as_floats(np.stack([read_pixels(run / str(result.image)) for result in chosen]))
    found = [
        [
            prompt_alignment(result.prompt, scene)["alignment"] == 1
            for result, scene in zip(chosen, SceneClassifier.load(which).classify(pixels), strict=True)
        ]
        for which in CLASSIFIERS
    ]
    return [
        Judged(int(row["number"]), row["setting"], eye[row["number"]], both)
        for row, both in zip(key, zip(*found, strict=True), strict=True)
    ]


def read_labels(path: Path) -> dict[str, bool]:
    """Labels by number; a number whose label is empty is left out."""
    eye = {row["number"]: row["label"].strip() for row in _read(path)}
    if wrong := sorted(number for number, label in eye.items() if label not in ("", "0", "1")):
        raise SystemExit(f"{path}: a label is 1, 0 or empty; read number {', '.join(wrong)} again")
    if not any(eye.values()):
        raise SystemExit(f"{path}: no label yet")
    return {number: label == "1" for number, label in eye.items() if label}


def repeated(first: dict[str, bool], second: dict[str, bool]) -> str:
    """How two readings of the same images agree, a table in Markdown: the most that a classifier can reach.

    Args:
        first: The labels of one reading.
        second: The labels of the other; numbers that only one of them has are left out.
    """
    both = [(first[number], second[number]) for number in first if number in second]
    if not both:
        raise SystemExit("no number has a label in both files; label the same images a second time")
    one, other = zip(*both, strict=True)
    return (
        "| n | right, first reading | right, second | agreement | kappa | first only | second only |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {len(both)} | {np.mean(one):.0%} | {np.mean(other):.0%} | {np.mean(np.equal(one, other)):.0%} "
        f"| {kappa(one, other):.2f} | {both.count((True, False))} | {both.count((False, True))} |"
    )


def kappa(eye: Sequence[bool], found: Sequence[bool]) -> float:
    """Cohen's kappa of two judges; NaN where both give one and the same answer throughout."""
    n, one, other = len(eye), sum(eye), sum(found)
    agreed, chance = n * sum(map(eq, eye, found)), one * other + (n - one) * (n - other)
    return (agreed - chance) / (n * n - chance) if chance < n * n else float("nan")


def report(images: Sequence[Judged]) -> str:
    """The agreement by setting and in all, a table in Markdown, and the numbers of the images in dispute."""
    lines = [
        "| setting | n | right by eye | classifier | right | agreement | kappa | classifier only | eye only |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    settings = sorted({image.setting for image in images})
    for setting in (*settings, None):
        rows = [image for image in images if setting in (image.setting, None)]
        eye = [image.eye for image in rows]
        for which in CLASSIFIERS:
            found = [image.found[which - 1] for image in rows]
            agreed = float(np.mean(np.equal(eye, found)))
            only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((found, eye), (eye, found))]
            lines.append(
                f"| {setting or 'all'} | {len(rows)} | {np.mean(eye):.0%} | {which} | {np.mean(found):.0%} "
                f"| {agreed:.0%} | {kappa(eye, found):.2f} | {only[0]} | {only[1]} |"
            )
    for which in CLASSIFIERS:
        for name, right in (("classifier", False), ("eye", True)):
            numbers = [str(i.number) for i in images if i.eye is right and i.found[which - 1] is not right]
            lines.append(f"\nclassifier {which}, right for the {name} only: {', '.join(numbers) or 'none'}")
    return "\n".join(lines)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    make, compare = tasks.add_parser("sheets"), tasks.add_parser("agree")
    for task in (make, compare):
        task.add_argument("run", type=Path, help="the folder of a finished run")
        task.add_argument("--out", type=Path, required=True, help="the folder of the sheets")
    make.add_argument("--pixels", type=int, default=256, help="the side of an image on a sheet")
    make.add_argument("--columns", type=int, default=4)
    make.add_argument("--rows", type=int, default=3)
    make.add_argument("--seed", type=int, default=0, help="of the choice")
    make.add_argument("--count", type=int, default=120, help="how many images")
    compare.add_argument("--labels", type=Path, help="by default labels.csv beside the sheets")
    again = tasks.add_parser("repeat")
    again.add_argument("first", type=Path, help="labels.csv of one reading")
    again.add_argument("second", type=Path, help="labels.csv of another reading of the same images")
    given = parser.parse_args()
    if given.task == "repeat":
        print(repeated(read_labels(given.first), read_labels(given.second)))
    elif given.task == "sheets":
        layout = {name: getattr(given, name) for name in ("pixels", "columns", "rows", "seed", "count")}
        print(f"{sheets(given.run, given.out, **layout)} images in {given.out}")
    else:
        print(report(judged(given.run, given.out, given.labels or given.out / LABELS)))


if __name__ == "__main__":
    main()
