"""What the README shows is what happens."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.documents import python_of
from tests.pipelines.families import case, parts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_on_the_bundled_model_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(python_of("README.md", 'load("scenes")'), "README.md", "exec"), {})
    assert (tmp_path / "astronaut.png").stat().st_size > 1000
    compile(python_of("README.md", "openjourney"), "README.md", "exec")


@pytest.mark.parametrize(
    ("name", "saved", "small"),
    [
        ("StableDiffusionXLPipeline", 1, {"height": 16, "width": 16}),
        ("FluxPipeline-embedded", 0, {"height": 16, "width": 16, "max_sequence_length": 24}),
        ("WanPipeline", 1, {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 16}),
    ],
)
def test_the_ten_lines_run_for_three_families_and_differ_in_the_class_only(
    name: str, saved: int, small: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On tiny models in the place of those of the hub, three steps of small images."""
    made = case(name)
    pipe = made.build()
    monkeypatch.setattr(type(pipe), "from_pretrained", lambda *_, **__: pipe)
    code = python_of("README.md", "from diffusers import").replace("StableDiffusionXLPipeline", made.cls)
    assert len([line for line in code.splitlines() if line]) <= 10
    code = code.replace("num_inference_steps=20", "num_inference_steps=3, **small")
    kinds = {part: type(value) for part, value in pipe.components.items()}
    names: dict[str, Any] = {"small": small}
    with parts.calm(0):
        exec(compile(code, "README.md", "exec"), names)
    trace = names["trace"]
    assert [record.w[0] for record in trace.steps] == pytest.approx(names["guidance"].values(3))
    assert trace.rows_saved == saved
    assert len(names["result"]) == 1
    assert capsys.readouterr().out.split()[:3] == ["run", "step", "sigma"]
    assert {part: type(value) for part, value in pipe.components.items()} == kinds


def test_links_and_pictures_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_two_commands_are_words_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "    make run " in README
    assert "    make test " in README
    assert re.search(r"^run: ", makefile, re.MULTILINE)
    assert re.search(r"^test: ", makefile, re.MULTILINE)
