"""One notebook in a real kernel: every object draws itself, a widget is a widget, and a progress bar is quiet."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cfglab
from cfglab.progress import progress_bar
from tests.notebook.test_objects import NAMES

CELLS = {
    "start": "from pathlib import Path\nfrom tests.notebook.objects import objects\nfrom cfglab import widgets\n"
    "shown = objects(Path('RUNS'))",
    **{name: f"shown[{name!r}]" for name in NAMES},
    "widget": "widgets.Curve('linear(max=8, min=4)')",
    "bar": "from cfglab.progress import progress_bar\n"
    "with progress_bar(3, quiet=False) as advance:\n    for _ in range(3):\n        advance(1)",
    "bar without widgets": "import sys\n"
    "for name in [name for name in sys.modules if name.split('.')[0] in ('tqdm', 'ipywidgets')]:\n"
    "    del sys.modules[name]\nsys.modules['ipywidgets'] = None\n"
    "with progress_bar(3, quiet=False) as advance:\n    for _ in range(3):\n        advance(1)",
    "quiet bar": "with progress_bar(3, quiet=True) as advance:\n    advance(3)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: make setup")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make setup")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: make setup")
    pytest.importorskip("anywidget", reason="the extra cfglab[notebook] is not installed")
    folder = tmp_path_factory.mktemp("kernel")
    cells = [nbformat.v4.new_code_cell(code.replace("RUNS", str(folder))) for code in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    roots = (Path(cfglab.__file__).parents[1], Path(__file__).parents[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, roots)))
        patch.setenv("IPYTHONDIR", str(folder))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def test_every_object_draws_itself_in_a_kernel(outputs: dict[str, list[Any]]) -> None:
    assert outputs["start"] == []
    for name in NAMES:
        (output,) = outputs[name]
        assert output.output_type == "execute_result", name
        assert "<svg" in output.data["text/html"], name
        assert output.data["text/plain"], name


def test_in_marimo_the_bar_is_the_notebooks_which_marimo_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            counts.append(options["total"])

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            counts.append(-1)

        def update(self, images: int) -> None:
            counts.append(images)

    monkeypatch.setitem(sys.modules, "marimo", SimpleNamespace(running_in_notebook=lambda: True))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", SimpleNamespace(tqdm=Bar))
    with progress_bar(5, quiet=False) as advance:
        advance(2)
    with progress_bar(5, quiet=True) as advance:
        advance(2)
    assert counts == [5, 2, -1]


def test_a_widget_is_a_widget(outputs: dict[str, list[Any]]) -> None:
    (output,) = outputs["widget"]
    assert "application/vnd.jupyter.widget-view+json" in output.data


def test_a_progress_bar_is_a_widget_or_else_text_without_a_warning(outputs: dict[str, list[Any]]) -> None:
    (bar,) = outputs["bar"]
    assert "application/vnd.jupyter.widget-view+json" in bar.data
    text = outputs["bar without widgets"]
    assert {output.output_type for output in text} == {"stream"}
    words = "".join(output.text for output in text)
    assert "3/3" in words
    assert "Warning" not in words
    assert "ipywidgets" not in words
    assert outputs["quiet bar"] == []
