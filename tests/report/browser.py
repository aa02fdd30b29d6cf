"""A real browser for the report's pages: the system's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, DESK = (375, 780), (1200, 860)


def executable() -> str:
    """Chromium's path: $CFGLAB_BROWSER, or what the system has. Skips the test where there is none."""
    found = os.environ.get("CFGLAB_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no browser: install Chromium (Debian: apt-get install chromium), or name one in CFGLAB_BROWSER")
    return found


@contextmanager
def chromium(reach: str = "") -> Iterator[Any]:
    """A headless browser without a profile of anybody's, and without a network but for the host `reach`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=executable(),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                f"--host-resolver-rules=MAP * ~NOTFOUND{reach and f', EXCLUDE {reach}'}",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


def until(page: Any, condition: str) -> None:
    """Wait for a JavaScript condition on a page whose Content-Security-Policy forbids eval.

    Playwright's `wait_for_function` evaluates its text in the page from the second look on: the policy refuses it.
    """
    page.evaluate(
        f"""() => new Promise((resolve, reject) => {{
            const end = performance.now() + 20000;
            const look = () => {{
                if ({condition}) resolve(true);
                else if (performance.now() > end) reject(new Error("not within 20 s"));
                else requestAnimationFrame(look);
            }};
            look();
        }})"""
    )


class Seen:
    """An open page, and what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int] = DESK, theme: str = "light") -> None:
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda it: self.asked.append(it.url))
        self.page.on("console", lambda it: self.complaints.append(it.text))
        self.page.on("pageerror", lambda it: self.complaints.append(str(it)))
        self.page.on("dialog", self._dismiss)
        self.page.goto(path.as_uri())

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def tiles(self) -> list[list[int | None]]:
        """The positions of the grid's images, row by row, or of the list's in one row."""
        return self.page.evaluate(
            """() => {
                const of = (root) => root.querySelector(".tile");
                const place = (root) => of(root) ? +of(root).dataset.position : null;
                const rows = [...document.querySelectorAll(".pivot tbody tr")];
                if (rows.length) return rows.map((row) => [...row.cells].slice(1).map(place));
                return [[...document.querySelectorAll(".listed > div")].filter(of).map(place)];
            }"""
        )

    def heads(self) -> list[str]:
        """What stands above the columns."""
        return self.page.locator(".pivot thead .label").all_text_contents()

    def pick(self, *positions: int) -> None:
        for position in positions:
            self.page.click(f'.tile[data-position="{position}"]')

    def close(self) -> None:
        self.context.close()
