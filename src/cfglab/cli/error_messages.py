"""The one line that the command line prints for an error: wrong input, a fault of the machine, or a bug of cfglab."""

import errno
import re

from cfglab.errors import CfglabError, InputError, causes, lacks_memory

_LESS_MEMORY = "close other programs, use fewer or smaller images, or --dtype float16"
_DEVICE_FAULT = re.compile(
    r"^(?:CUDA|HIP|XPU|MPS|cuDNN|CUBLAS|CUFFT|NCCL|NVRTC)\b|NVIDIA driver|cudaGetDeviceCount|no kernel image",
    re.IGNORECASE,
)


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the message for an error.

    Args:
        error: any exception that a command raised.

    Returns:
        The exit code and the message: that of cfglab's own errors and of the parser unchanged, a line for faults of the
        machine, and for anything else a line that says that it is a bug.
    """
    if hasattr(error, "format_message"):  # the parser of the command line
        command = getattr(getattr(error, "ctx", None), "command_path", "cfglab")
        return 2, f"{error.format_message().replace('Value error, ', '').rstrip('.')}; see {command} --help."
    if isinstance(error, InputError) or not isinstance(error, CfglabError):
        for cause in causes(error):  # also where a reader took it for a fault of what it read
            if lacks_memory(cause):
                return 1, f"out of memory ({_first_line(cause)}); {_LESS_MEMORY}."
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    for cause in causes(error):
        if (line := _machine_fault(cause)) is not None:
            return line
    return 1, f"{type(error).__name__}: {error} -- this is a fault of cfglab; --debug shows where."


def _machine_fault(error: BaseException) -> tuple[int, str] | None:
    """Exit code and message for a fault of the machine or of the installation; None for any other error."""
    message, kind = _first_line(error), type(error).__name__
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return 1, "too many files are open; close some, or raise the limit (ulimit -n), and run it again."
        prefix = f"{error.filename}: " if error.filename else ""
        return 1, f"{prefix}{error.strerror or message}; look after the machine and run it again."
    if isinstance(error, ImportError):
        library = getattr(error, "name", None) or "a library"
        return 1, f"{library} cannot be imported ({message}); install cfglab again, with its dependencies."
    if type(error).__module__ == "sqlite3":
        return 1, f"a database cannot be used ({message}); look after the folder and its disk and run it again."
    if isinstance(error, UnicodeError):
        return 2, f"text is not UTF-8 ({message}); write files and arguments in UTF-8."
    if kind in ("AcceleratorError", "SafetensorError", "HfHubHTTPError") or (
        isinstance(error, RuntimeError) and _DEVICE_FAULT.search(message)
    ):
        return 1, f"the machine failed ({message}); look after its devices and drivers, or use --device cpu."
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
