"""Write the generated pages of docs/ again: help/*.txt (--help), methods.md, advise.md and pipelines.md.

`make docs` runs this.
"""

import os
import sys
from pathlib import Path

os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}  # before the command line asks how wide the terminal is

from typer.testing import CliRunner

from cfglab.cli.app import app

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.pipelines.loading.quiet import quiet
from docs import advise_page
from docs.methods_page import PAGE, methods_page

with quiet():
    from tests.pipelines import page as pipelines

HELP = Path(__file__).parent / "help"


def help_texts() -> dict[str, str]:
    """File name -> help text, at 100 columns without colour, of `cfglab` and each of its commands."""
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
    pages = {"cfglab.txt": ["--help"]} | {f"{name}.txt": [name, "--help"] for name in names}
    return {page: runner.invoke(app, words, prog_name="cfglab").output for page, words in pages.items()}


def main() -> None:
    HELP.mkdir(exist_ok=True)
    texts = help_texts()
    for old in HELP.glob("*.txt"):
        if old.name not in texts:
            old.unlink()
    for page, text in texts.items():
        (HELP / page).write_text(text, encoding="utf-8")
    PAGE.write_text(methods_page(), encoding="utf-8")
    advise_page.PAGE.write_text(advise_page.advise_page(), encoding="utf-8")
    pipelines.PAGE.write_text(pipelines.page(), encoding="utf-8")
    print(f"{len(texts)} pages in {HELP}, {PAGE}, {advise_page.PAGE}, {pipelines.PAGE}")


if __name__ == "__main__":
    main()
