"""How the threads of a computation wait for each other; set before torch is imported."""

import os

SPINS = "10000"
"""How often a waiting thread of libgomp looks again before it gives its core away: some tens of microseconds."""


def wait_briefly() -> None:
    """Let waiting threads give their core away soon, unless the environment says how they wait.

    By default they spin for milliseconds. On an idle machine that gains nothing here; beside another busy process a
    thread then waits for one that is not running (docs/performance.md).
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = SPINS
