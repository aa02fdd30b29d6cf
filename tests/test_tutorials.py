"""What the tutorials show is what happens: every block of Python runs, every experiment in YAML can be read."""

import re
from pathlib import Path

import pytest

import cfglab as cl

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
BLOCK = re.compile(r"```(python|yaml)\n(.*?)```", re.DOTALL)


@pytest.mark.usefixtures("names_as_before")
@pytest.mark.parametrize("page", sorted(path.name for path in FOLDER.glob("*.md")))
def test_the_blocks_of_a_tutorial_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tuned = tmp_path / "runs" / "tuned" / "tuned.json"
    tuned.parent.mkdir(parents=True)
    tuned.write_text(cl.parse_guidance("cosine(max=7, min=2)").to_json())
    blocks = BLOCK.findall((FOLDER / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {"__name__": "tutorial"}  # a reader goes on in the same session
    for language, code in blocks:
        if language == "yaml":
            Path("mine.yaml").write_text(code, encoding="utf-8")
            assert cl.Experiment.from_yaml(Path("mine.yaml")).cells()
        else:
            exec(compile(code, page, "exec"), names)
