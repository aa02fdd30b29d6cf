"""Hooks of the documentation site: README and CHANGELOG become pages, links that leave docs/ go to the repository."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "training.md": "training/README.md"}
"""Pages of the site that are files outside docs/."""

_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are kept outside docs/."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_linked(text, ROOT / source, page, config.repo_url)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Let links to files outside docs/ point into the repository."""
    if page.file.src_uri in PAGES or page.file.src_uri.startswith("reference/"):
        return markdown
    return _linked(markdown, ROOT / "docs" / page.file.src_uri, page.file.src_uri, config.repo_url)


def _linked(markdown: str, source: Path, page: str, repository: str) -> str:
    """The text of `source` with its links as the page of the site needs them."""
    pages = {(ROOT / path).resolve(): uri for uri, path in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        opening, target, closing = match.groups()
        if "://" in target or target.startswith(("mailto:", "/")):
            return match.group(0)
        path = (source.parent / target).resolve()
        if path in pages:
            uri = pages[path]
        elif path.is_relative_to(ROOT / "docs") and path.suffix != ".py":
            uri = path.relative_to(ROOT / "docs").as_posix()
        elif path.is_relative_to(ROOT):
            return f"{opening}{repository}/blob/main/{path.relative_to(ROOT).as_posix()}{closing}"
        else:
            return match.group(0)
        return f"{opening}{os.path.relpath(uri, Path(page).parent.as_posix())}{closing}"

    return _LINK.sub(link, markdown)
