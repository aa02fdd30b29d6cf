"""Every benchmark, and its table in docs/performance.md. `make bench`: about half an hour on two idle cores.

    python -m benchmarks.performance [NAME …] [--quick]

Each runs alone in a process of its own. With --quick few repeats are made and the page stays as it is.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from cfglab.experiments.storage.files import write_whole

PAGE = Path(__file__).parents[1] / "docs/performance.md"
QUICK: dict[str, tuple[str, ...]] = {
    "seed": ("--repeats", "1", "--steps", "10"),
    "limit": ("--repeats", "1", "--steps", "10"),
    "skipping": ("--repeats", "2"),
    "overhead": ("scenes", "4"),
    "arithmetic": ("--repeats", "5"),
    "large_run": ("2000",),
    "ray_overhead": ("--repeats", "1"),
}
"""The benchmarks in the order of the page, and their arguments for a quick look."""
TABLES = ("seed", "limit", "skipping", "overhead", "arithmetic")
"""Those that print Markdown; what the others print is shown as it is."""


def measure(name: str, quick: bool) -> str:
    """What a benchmark printed."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *(QUICK[name] if quick else ())]
    done = subprocess.run(command, cwd=PAGE.parents[1], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def placed(page: str, name: str, said: str) -> str:
    """The page with what a benchmark said between its markers."""
    block = said if name in TABLES else f"```\n{said}\n```"
    new, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", lambda it: f"{it[1]}{block}\n{it[2]}", page, flags=re.S
    )
    if count != 1:
        raise SystemExit(f"{PAGE}: has no place for {name}; write <!-- {name} --> and <!-- end of {name} --> into it.")
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(QUICK)}; all if left out")
    parser.add_argument("--quick", action="store_true", help="few repeats; the page stays as it is")
    given = parser.parse_args()
    for name in given.names or QUICK:
        print(f"== {name}", flush=True)
        said = measure(name, given.quick)
        print(said, flush=True)
        if not given.quick:
            write_whole(PAGE, placed(PAGE.read_text(encoding="utf-8"), name, said).encode())


if __name__ == "__main__":
    main()
