"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_on_the_bundled_model_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundled, openjourney = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert 'load("scenes")' in bundled
    exec(compile(bundled, "README.md", "exec"), {})
    assert (tmp_path / "astronaut.png").stat().st_size > 1000
    compile(openjourney, "README.md", "exec")


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
