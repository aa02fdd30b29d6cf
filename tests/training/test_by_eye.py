"""Sheets for blind labels, and the agreement of both classifiers with them, on a small run made without a model."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfglab.experiments import Store
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.vocabulary import SceneLabels
from tests.small_run import small_run
from training import by_eye

OBJECTS = ("cat", "dog", "frog")
FOUND = {"constant": (0, 1, 2), "more": (0, 1), "less": ()}
"""Setting -> the seeds whose images classifier 1 finds right; classifier 2 finds every image right but one of each."""


class Stub:
    """A classifier that reads its answer from three pixels: right for 1, right for 2, and the object."""

    def __init__(self, which: int) -> None:
        self.which = which

    def classify(self, pixels: np.ndarray) -> list[SceneLabels]:
        read = ((pixels[:, 0, 0, :3] + 1) * 127.5).round().astype(int)
        return [SceneLabels(whole=bool(row[self.which - 1]), a=OBJECTS[row[2]], count=1) for row in read]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three settings × three prompts × four seeds, with images that the stub reads."""
    folder = small_run(tmp_path / "run")
    with Store.open(folder) as store:
        for result in store.results():
            pixels = np.zeros((128, 128, 3), np.uint8)
            which = OBJECTS.index(result.prompt.split()[-1])
            pixels[0, :3, 0] = (result.seed in FOUND[result.setting], result.seed != 3, which)
            Image.fromarray(pixels).save(folder / str(result.image))
    monkeypatch.setattr(SceneClassifier, "load", Stub)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["by_eye", *map(str, words)])
    by_eye.main()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_sheets_number_the_images_and_only_the_key_knows_their_settings(run, tmp_path, monkeypatch):
    out = tmp_path / "eye"
    call(monkeypatch, "sheets", run, "--out", out, "--columns", 2, "--rows", 2, "--pixels", 64, "--count", 9)
    assert sorted(path.name for path in out.iterdir()) == [
        *("key.csv", "labels.csv"),
        *("sheet-01.png", "sheet-02.png", "sheet-03.png"),
    ]
    key = rows_of(out / "key.csv")
    assert [row["number"] for row in key] == [str(n) for n in range(1, 10)]
    assert sorted(row["setting"] for row in key) == ["constant"] * 3 + ["less"] * 3 + ["more"] * 3
    assert [row["setting"] for row in key] != sorted(row["setting"] for row in key)
    with Store.open(run) as store:
        settings = {result.cell: result.setting for result in store.results()}
    assert {row["cell"]: row["setting"] for row in key}.items() <= settings.items()
    assert rows_of(out / "labels.csv") == [{"number": str(n), "label": ""} for n in range(1, 10)]
    for sheet in out.glob("*.png"):
        with Image.open(sheet) as image:
            assert image.info == {}
    with Image.open(out / "sheet-01.png") as first, Image.open(out / "sheet-03.png") as last:
        assert first.width == last.width == 2 * 64 + 3 * by_eye.GAP
        assert first.height > last.height


def test_an_image_stands_above_its_prompt_alone():
    image = Image.new("RGB", (128, 128), (200, 0, 0))
    made = np.asarray(by_eye.sheet([(7, image, "a photograph of a cat")], 256, 2))
    gap = by_eye.GAP
    assert (made[gap : gap + 256, gap : gap + 256] == (200, 0, 0)).all()
    assert (made[:, gap + 256 + gap :] == 255).all()
    assert (made[gap + 256 :] < 100).any()  # the number and the prompt
    other = np.asarray(by_eye.sheet([(7, image, "a photograph of a dog")], 256, 2))
    assert (made != other).any()


def test_the_choice_is_seeded_and_even(run):
    with Store.open(run) as store:
        results = store.results()
    first = by_eye.pick(results, 10, 0)
    assert first == by_eye.pick(results, 10, 0)
    assert first != by_eye.pick(results, 10, 1)
    counts = sorted(sum(result.setting == name for result in first) for name in FOUND)
    assert counts == [3, 3, 4]
    assert len({result.cell for result in by_eye.pick(results, 1000, 0)}) == 36
    foreign = [result.model_copy(update={"prompt": "a red fox in the snow"}) for result in results]
    assert by_eye.pick(foreign, 10, 0) == []


def test_the_agreement_is_that_of_both_classifiers_with_the_labels(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "eye"
    call(monkeypatch, "sheets", run, "--out", out)
    key = rows_of(out / "key.csv")
    assert len(key) == 36
    with Store.open(run) as store:
        seed_of = {result.cell: result.seed for result in store.results()}
    seeds = {row["number"]: seed_of[row["cell"]] for row in key}
    # by eye the images of seeds 0 and 1 are right; one image is left out
    labels = {number: str(int(seed < 2)) for number, seed in seeds.items()}
    left_out = next(row["number"] for row in key if row["setting"] == "less" and seeds[row["number"]] == 3)
    labels[left_out] = ""
    file = tmp_path / "mine.csv"
    file.write_text("number,label\n" + "".join(f"{number},{label}\n" for number, label in labels.items()))
    capsys.readouterr()
    call(monkeypatch, "agree", run, "--out", out, "--labels", file)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| setting | n |")
    assert lines[2:10] == [
        "| constant | 12 | 50% | 1 | 75% | 75% | 0.50 | 3 | 0 |",
        "| constant | 12 | 50% | 2 | 75% | 75% | 0.50 | 3 | 0 |",
        "| less | 11 | 55% | 1 | 0% | 45% | 0.00 | 0 | 6 |",
        "| less | 11 | 55% | 2 | 82% | 73% | 0.42 | 3 | 0 |",
        "| more | 12 | 50% | 1 | 50% | 100% | 1.00 | 0 | 0 |",
        "| more | 12 | 50% | 2 | 75% | 75% | 0.50 | 3 | 0 |",
        "| all | 35 | 51% | 1 | 43% | 74% | 0.49 | 3 | 6 |",
        "| all | 35 | 51% | 2 | 77% | 74% | 0.48 | 9 | 0 |",
    ]
    setting = {row["number"]: row["setting"] for row in key}
    lenient = [n for n in seeds if setting[n] == "constant" and seeds[n] == 2]
    strict = [n for n in seeds if setting[n] == "less" and seeds[n] < 2]
    assert f"classifier 1, right for the classifier only: {', '.join(lenient)}" in lines
    assert f"classifier 1, right for the eye only: {', '.join(strict)}" in lines
    assert "classifier 2, right for the eye only: none" in lines


def test_what_is_missing_or_wrong_is_said_and_labels_are_not_overwritten(run, tmp_path, monkeypatch):
    out = tmp_path / "eye"
    call(monkeypatch, "sheets", run, "--out", out, "--count", 3)
    with pytest.raises(SystemExit, match=r"labels.csv: labels are there already"):
        call(monkeypatch, "sheets", run, "--out", out)
    with pytest.raises(SystemExit, match=r"labels.csv: no label yet"):
        call(monkeypatch, "agree", run, "--out", out)
    (out / "labels.csv").write_text("number,label\n1,1\n2,yes\n3,\n")
    with pytest.raises(SystemExit, match="a label is 1, 0 or empty; read number 2 again"):
        call(monkeypatch, "agree", run, "--out", out)
    (out / "labels.csv").write_text("number,label\n9,1\n")
    with pytest.raises(SystemExit, match=r"labels.csv: no number of it is in .*key.csv"):
        call(monkeypatch, "agree", run, "--out", out)


def test_two_readings_are_compared_on_the_images_that_both_label(tmp_path, monkeypatch, capsys):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("number,label\n1,1\n2,1\n3,0\n4,0\n5,1\n6,\n")
    second.write_text("number,label\n4,0\n3,1\n2,1\n1,0\n6,1\n")
    call(monkeypatch, "repeat", first, second)
    assert capsys.readouterr().out.splitlines()[2] == "| 4 | 50% | 50% | 50% | 0.00 | 1 | 1 |"
    second.write_text("number,label\n9,1\n")
    with pytest.raises(SystemExit, match="no number has a label in both files"):
        call(monkeypatch, "repeat", first, second)


def test_kappa_is_zero_for_chance_and_not_defined_where_nothing_varies():
    assert by_eye.kappa([True, True, False, False], [True, False, True, False]) == 0
    assert by_eye.kappa([True, False], [False, True]) == -1
    assert np.isnan(by_eye.kappa([True, True], [True, True]))
    assert by_eye.kappa([True, False, False], [True, False, True]) == pytest.approx(0.4)
