"""What a run shows while it works: images, their rate, the time that is left. Only where somebody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from cfglab.terminal import console as console_of_rich
from cfglab.terminal import visible_streams


@contextmanager
def progress_bar(total: int, quiet: bool, word: str = "drawing") -> Iterator[Callable[[int], object]]:
    """Yields a function that counts images. Drawn on the error stream where that is a terminal, and in a notebook;
    nowhere else."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = console_of_rich(stderr=True)
    if (console.is_jupyter or _in_marimo()) and not quiet:
        with _in_notebook(total, word) as advance:
            yield advance
        return
    if quiet or not console.is_terminal:  # a disabled bar of an older rich still ends a line
        yield lambda images: None  # noqa: ARG005
        return
    console.file = _lasting(console.file)
    columns = (
        TextColumn(word),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(word, total=total, rate="")

        def advance(images: int) -> None:
            progress.advance(task, images)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.2g} images/s" if speed else "")

        with visible_streams():  # rich has put streams of its own in their place
            yield advance


def _lasting(stream: IO[str]) -> IO[str]:
    """A stream that loses what it cannot write: a terminal that was closed does not end a run."""
    return cast(IO[str], _Lasting(stream))


class _Lasting:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _in_marimo() -> bool:
    """Whether a cell of marimo is running."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


@contextmanager
def _in_notebook(total: int, word: str) -> Iterator[Callable[[int], object]]:
    """A bar of tqdm's, as diffusers shows: a widget where there are any, else text. Rich's needs widgets."""
    import warnings

    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # that there are no widgets
        if _in_marimo():
            from tqdm.notebook import tqdm  # which marimo replaces by a bar of its own
        else:
            from tqdm.auto import tqdm
    with tqdm(total=total, desc=word, unit="image") as bar:
        yield bar.update


@contextmanager
def working(on: str, quiet: bool = False) -> Iterator[None]:
    """A turning wheel with a word beside it, for work without parts to count; on the error stream, only a terminal."""
    console = console_of_rich(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    console.file = _lasting(console.file)
    with console.status(on), visible_streams():
        yield


def duration(seconds: float) -> str:
    """Return a time in words: seconds below two minutes, minutes below two hours, else hours.

    Examples:
        >>> duration(45), duration(200), duration(9000)
        ('45 s', '3 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
