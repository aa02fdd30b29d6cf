"""A1111 infotext in the images of a run: other programs read it, and nothing else of a run changes."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sd_parsers.parsers import AUTOMATIC1111Parser

import cfglab as cl
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.infotext import infotext_of, read_infotext, write_infotext
from cfglab.experiments.storage.png import read_record
from cfglab.experiments.storage.png_chunks import scan, with_text
from tests.experiments.foreign_images import infotext

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    from tests.experiments.examples import SMALL

    folder = tmp_path_factory.mktemp("infotext") / "run"
    run(Experiment.from_yaml(SMALL, model=str(tiny), negative="blurry, dark"), folder, "cpu", quiet=True)
    return folder


def images(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


def test_another_program_reads_prompt_seed_steps_and_sampler(finished: Path) -> None:
    for path in images(finished):
        cell = read_record(path).cell
        with Image.open(path) as image:
            parsed = AUTOMATIC1111Parser().parse({"parameters": image.info["parameters"]})
        (sampler,) = parsed.samplers
        assert (parsed.full_prompt, parsed.full_negative_prompt) == (cell.prompt, "blurry, dark")
        assert sampler.parameters["seed"] == str(cell.seed)
        assert sampler.parameters["steps"] == str(cell.steps)
        assert sampler.name == "LMS"
        if str(cell.guidance) == "7.5":
            assert sampler.parameters["cfg_scale"] == "7.5"


def test_the_guidance_comes_back_as_text_and_a_schedule_has_no_single_scale(finished: Path) -> None:
    for path in images(finished):
        cell = read_record(path).cell
        with Image.open(path) as image:
            info = read_infotext(image.info["parameters"])
        assert info is not None
        assert cl.parse_guidance(info.settings["cfglab guidance"]) == cell.guidance
        assert ("CFG scale" in info.settings) == (str(cell.guidance) == "7.5")


def test_a_folder_of_this_machine_is_not_in_the_text(finished: Path, tiny: Path) -> None:
    cell = read_record(images(finished)[0]).cell
    assert cell.model == str(tiny)
    assert f"Model: {tiny.name}," in infotext_of(cell)
    assert str(tiny.parent) not in infotext_of(cell)


def test_a_run_from_before_goes_on_without_it_and_has_the_same_pixels(finished: Path, tmp_path: Path) -> None:
    with cl.Store.open(finished) as store:
        experiment = store.experiment
    with cl.Store.create(tmp_path / "old", experiment):
        pass
    with sqlite3.connect(tmp_path / "old" / "results.sqlite") as database:
        assert database.execute("DELETE FROM meta WHERE key = 'infotext'").rowcount == 1
    run(experiment, tmp_path / "old", "cpu", quiet=True)
    for old, new in zip(images(tmp_path / "old"), images(finished), strict=True):
        text = scan(new.read_bytes(), "parameters").records[0]
        assert scan(old.read_bytes(), "parameters").records == ()
        assert with_text(old.read_bytes(), "parameters", text) == new.read_bytes()
        assert np.array_equal(np.asarray(Image.open(old)), np.asarray(Image.open(new)))


def test_a_reproduced_image_is_the_same_file(finished: Path, tmp_path: Path) -> None:
    image = images(finished)[3]
    cl.reproduce(image, tmp_path / "copy.png", "cpu")
    assert (tmp_path / "copy.png").read_bytes() == image.read_bytes()


def test_a_prompt_that_latin_1_cannot_spell_is_read_by_pillow(tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (8, 8)).save(plain)
    for text in ("naïve café", "夏の城 🏯"):
        plain.with_name("new.png").write_bytes(with_text(plain.read_bytes(), "parameters", text))
        with Image.open(plain.with_name("new.png")) as image:
            image.load()
            assert image.info["parameters"] == text


@pytest.mark.parametrize(
    ("prompt", "negative", "value"),
    [
        ("a cat", "", "plain"),
        ("two\nlines", "no, thing", "a: b, c"),
        ("Steps: 1", "x", 'quoted "word"'),
        ("", "", "back\\slash\nline"),
    ],
)
def test_what_is_written_is_read_back(prompt: str, negative: str, value: str) -> None:
    info = read_infotext(write_infotext(prompt, negative, {"Steps": 3, "Seed": 5, "Note": value}))
    assert info is not None
    assert (info.prompt, info.negative) == (prompt, negative)
    assert dict(info.settings) == {"Steps": "3", "Seed": "5", "Note": value}


def test_a_field_inside_quotes_is_no_field_of_the_image() -> None:
    info = read_infotext(infotext(seed=7))
    assert info is not None
    assert info.settings["Seed"] == "7"
    assert info.settings["Lora hashes"] == "add_detail: 7c6bad76eb54, Seed: 99"


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 20", "Steps: , Sampler", "{}", "a: b, c: d, e: f"])
def test_a_text_without_a_settings_line_is_no_infotext(text: str) -> None:
    assert read_infotext(text) is None


@pytest.mark.parametrize("piece", ["a", " ", ",", ":", '"', '\\"', 'k: "', "ab: ", "\n", 'ab: "\\'])
def test_a_hostile_line_is_read_in_linear_work(piece: str) -> None:
    read_infotext(piece * (1_000_000 // len(piece)) + "\nSteps: 1, ab: 2, cd: 3")
    read_infotext("Steps: 1, ab: 2, cd: 3, " + piece * (1_000_000 // len(piece)))


def test_any_value_of_a_cell_gives_an_infotext(small: Make) -> None:
    cell: Any = small(prompts=["a\x00b"]).cells()[0][1]
    for change in ({"model": "org/name"}, {"model": "C:\\models\\x"}, {"sampler": "unknown"}, {"prompt": "\ud800"}):
        assert "Steps: 3" in infotext_of(cell.model_copy(update=change))
