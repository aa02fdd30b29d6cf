"""The command line, thin: parse, call one library function, print. One file a kind of command.

Every import that costs something stands inside the command that needs it: help, lists and comparisons load no torch.
"""

import io
import os
import sys
import traceback

from cfglab.cli import drawing, looking, picture, reading, tuning  # noqa: F401 (they add their commands)
from cfglab.cli.app import app
from cfglab.errors import CfglabError, is_memory_error
from cfglab.terminal import one_line, visible_streams


def main() -> None:
    """Run the command line and exit: 0; 2 for what was asked; 1 for what failed; 130 when stopped."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows ? where it must
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """One command as a function: an error becomes one line on stderr and an exit code.

    What it prints, errors and other libraries' warnings included, has its control characters written out.
    """
    with visible_streams():
        return _call(arguments)


def _call(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="cfglab", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted, as in `cfglab list | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        code, words = _explain(error)
        print(f"cfglab: {one_line(words)}", file=sys.stderr)
    if code == 130:
        print("cfglab: stopped; run it again to continue.", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and words: ours and the parser's as they are, the machine's named, anything else admitted as a bug."""
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # the parser of the command line
        command = getattr(getattr(error, "ctx", None), "command_path", "cfglab")
        return 2, f"{error.format_message().replace('Value error, ', '').rstrip('.')}; see {command} --help."
    if is_memory_error(error):
        return 1, f"out of memory ({error}); use fewer or smaller pictures, or --dtype float16."
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return 1, f"{place}{error.strerror or error}; look after the machine and run it again."
    return 1, f"{type(error).__name__}: {error} -- this is a fault of cfglab; --debug shows where."
