"""Does the reader see what a person sees? Sheets of images to label by eye, and the agreement with the reader.

    python -m training.by_eye sheets runs/scale --out eye/     # eye/sheet-1.png …, eye/labels.csv to fill in
    python -m training.by_eye agree runs/scale --out eye/      # after column `eye` holds 1 (all right) or 0

The images are drawn at random from the settings w = 1, 3 and 15, mixed, and shown with their prompt alone: whoever
labels sees neither the scale nor the reader's answer.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cfglab.experiments.storage.store import Store

SETTINGS = {"no guidance": 34, "constant w=3": 33, "constant w=15": 33}
COLUMNS, ROWS, SIDE, TEXT = 5, 5, 192, 44


def pictures(folder: Path) -> list[dict[str, str]]:
    """The drawn images: number, setting, prompt, seed, image."""
    rng = np.random.default_rng(0)
    rows = []
    with Store.open(folder) as store:
        results = store.results()
    for setting, count in SETTINGS.items():
        of_setting = [result for result in results if result.setting == setting and result.image]
        rows += [of_setting[i] for i in rng.choice(len(of_setting), count, replace=False)]
    order = rng.permutation(len(rows))
    return [
        {"number": str(n + 1), "setting": rows[i].setting, "prompt": rows[i].prompt, "seed": str(rows[i].seed)}
        | {"image": str(rows[i].image), "reader": str(int(rows[i].metrics["alignment"]))}
        for n, i in enumerate(order)
    ]


def sheets(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows = pictures(folder)
    for first in range(0, len(rows), COLUMNS * ROWS):
        sheet = Image.new("RGB", (COLUMNS * (SIDE + 12), ROWS * (SIDE + TEXT)), "white")
        draw = ImageDraw.Draw(sheet)
        for place, row in enumerate(rows[first : first + COLUMNS * ROWS]):
            x, y = (place % COLUMNS) * (SIDE + 12), (place // COLUMNS) * (SIDE + TEXT)
            picture = Image.open(folder / row["image"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x, y))
            draw.text((x, y + SIDE + 2), f"{row['number']}. {wrapped(row['prompt'])}", fill="black")
        sheet.save(out / f"sheet-{first // (COLUMNS * ROWS) + 1}.png")
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "prompt", "eye"))
        writer.writerows((row["number"], row["prompt"], "") for row in rows)


def wrapped(prompt: str, width: int = 30) -> str:
    lines = [""]
    for word in prompt.removeprefix("a photograph of ").removeprefix("an image of ").split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(lines)


def agree(folder: Path, out: Path) -> None:
    """Print the agreement for each setting, and Cohen's kappa over all; write what was compared to by-eye.csv."""
    with (out / "labels.csv").open(newline="") as file:
        eye = {row["number"]: int(row["eye"]) for row in csv.DictReader(file)}
    rows = [row | {"eye": str(eye[row["number"]])} for row in pictures(folder)]
    with (out / "by-eye.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("number", "setting", "prompt", "seed", "reader", "eye"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for setting in (*SETTINGS, "all"):
        both = [(int(row["reader"]), int(row["eye"])) for row in rows if setting in (row["setting"], "all")]
        reader, person = np.array(both).T
        print(
            f"{setting}: n = {len(both)}, agree {np.mean(reader == person):.0%}; right for the reader "
            f"{reader.mean():.0%}, for the eye {person.mean():.0%}; reader only {np.sum(reader > person)}, "
            f"eye only {np.sum(person > reader)}"
        )
    chance = reader.mean() * person.mean() + (1 - reader.mean()) * (1 - person.mean())
    print(f"kappa {(np.mean(reader == person) - chance) / (1 - chance):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("sheets", "agree"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    {"sheets": sheets, "agree": agree}[options.task](options.folder, options.out)


if __name__ == "__main__":
    main()
