"""DIFFUSERS_TESTS=/path/to/diffusers python -m tests.pipelines.upstream [pytest arguments]

Without arguments: every test of the checkout's tests/pipelines that is not slow. `tests/pipelines/latte -k inference`
and the like choose. Ends with 1 where a test is red, with 0 and one line where no checkout is given.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOW = "not Slow and not Nightly and not Integration"


def checkout(given: str) -> Path | None:
    """The root of the checkout that DIFFUSERS_TESTS names (itself, or its tests folder); None where there is none."""
    folder = Path(given).expanduser()
    found = (root for root in (folder, folder.parent) if (root / "tests" / "pipelines").is_dir())
    return next(found, None) if given else None


def version(root: Path) -> str:
    """What the checkout says that it is."""
    for name in ("setup.py", "src/diffusers/__init__.py"):
        text = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else ""
        if said := re.search(r"version(?:__)?\s*=\s*[\"']([^\"']+)", text):
            return said[1]
    return "unknown"


def main(arguments: list[str]) -> int:
    """Run the tests; see the module."""
    given = os.environ.get("DIFFUSERS_TESTS", "")
    root = checkout(given)
    if root is None:
        why = f"{given!r} has no tests/pipelines" if given else "DIFFUSERS_TESTS is not set"
        print(
            f"diffusers' own tests under guide(): skipped, {why}; "
            "DIFFUSERS_TESTS=/path/to/a/checkout/of/diffusers runs them."
        )
        return int(bool(given))
    import diffusers

    print(f"diffusers' own tests ({root}, {version(root)}) under guide(), on diffusers {diffusers.__version__}")
    paths = [str(HERE), str(HERE.parents[2] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    options = ["-q", "-rs", "-p", "twins", "-p", "no:cacheprovider", "--tb=short"]
    chosen = arguments or ["tests/pipelines", "-k", SLOW]
    command = [sys.executable, "-m", "pytest", *options, *chosen]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
