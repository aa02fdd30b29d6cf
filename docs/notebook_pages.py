"""Execute notebooks/*.py and write each as a page of the site: build/notebooks/NAME/ with its images and its .ipynb.

    python docs/notebook_pages.py [NAME …] [--jobs 2]      # what has not changed since the last time is not run again
    python docs/notebook_pages.py --ipynb                  # only notebooks/ipynb/, which Colab and Binder open

The sources are Jupytext's percent format without outputs. The notebooks that Colab and Binder open are the same cells,
with badges under the title and a first cell that installs cfglab from the repository where it cannot be imported.
"""

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "notebooks"
IPYNB = SOURCES / "ipynb"
PAGES = ROOT / "build" / "notebooks"
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
REPOSITORY: str = URLS["Homepage"]
OWNER = REPOSITORY.removeprefix("https://github.com/")
KEY = "key.txt"
SECONDS_A_CELL = 600
INSTALL = f"""\
import importlib.util

if importlib.util.find_spec("cfglab") is None:  # on Colab; a checkout and Binder have it
    %pip install --quiet "cfglab[notebook] @ git+{REPOSITORY}" "cfglab-notebooks @ git+{REPOSITORY}#subdirectory=compat"
"""
TEMPLATE = """\
{%- extends 'markdown/index.md.j2' -%}
{% block input %}

```python
{{ cell.source }}
```

{% endblock input %}
{% block stream %}

``` { .text .nb-text }
{{ output.text | strip_ansi | trim }}
```

{% endblock stream %}
{% block data_text scoped %}

``` { .text .nb-text }
{{ output.data['text/plain'] | strip_ansi | trim }}
```

{% endblock data_text %}
{% block data_html scoped %}

<div class="nb-output">{{ output.data['text/html'] | trim }}</div>

{% endblock data_html %}
{% block data_png %}

{% set file = output.metadata.filenames['image/png'] | path2url -%}
![{{ cell.metadata.alt or "The output of this cell" }}]({{ file }}){ .nb-image }

{% endblock data_png %}
"""


_BADGE = re.compile(r"\[!\[(Open in \w+)\]\([^)]*\)\]\(([^)]*)\)")
_LAST_BADGE = re.compile(r"^\[Open in Binder\].*$", re.MULTILINE)
_SITE_LINK = re.compile(r"\]\(" + re.escape(URLS["Documentation"]) + r"([^)#]+?)/(#[^)]*)?\)")


def names() -> list[str]:
    """The names of all notebooks, sorted."""
    return sorted(path.stem for path in SOURCES.glob("*.py"))


def notebook(name: str) -> NotebookNode:
    """Return a notebook as Colab and Binder open it: badges under its title, and a first cell that installs cfglab.

    Args:
        name: The name of a file in notebooks/, without its ending.
    """
    source = jupytext.read(SOURCES / f"{name}.py", fmt="py:percent")
    title, *text = source.cells[0].source.splitlines()
    path = f"notebooks/ipynb/{name}.ipynb"
    colab = f"https://colab.research.google.com/github/{OWNER}/blob/main/{path}"
    binder = f"https://mybinder.org/v2/gh/{OWNER}/main?urlpath=lab/tree/{path}"
    badges = [
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})",
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})",
    ]
    install = nbformat.v4.new_code_cell(INSTALL.rstrip(), metadata={"tags": ["install"]})
    first = nbformat.v4.new_markdown_cell("\n".join([title, "", *badges, *text]))
    cells = [first, install, *source.cells[1:]]
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def as_json(made: NotebookNode) -> str:
    """Return a notebook as the text of an .ipynb file."""
    return str(nbformat.writes(made)).rstrip() + "\n"


def execute(name: str) -> NotebookNode:
    """Return a notebook with its outputs, executed in a kernel of its own in an empty folder.

    Args:
        name: The name of a notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    from nbclient import NotebookClient

    made = notebook(name)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        quiet = ["--log-level=ERROR"]
        NotebookClient(
            made, timeout=SECONDS_A_CELL, kernel_name="python3", resources=resources, extra_arguments=quiet
        ).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # the times of the kernel
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # PIL images come as PNG, too
    return made


def page(executed: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Return an executed notebook as Markdown for the site, and its images by file name.

    Args:
        executed: The notebook with its outputs.
        name: Its name.
    """
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    remove = {"enabled": True, "remove_cell_tags": {"install"}}
    exporter = MarkdownExporter(config=Config({"TagRemovePreprocessor": remove}), raw_template=TEMPLATE)
    text, resources = exporter.from_notebook_node(executed, resources={"unique_key": name})
    text = _BADGE.sub(r"[\1](\2){ .nb-badge }", text)  # without the images, which are on other servers
    text = _LAST_BADGE.sub(rf"\g<0>\n[Download]({name}.ipynb){{ .nb-badge }}", text, count=1)
    text = _SITE_LINK.sub(lambda match: f"](../{match[1]}.md{match[2] or ''})", text)
    return text.strip() + "\n", dict(resources["outputs"])


def key(name: str) -> str:
    """A hash of all that a notebook's outputs depend on in this repository."""
    digest = hashlib.sha256()
    code = (path for folder in ("src", "compat/src") for path in (ROOT / folder).rglob("*"))
    for path in (SOURCES / f"{name}.py", Path(__file__), *sorted(code)):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def write(name: str) -> str:
    """Execute a notebook and write its page, unless the page is there and nothing has changed.

    Args:
        name: The name of a notebook.

    Returns:
        One line about it.
    """
    folder, current = PAGES / name, key(name)
    if (folder / KEY).is_file() and (folder / KEY).read_text(encoding="utf-8") == current:
        return f"{name}: unchanged"
    start = time.monotonic()
    executed = execute(name)
    if errors := [line for cell in executed.cells for line in _warnings(cell)]:
        raise ValueError(f"{name} wrote to stderr: {errors[0]}")
    text, images = page(executed, name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.ipynb").write_text(as_json(executed), encoding="utf-8")
    for file, content in images.items():
        (folder / file).write_bytes(content)
    (folder / KEY).write_text(current, encoding="utf-8")  # last: what is not whole has no key
    return f"{name}: {time.monotonic() - start:.0f} s"


def _warnings(cell: NotebookNode) -> list[str]:
    return [output.text for output in cell.get("outputs", ()) if output.get("name") == "stderr"]


def write_ipynb(chosen: Iterable[str]) -> None:
    """Write notebooks/ipynb/ again, without outputs."""
    IPYNB.mkdir(exist_ok=True)
    for old in IPYNB.glob("*.ipynb"):
        if old.stem not in names():
            old.unlink()
    for name in chosen:
        (IPYNB / f"{name}.ipynb").write_text(as_json(notebook(name)), encoding="utf-8")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names())}; all if left out")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ipynb", action="store_true")
    options: Any = parser.parse_args(words)
    chosen = options.names or names()
    if unknown := set(chosen) - set(names()):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(names())}.")
    write_ipynb(chosen)
    if options.ipynb:
        return
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = {pool.submit(write, name): name for name in chosen}
        for task in as_completed(tasks):
            if error := task.exception():
                failed += 1
                print(f"{tasks[task]}: {error}", file=sys.stderr, flush=True)
            else:
                print(task.result(), flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
