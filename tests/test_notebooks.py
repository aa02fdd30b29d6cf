"""The notebooks: valid, on the site, opened by Colab and Binder as they are in the repository, and none can rot."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: make setup")
nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: make setup")
notebook_pages = pytest.importorskip("docs.notebook_pages")

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
MKDOCS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def stored(name: str) -> Any:
    """The notebook that Colab and Binder open."""
    return nbformat.read(ROOT / "notebooks" / "ipynb" / f"{name}.ipynb", as_version=4)


def pages() -> set[str]:
    """The pages of the site's navigation."""
    return set(re.findall(r"^ +- (?:.+: )?(\S+\.md)$", MKDOCS, flags=re.MULTILINE))


def test_every_notebook_is_in_the_navigation_of_the_site() -> None:
    assert len(NAMES) >= 10
    listed = {Path(page).stem for page in pages() if page.startswith("notebooks/")}
    assert listed == set(NAMES)
    overview = (ROOT / "docs" / "notebook-tour.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(notebooks/(\w+)\.md\)", overview)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_colab_opens_is_the_source_with_a_head(name: str) -> None:
    text = (ROOT / "notebooks" / "ipynb" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert text == notebook_pages.as_json(notebook_pages.notebook(name)), "run `make notebooks`"
    opened = stored(name)
    nbformat.validate(opened)
    source = jupytext.read(ROOT / "notebooks" / f"{name}.py", fmt="py:percent")
    assert [cell.source for cell in opened.cells[2:]] == [cell.source for cell in source.cells[1:]]
    assert all(not cell.get("outputs") for cell in opened.cells)
    for cell in opened.cells[2:]:
        if cell.cell_type == "code":
            compile(cell.source, name, "exec")
    assert not {path.stem for path in (ROOT / "notebooks" / "ipynb").glob("*")} - set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_badges_open_the_file_in_the_repository(name: str) -> None:
    first = stored(name).cells[0].source
    owner = URLS["Homepage"].removeprefix("https://github.com/")
    path = f"notebooks/ipynb/{name}.ipynb"
    assert (ROOT / path).is_file()
    assert first.startswith("# ")
    links = dict(re.findall(r"\[!\[Open in (\w+)\]\(https://[^)]+\)\]\(([^)]+)\)", first))
    assert links == {
        "Colab": f"https://colab.research.google.com/github/{owner}/blob/main/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{owner}/main?urlpath=lab/tree/{path}",
    }


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_to_pages_of_the_site(name: str) -> None:
    text = (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(" + re.escape(URLS["Documentation"]) + r"([^)#]*)", text):
        assert link.endswith("/"), link
        assert f"{link.removesuffix('/')}.md" in pages(), link
    assert "](../" not in text, "a relative link leads nowhere in Colab: write the address of the site"


@pytest.mark.parametrize("importable", [True, False])
def test_the_first_code_cell_installs_from_the_repository_where_cfglab_is_missing(
    importable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = pytest.importorskip("IPython.core.inputtransformer2").TransformerManager()
    first = {next(cell.source for cell in stored(name).cells if cell.cell_type == "code") for name in NAMES}
    assert len(first) == 1
    commands: list[tuple[str, str]] = []

    class Shell:
        def run_line_magic(self, magic: str, words: str) -> None:
            commands.append((magic, words))

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if importable else None)
    exec(compile(transformer.transform_cell(first.pop()), "install", "exec"), {"get_ipython": Shell})
    repository = f"git+{URLS['Homepage']}"
    compat = tomllib.loads((ROOT / "compat" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    words = f'--quiet "cfglab[notebook] @ {repository}" "{compat} @ {repository}#subdirectory=compat"'
    assert commands == ([] if importable else [("pip", f"install {words}")])


def test_binder_installs_this_repository() -> None:
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {".[notebook]", "./compat"} <= set(lines)
    version = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_the_site_and_ci_execute_them() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^site: .*\bnotebooks\b", makefile, flags=re.MULTILINE)
    assert re.search(r"^notebooks:.*\n\t.*docs/notebook_pages\.py", makefile, flags=re.MULTILINE)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    assert "pull_request" in workflow[True]  # `on`, which YAML 1.1 reads as true
    assert {"run": "make site"} in workflow["jobs"]["build"]["steps"]
    assert "docs/site/notebooks.py" in MKDOCS


def test_a_page_has_the_outputs_and_no_image_of_another_server() -> None:
    pytest.importorskip("nbconvert", reason="nbconvert is not installed: make setup")
    made = notebook_pages.notebook("five_minutes")
    html = nbformat.v4.new_output("execute_result", {"text/html": "<div class='cfglab'>*card*</div>"})
    image = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    text = nbformat.v4.new_output("stream", text="\x1b[31mred\x1b[0m\n")
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    code[1].outputs, code[2].outputs, code[3].outputs = [html], [image], [text]
    code[2].metadata["alt"] = "An astronaut"
    page, images = notebook_pages.page(made, "five_minutes")
    assert "find_spec" not in page
    assert "\n<div class=\"nb-output\"><div class='cfglab'>*card*</div></div>\n" in page
    ((file, content),) = images.items()
    assert content == b"\x89PNG\r\n\x1a\n"
    assert file.startswith("five_minutes")
    assert f"![An astronaut]({file}){{ .nb-image }}" in page
    assert "``` { .text .nb-text }\nred\n```" in page
    assert "](https://colab.research.google.com/github/" in page
    assert "](five_minutes.ipynb)" in page
    assert "](../methods.md)" in page
    assert "](../notebooks/reading_a_trace.md)" in page
    assert not re.search(r"!\[[^]]*\]\(https?:", page)
    assert URLS["Documentation"] not in page


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_its_first_cell_to_its_last(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed: make setup")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    executed = notebook_pages.execute(name)
    for cell in executed.cells:
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output.get("name") == "stderr"], cell.source
        kinds = {kind for output in outputs for kind in output.get("data", {})}
        if re.search(r"^(make_image_grid|image_grid|plot_grid|show_image)\(", cell.source, flags=re.MULTILINE):
            assert "image/png" in kinds, cell.source
        if re.search(r"^(trace|run|experiment|cl\.curves\(.*|cl\.Guidance\(.*)$", cell.source.splitlines()[-1]):
            assert "text/html" in kinds, cell.source
