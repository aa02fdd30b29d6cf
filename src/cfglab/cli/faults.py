"""What an error is, in one line: what was asked, what the machine lacks, or, where nothing else is left, our fault."""

import errno
import re

from cfglab.errors import CfglabError, InputError, causes, lacks_memory

_LESS = "close other programs, use fewer or smaller images, or --dtype float16"
_DEVICE = re.compile(
    r"^(?:CUDA|HIP|XPU|MPS|cuDNN|CUBLAS|CUFFT|NCCL|NVRTC)\b|NVIDIA driver|cudaGetDeviceCount|no kernel image",
    re.IGNORECASE,
)


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and words: ours and the parser's as they are, the machine's named, anything else admitted as a bug."""
    if hasattr(error, "format_message"):  # the parser of the command line
        command = getattr(getattr(error, "ctx", None), "command_path", "cfglab")
        return 2, f"{error.format_message().replace('Value error, ', '').rstrip('.')}; see {command} --help."
    if isinstance(error, InputError) or not isinstance(error, CfglabError):
        for cause in causes(error):  # also where a reader took it for a fault of what it read
            if lacks_memory(cause):
                return 1, f"out of memory ({_first_line(cause)}); {_LESS}."
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    return next((found for cause in causes(error) if (found := _of_machine(cause))), _bug(error))


def _of_machine(error: BaseException) -> tuple[int, str] | None:
    """The line for a condition of the machine, or of its installation; None where this is none."""
    words, kind = _first_line(error), type(error).__name__
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return 1, "too many files are open; close some, or raise the limit (ulimit -n), and run it again."
        place = f"{error.filename}: " if error.filename else ""
        return 1, f"{place}{error.strerror or words}; look after the machine and run it again."
    if isinstance(error, ImportError):
        named = getattr(error, "name", None)
        return 1, f"{named or 'a library'} cannot be imported ({words}); install cfglab again, with its dependencies."
    if type(error).__module__ == "sqlite3":
        return 1, f"a database cannot be used ({words}); look after the folder and its disk and run it again."
    if isinstance(error, UnicodeError):
        return 2, f"text is not UTF-8 ({words}); write files and arguments in UTF-8."
    if kind in ("AcceleratorError", "SafetensorError", "HfHubHTTPError") or (
        isinstance(error, RuntimeError) and _DEVICE.search(words)
    ):
        return 1, f"the machine failed ({words}); look after its devices and drivers, or use --device cpu."
    return None


def _bug(error: BaseException) -> tuple[int, str]:
    return 1, f"{type(error).__name__}: {error} -- this is a fault of cfglab; --debug shows where."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
