"""The command line: each command parses its arguments, calls one library function and prints. One file per command.

Slow imports are inside the command that needs them: help, lists and comparisons load no torch. This file imports
nothing at its top, so that Ctrl-C gives one line from the first import on.
"""

import sys

STOPPED = 130
_interrupted = False


def main() -> None:
    """Run the command line and exit: 0 for success, 2 for wrong input, 1 for a failure, 130 when stopped."""
    code = STOPPED
    try:
        _handle_interrupts()
        from cfglab.cli import error_messages, streams, threads  # noqa: F401 (loaded now: later memory may be short)

        streams.prepare()
        threads.wait_briefly()
        code = call(sys.argv[1:])
        _handle_interrupts(silent=True)
        streams.finish()
    except KeyboardInterrupt:
        _print_stopped()
    sys.exit(code)


def call(arguments: list[str]) -> int:
    """Run one command; an error becomes one line on stderr. Control characters are escaped in everything it prints.

    Args:
        arguments: the words after `cfglab`.

    Returns:
        The exit code.
    """
    try:
        from cfglab.terminal import visible_streams

        with visible_streams():
            return _call(arguments)
    except KeyboardInterrupt:
        return _print_stopped()


def _call(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _print_stopped()
    except Exception as error:
        if _interrupted:  # an extension module may turn an interrupt into an error of its own
            return _print_stopped()
        return _print_error(error, debug="--debug" in arguments)


def _run(arguments: list[str]) -> int:
    """One command, by the parser's own steps: its `main` would end the process for a broken pipe of any kind."""
    import typer

    from cfglab.cli import streams
    from cfglab.cli.app import app

    streams.check_texts(arguments)
    try:
        with typer.main.get_command(app).make_context("cfglab", list(arguments)) as context:
            context.command.invoke(context)
    except typer.Exit as exit:
        return exit.exit_code
    except typer.Abort:  # Ctrl-C, or the end of the input, at a question
        return _print_stopped()
    except BrokenPipeError:
        if not streams.reader_closed():  # another pipe: a worker's, the network's
            raise
        return 1  # the reader closed the pipe, as in `cfglab list | head -3`
    return 0 if streams.flush() else 1


def _print_error(error: Exception, *, debug: bool) -> int:
    from cfglab.terminal import one_line

    try:
        from cfglab.cli.error_messages import explain

        code, message = explain(error)
        if debug:
            import traceback

            _print(traceback.format_exc().rstrip("\n"))
    except MemoryError:
        code, message = 1, "out of memory; close other programs, or use fewer or smaller images."
    _print(f"cfglab: {one_line(message)}")
    return code


def _print_stopped() -> int:
    _print("cfglab: stopped; run it again to continue.")
    return STOPPED


def _print(message: str) -> None:
    from contextlib import suppress

    with suppress(OSError, ValueError):  # stderr is closed
        print(message, file=sys.stderr, flush=True)


def _handle_interrupts(*, silent: bool = False) -> None:
    """Record that Ctrl-C was pressed; `silent`: end the process without a traceback, while Python shuts down."""
    import signal

    def interrupt(*_: object) -> None:
        global _interrupted
        _interrupted = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):  # as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL if silent else interrupt)
