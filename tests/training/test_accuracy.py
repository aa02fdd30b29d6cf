"""The tables of accuracy: each kind of image is what its row says, and the numbers are those of the classifier."""

import re

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from cfglab.scenes import folder
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.classifier_network import FEATURES, PARTS
from cfglab.scenes.vocabulary import COLOURED, SceneLabels
from training import accuracy, spoil
from training.accuracy import DAMAGED, EMPTY, OneKind


class Always(nn.Module):
    """A network that gives one answer to every image: class 1 of the parts that are named, else "none"."""

    def __init__(self, *named: str) -> None:
        super().__init__()
        self.named = named

    def read(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        one = {part: torch.eye(1 + len(names))[int(part in self.named)] for part, names in PARTS.items()}
        logits = {part: row.expand(len(pixels), -1) for part, row in one.items()}
        return torch.zeros(len(pixels), FEATURES), logits, torch.empty(0)


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


def test_the_tables_have_the_numbers_of_two_classifiers_and_stand_between_the_marks(tmp_path, monkeypatch):
    """Classifier 1 finds nothing, classifier 2 calls everything whole and finds nothing else."""
    networks = {1: Always(), 2: Always("whole")}
    monkeypatch.setattr(SceneClassifier, "load", lambda which: SceneClassifier(networks[which]))
    monkeypatch.setattr(accuracy, "rebuilt", lambda _vae, pictures: pictures)
    monkeypatch.setattr("sys.argv", ["accuracy", "--count", "3", "--page", str(tmp_path / "page.md")])
    (tmp_path / "page.md").write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    accuracy.main()
    page = (tmp_path / "page.md").read_text()
    assert re.fullmatch(r"before\n<!-- table -->\n\|.*\|\n<!-- end of table -->\nafter\n", page, re.DOTALL)
    assert "old" not in page
    rows = rows_of(page)
    whole = [row for row in rows if row[1:3] == ["3", "1"] and len(row) == 12]
    lenient = [row for row in rows if row[1:3] == ["3", "2"] and len(row) == 12]
    assert [row[0] for row in whole] == [
        *("seen compositions", "held-out compositions"),
        *("seen compositions, after the autoencoder", "held-out compositions, after the autoencoder"),
        "a background alone",
    ]
    exact, part = 3, {name: 4 + i for i, name in enumerate(accuracy.PARTS)}
    assert {row[exact] for row in whole + lenient} == {"0.0"}
    assert [row[part["whole"]] for row in whole] == [*["0.0"] * 4, "100.0"]
    assert [row[part["whole"]] for row in lenient] == [*["100.0"] * 4, "0.0"]
    assert {row[part["a"]] for row in whole[:4]} == {"0.0"}
    assert [whole[4][part[name]] for name in ("a", "b", "count", "background")] == ["100.0", "100.0", "100.0", "0.0"]
    damaged = [row for row in rows if row[0] in {kind.title for kind in DAMAGED}]
    assert [row[0] for row in damaged] == [kind.title for kind in DAMAGED]
    assert {tuple(row[1:]) for row in damaged} == {("3", "100.0", "0.0", "100.0", "0.0")}


def test_a_right_answer_is_exact_and_a_wrong_part_is_not():
    there = SceneLabels(whole=True, a="cat", count=2, background="white")
    wrong = SceneLabels(whole=True, a="cat", count=3, background="white")
    found = accuracy.shares([there, wrong], [there, there])
    assert (found["exact"], found["count"], found["a"], found["whole"]) == (0.5, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("held_out", [False, True])
def test_whole_scenes_are_whole_and_seeded(held_out):
    pictures, labels = accuracy.of_scenes(held_out, 4)
    assert pictures.shape == (4, 3, 128, 128)
    assert all(found.whole and found.a and found.background for found in labels)
    again, same = accuracy.of_scenes(held_out, 4)
    assert torch.equal(pictures, again)
    assert labels == same


@pytest.mark.parametrize("kind", DAMAGED, ids=lambda kind: kind.title)
def test_a_kind_of_damage_is_done_to_every_image_and_no_other(kind, monkeypatch):
    done = []

    def noted(damage):
        return lambda sprite, random: done.append(damage) or damage(sprite, random)

    monkeypatch.setattr(spoil, "DAMAGES", tuple(map(noted, spoil.DAMAGES)))
    before = spoil.DAMAGES
    own = kind.name == "damaged"
    monkeypatch.setattr(
        spoil, "damaged", spoil.damaged if own else lambda *_: pytest.fail("an object that has one colour")
    )
    noting = accuracy.Kind(kind.title, kind.name, tuple(map(noted, kind.damages)), kind.fits)
    pictures, labels = accuracy.of_kind(noting, 3)
    assert pictures.shape == (3, 3, 128, 128)
    assert not any(found.whole for found in labels)
    assert set(done) == (set(kind.damages) if own else set())
    assert spoil.DAMAGES is before


def test_two_colours_are_asked_of_objects_that_have_them_and_halves_of_those_that_differ():
    colours = next(kind for kind in DAMAGED if kind.name == "swapped")
    stream = OneKind(0, colours)
    for _ in range(50):
        scene = stream.scene()
        assert scene.a in COLOURED
        assert scene.b is None or scene.b in COLOURED
    halves = OneKind(0, DAMAGED[spoil.DAMAGES.index(spoil._two_headed)])
    assert not {halves.scene().a for _ in range(200)} & spoil.SYMMETRIC


def test_a_background_alone_has_no_object():
    pictures, labels = accuracy.of_kind(EMPTY, 3)
    assert all(found == SceneLabels(background=found.background) and found.background for found in labels)
    assert (pictures.float().std(-1) < 1).all()


def test_the_autoencoder_of_the_package_gives_an_image_back():
    vae = AutoencoderKL.from_pretrained(folder() / "vae").eval()
    pictures, _ = accuracy.of_scenes(False, 2)
    error = (accuracy.rebuilt(vae, pictures).float() - pictures.float()).square().mean()
    assert error < 650  # 20 dB
