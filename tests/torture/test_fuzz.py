"""The readers of tests/fuzz on as much spoiled input as fits in a while: CFGLAB_FUZZ_SECONDS, 40 unless it is set."""

import os
import random
import time

import pytest

from cfglab import limits
from tests.fuzz.readers import PIECES, READERS, check, long, spoiled, spoiled_json
from tests.fuzz.test_readers import JSON

SECONDS = float(os.environ.get("CFGLAB_FUZZ_SECONDS", "40"))
SEED = int(os.environ.get("CFGLAB_FUZZ_SEED", "0")) or time.time_ns()


@pytest.mark.parametrize("name", READERS)
def test_spoiled_input_for_a_while(name: str) -> None:
    good, end, tries = READERS[name][1], time.monotonic() + SECONDS / len(READERS) / 2, 0
    while time.monotonic() < end:
        seed = SEED + tries
        choose = random.Random(seed)
        spoil = choose.choice((spoiled, spoiled_json)) if name in JSON else spoiled
        check(name, spoil(choose.choice(good), choose))
        tries += 1
    print(f"{name}: {tries} inputs from seed {SEED}")


@pytest.mark.parametrize("name", READERS)
def test_pieces_as_long_as_a_text_may_be(name: str) -> None:
    good, end, choose = READERS[name][1], time.monotonic() + SECONDS / len(READERS) / 2, random.Random(SEED)
    while time.monotonic() < end:
        piece = "".join(choose.sample(PIECES, choose.choice((1, 1, 2, 3))))
        length = choose.choice((limits.TUNED_LETTERS, 100_000, limits.TEXT_LETTERS, limits.DOCUMENT_BYTES))
        if choose.random() < 0.5:
            check(name, long(piece, length - 1000))
        else:
            text = choose.choice(good)
            at = choose.randint(0, len(text))
            check(name, long(piece, length - 1000 - len(text), text[:at], text[at:]))


def test_an_atheris_run_finds_nothing(tmp_path) -> None:
    """Guided by coverage, where atheris is installed (pip install atheris)."""
    pytest.importorskip("atheris")
    import subprocess
    import sys

    command = [sys.executable, "-m", "tests.fuzz.guided", f"-max_total_time={int(SECONDS / 4)}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
