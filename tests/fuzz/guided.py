"""The readers under atheris, which looks for new paths through the code: python -m tests.fuzz.guided FOLDER."""

import sys

import atheris

with atheris.instrument_imports(include=["cfglab"]):
    from tests.fuzz.readers import READERS, check

NAMES = list(READERS)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader, the rest is what it reads."""
    if len(data) > 1:
        check(NAMES[data[0] % len(NAMES)], data[1:].decode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
