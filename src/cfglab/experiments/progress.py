"""What a run shows while it works: pictures, their rate, the time that is left. Only where somebody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cfglab.terminal import console as console_of_rich
from cfglab.terminal import visible_streams


@contextmanager
def progress_bar(total: int, quiet: bool, word: str = "drawing") -> Iterator[Callable[[int], object]]:
    """Yields a function that counts pictures. Drawn on the error stream, and not at all where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = console_of_rich(stderr=True)
    columns = (
        TextColumn(word),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(word, total=total, rate="")

        def advance(pictures: int) -> None:
            progress.advance(task, pictures)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.2g} pictures/s" if speed else "")

        with visible_streams():  # rich has put streams of its own in their place
            yield advance


@contextmanager
def working(on: str, quiet: bool = False) -> Iterator[None]:
    """A turning wheel with a word beside it, for work without parts to count; on the error stream, only a terminal."""
    console = console_of_rich(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(on), visible_streams():
        yield
