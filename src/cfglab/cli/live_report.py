"""What `cfglab run` says and writes while it works: a first report, and newer ones as images come."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from cfglab.errors import CfglabError
from cfglab.progress import duration
from cfglab.terminal import inline

if TYPE_CHECKING:
    from cfglab.experiments.execution.run import RunProgress

SHARE = 20
"""A refresh waits until the last report took at most this part of the time since."""


class LiveReport:
    """Called with the progress of a run: writes its report once every setting has an image, and again as images come.

    A report that cannot be written now stops no run; the last one, at the end, says why.

    Args:
        say: shows a line.
        clock: returns seconds.
    """

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._begun: tuple[float, int] | None = None
        self._next = 0.0
        self._announced = False

    def __call__(self, progress: "RunProgress") -> None:
        """Say what comes before the first batch; after a batch, write the report if it is due."""
        from cfglab.report import report

        if self._begun is None:
            self._begun = (self._clock(), progress.done)
            self._say(_plan(progress))
            return
        now = self._clock()
        if progress.first_pass <= progress.done < progress.total and now >= self._next:
            with suppress(CfglabError):
                path = report(progress.folder, live=True)
                if not self._announced:
                    begun, done_before = self._begun
                    seconds = (now - begun) / max(1, progress.done - done_before) * (progress.total - progress.done)
                    self._say(
                        f"first report: {inline(str(path))}, {progress.done} of {progress.total} images; about "
                        f"{duration(seconds)} left, and the page offers newer ones"
                    )
                    self._announced = True
            written = self._clock()
            self._next = written + SHARE * (written - now)


def _plan(progress: "RunProgress") -> str:
    """What a run will generate, in a line."""
    rest = progress.total - progress.done
    line = f"{rest} images to generate" + (f", {progress.done} are there" if progress.done else "")
    if progress.done < progress.first_pass < progress.total:
        return f"{line}; the first report comes after {progress.first_pass}, an image of every setting"
    return line
