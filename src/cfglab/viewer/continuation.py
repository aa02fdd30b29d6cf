"""Continuing a run from its page: `cfglab run` of the same folder, in a process of its own."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from cfglab.errors import InputError, MachineError
from cfglab.file_input import lines_of, read_json
from cfglab.limits import VERSIONS_BYTES

STOPPED = 130
"""The exit code of `cfglab run` after Ctrl-C."""
_DEVICE = re.compile(r"(cpu|cuda|mps)(?::\d{1,3})?")


class Continuation:
    """The process that continues a run. It goes on when the page's server ends.

    Args:
        folder: the run folder.
        options: further options of `cfglab run`, from the person who started the server; the run folder gives none.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder, self._options = folder, list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def process(self) -> int | None:
        """The number of the process while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def error(self) -> str:
        """The line with which the last process ended, if it failed."""
        if self._output is None or self._process is None or self._process.poll() in (None, 0, STOPPED):
            return ""
        self._output.seek(0)
        lines = lines_of(self._output.read(1_000_000).decode("utf-8", "replace").strip())
        last = next((line for line in reversed(lines) if line.startswith("cfglab: ")), "")
        return last.removeprefix("cfglab: ") or f"the process ended with code {self._process.returncode}."

    def start(self) -> None:
        """Start the process.

        Raises:
            InputError: it runs already, or the folder has no experiment.yaml.
            MachineError: the process cannot be started.
        """
        if self.process is not None:
            raise InputError(f"process {self.process} continues this run already; wait for it.")
        document = self._folder.resolve() / "experiment.yaml"
        if not document.is_file():
            raise InputError(f"{document}: is missing, and says what to generate; restore it.")
        self.close()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (read when the process has ended)
        try:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # Ctrl-C at the server is not for the run
            )
        except OSError as error:
            raise MachineError(
                f"the run cannot be continued ({error.strerror or error}); look after the machine."
            ) from error

    def wait(self) -> None:
        """Wait until the process has ended."""
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        """Read the process no more."""
        if self._output is not None:
            self._output.close()
            self._output = None

    def command(self) -> list[str]:
        """The command; without a device among the options, the one of the run's last session."""
        folder = self._folder.resolve()
        has_device = any(option.partition("=")[0] == "--device" for option in self._options)
        device = None if has_device else last_device(folder)
        return [
            *(sys.executable, "-m", "cfglab", "run", str(folder / "experiment.yaml"), "--out", str(folder)),
            *("--quiet", "--yes"),
            *(["--device", device] if device else []),
            *self._options,
        ]

    def interrupt(self) -> bool:
        """Interrupt the process as Ctrl-C does; False if there is none."""
        if self._process is None or self._process.poll() is not None:
            return False
        with suppress(OSError):
            if sys.platform == "win32":
                self._process.terminate()
            else:
                self._process.send_signal(signal.SIGINT)
        return True


def last_device(folder: Path) -> str | None:
    """Return the kind of device that the last session of a run had; None if it is not known.

    Args:
        folder: the run folder.
    """
    try:
        sessions = read_json(folder / "versions.json", VERSIONS_BYTES)
    except OSError:
        return None
    last = sessions[-1] if isinstance(sessions, list) and sessions else sessions
    device = last.get("device") if isinstance(last, dict) else None
    kind = _DEVICE.fullmatch(device) if isinstance(device, str) else None
    return kind[1] if kind else None
