"""The executed notebooks as pages of the site, from build/notebooks/, which `make notebooks` writes. Run by mkdocs."""

from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).parents[2]

for source in sorted((ROOT / "notebooks").glob("*.py")):
    folder = ROOT / "build" / "notebooks" / source.stem
    if not (folder / f"{source.stem}.md").is_file():
        raise SystemExit(f"notebooks/{source.name} was not executed: run `make notebooks` first.")
    for path in sorted(folder.glob("*")):
        if path.name != "key.txt":
            with mkdocs_gen_files.open(f"notebooks/{path.name}", "wb") as file:
                file.write(path.read_bytes())
