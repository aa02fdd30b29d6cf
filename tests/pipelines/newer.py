"""Every pipeline again, on whatever diffusers is installed: what changed against the committed docs/pipelines.md.

python -m tests.pipelines.newer [pytest arguments]      `make pipelines` runs it on the newest diffusers

Prints the classes that are new, gone, or described in another way, and the tests that are red, class by class. Ends
with 1 where a test is red: then a profile no longer fits. A table that merely grew ends with 0.
"""

import re
import sys
from collections import defaultdict
from typing import Any

import pytest

WRITTEN = "tests/pipelines/test_page.py::test_the_page_is_written"  # what is printed here instead
WARNINGS = ("FutureWarning", "DeprecationWarning")  # errors in development, news here
Rows = dict[str, tuple[str, ...]]


def rows(text: str) -> Rows:
    """The first words of the section a class is in, and what its row says there; of the page's text."""
    found: Rows = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = re.split(r"[:,]", line.removeprefix("## "))[0]
        elif line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            found[name.strip("` ")] = (section, *cells)
        elif line.startswith("No combine"):
            found |= dict.fromkeys(re.findall(r"`(\w+)`", line), ("No combine found",))
    return found


def changes(before: Rows, after: Rows) -> list[str]:
    """One line a class that is new, gone or described in another way."""
    said = [f"new: {name}: {_said(row)}" for name, row in sorted(after.items()) if name not in before]
    said += [f"gone: {name}: {_said(row)}" for name, row in sorted(before.items()) if name not in after]
    both = sorted(set(before) & set(after))
    said += [
        f"changed: {name}: {_said(before[name])} -> {_said(after[name])}"
        for name in both
        if before[name] != after[name]
    ]
    return said


def _said(row: tuple[str, ...]) -> str:
    return "; ".join(cell for cell in row if cell)


class Outcomes:
    """What became of the tests: a plugin of pytest."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            inside = re.search(r"\[(.*)\]$", report.nodeid)
            lines = [line for line in report.longreprtext.splitlines() if line.startswith("E  ")]
            reason = lines[0].removeprefix("E").strip() if lines else report.longreprtext.splitlines()[-1]
            test = report.nodeid.split("::")[-1].split("[")[0]
            self.failed[inside[1] if inside else "-"].append(f"{test}: {reason}")
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed["collection"].append(f"{report.nodeid}: {str(report.longrepr).splitlines()[-1]}")


def main(arguments: list[str]) -> int:
    outcomes = Outcomes()
    ignored = [word for kind in WARNINGS for word in ("-W", f"default::{kind}")]
    options = ["-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", "--deselect", WRITTEN, *ignored]
    code = pytest.main([*options, *(arguments or ["tests/pipelines"])], plugins=[outcomes])
    import diffusers  # pytest wants to be first

    from tests.pipelines import page

    committed = page.PAGE.read_text(encoding="utf-8")
    known = re.search(r"on diffusers (\S+)\. ", committed)
    print(f"\ndiffusers {diffusers.__version__}, where docs/pipelines.md is of {known[1] if known else 'another'}")
    changed = changes(rows(committed), rows(page.page()))
    print(f"\n{len(changed)} classes are not as docs/pipelines.md says", *changed, sep="\n  ")
    print(f"\n{outcomes.passed} tests passed, {sum(map(len, outcomes.failed.values()))} failed")
    for name, reasons in sorted(outcomes.failed.items()):
        print(f"  {name}", *reasons, sep="\n    ")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
