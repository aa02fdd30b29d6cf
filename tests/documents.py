"""The Python that the documentation shows, for tests that run it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python_of(page: str, words: str) -> str:
    """The one Python block with `words` in it, of a page such as `docs/modular.md`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if words in block]
    return str(block)
