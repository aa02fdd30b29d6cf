"""The command line, thin: parse, call one library function, print. One file a kind of command.

Every import that costs something stands inside the command that needs it: help, lists and comparisons load no torch.
This file imports nothing at its top, so that Ctrl-C is answered with one line from the first import on.
"""

import sys

STOPPED = 130
_interrupted = False


def main() -> None:
    """Run the command line and exit: 0; 2 for what was asked; 1 for what failed; 130 when stopped."""
    code = STOPPED
    try:
        _answer_interrupts()
        from cfglab.cli import faults, streams  # noqa: F401 (an error is explained also where memory is short)

        streams.prepare()
        code = call(sys.argv[1:])
        _answer_interrupts(quietly=True)
        streams.finish()
    except KeyboardInterrupt:
        _say_stopped()
    sys.exit(code)


def call(arguments: list[str]) -> int:
    """One command as a function: an error becomes one line on stderr and an exit code.

    What it prints, errors and other libraries' warnings included, has its control characters written out.
    """
    try:
        from cfglab.terminal import visible_streams

        with visible_streams():
            return _call(arguments)
    except KeyboardInterrupt:
        return _say_stopped()


def _call(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _say_stopped()
    except Exception as error:
        if _interrupted:  # an extension module may turn an interrupt into an error of its own
            return _say_stopped()
        return _say(error, debug="--debug" in arguments)


def _run(arguments: list[str]) -> int:
    """One command, by the parser's own steps: its `main` would end the process for a broken pipe of any kind."""
    import typer

    from cfglab.cli import streams
    from cfglab.cli.commands import app

    streams.check_texts(arguments)
    try:
        with typer.main.get_command(app).make_context("cfglab", list(arguments)) as context:
            context.command.invoke(context)
    except typer.Exit as exit:
        return exit.exit_code
    except typer.Abort:  # Ctrl-C, or the end of the input, where something was asked
        return _say_stopped()
    except BrokenPipeError:
        if not streams.reader_left():  # another pipe: a worker's, the network's
            raise
        return 1  # the reader has what it wanted, as in `cfglab list | head -3`
    return 0 if streams.written() else 1


def _say(error: Exception, *, debug: bool) -> int:
    from cfglab.terminal import one_line

    try:
        from cfglab.cli.faults import explain

        code, words = explain(error)
        if debug:
            import traceback

            _print(traceback.format_exc().rstrip("\n"))
    except MemoryError:
        code, words = 1, "out of memory; close other programs, or use fewer or smaller images."
    _print(f"cfglab: {one_line(words)}")
    return code


def _say_stopped() -> int:
    _print("cfglab: stopped; run it again to continue.")
    return STOPPED


def _print(words: str) -> None:
    from contextlib import suppress

    with suppress(OSError, ValueError):  # nobody can be told
        print(words, file=sys.stderr, flush=True)


def _answer_interrupts(*, quietly: bool = False) -> None:
    """Keep in mind that Ctrl-C was pressed; quietly, while Python shuts down, end the process without a traceback."""
    import signal

    def interrupt(*_: object) -> None:
        global _interrupted
        _interrupted = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):  # as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL if quietly else interrupt)
