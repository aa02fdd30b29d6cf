"""`make gpu` rehearsed on the CPU: it writes its page, says that nothing ran on a GPU, and survives a failure."""

import shutil
from pathlib import Path

import pytest

from benchmarks import gpu

FAST = ["correctness", "precision", "offload", "overhead", "rows", "seed"]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return Path(shutil.copy(gpu.PAGE, tmp_path / "gpu.md"))


def test_a_rehearsal_fills_every_section_and_says_that_it_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "METHODS", ("7.5", "5 | apg(momentum=-0.5)"))
    assert gpu.main([*FAST, "--cpu", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert gpu.NOT_YET in text
    assert "bit for bit equal to the untouched pipeline" in text
    assert text.count("Not measured yet.") == 1  # Ray's
    assert r"| `5 \| apg(momentum=-0.5)` |" in text  # a bar inside a cell
    assert "no weights were given" in text


def test_a_section_that_fails_leaves_the_others(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: gpu.Setup) -> str:
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setitem(gpu.SECTIONS, "rows", ("Rows", broken))
    assert gpu.main(["rows", "seed", "--cpu", "--page", str(page)]) == 1
    text = page.read_text(encoding="utf-8")
    assert "**Failed:** RuntimeError: out of memory\n" in text
    assert "no weights were given" in text


def test_a_rehearsal_does_not_replace_numbers_of_a_gpu(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page.write_text(page.read_text(encoding="utf-8").replace(gpu.NOT_YET, "Run on one GPU."), encoding="utf-8")
    with pytest.raises(SystemExit):
        gpu.main(["seed", "--cpu", "--page", str(page)])
    assert "a rehearsal does not replace them" in capsys.readouterr().err


@pytest.mark.slow
def test_the_section_of_ray_is_rehearsed_with_cpus(page: Path) -> None:
    pytest.importorskip("ray")
    assert gpu.main(["ray", "--cpu", "--page", str(page)]) == 0
    assert "images by Ray" in page.read_text(encoding="utf-8")
