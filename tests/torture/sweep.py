"""A sweep that is killed, starved and damaged, and what is compared at its end."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
YAML = """
name: sweep
prompts: {prompts}
seeds: {seeds}
steps: 2
width: 128
height: 128
baseline: {{name: constant, guidance: 3}}
groups:
  - {{name: falling, guidance: "cosine(max=7.5, min=1, k={{k}})", axes: {{k: [0.3, 1]}}}}
"""
Where = dict[str, Any]


class Server:
    """`tests.torture.server` in a process. A context manager; with `alone` it may mount, and nobody else sees it."""

    def __init__(self, *, alone: bool = False) -> None:
        command = [sys.executable, "-m", "tests.torture.server"]
        if alone:
            command = ["unshare", "-Urm", *command]
        quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | quiet,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._answer() == {"ready": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


class Sweep:
    """`cfglab run sweep.yaml --out run` in a folder, again and again. `said` is what the last one printed."""

    def __init__(
        self, server: Server, folder: Path, model: Path, *, prompts: str = "scenes:4", seeds: str = "0..3"
    ) -> None:
        self.server, self.folder = server, folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.yaml").write_text(YAML.format(prompts=prompts, seeds=seeds), encoding="utf-8")
        self.command = ["run", "sweep.yaml", "--model", str(model), "--device", "cpu", "--out", "run"]
        self.said = ""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def go(self, do: Where | None = None, command: Sequence[str] | None = None) -> dict[str, Any]:
        output = self.folder / "output.txt"
        answer = self.server.ask(
            run=list(command or self.command), cwd=str(self.folder), output=str(output), do=do or {}
        )
        self.said = output.read_text(encoding="utf-8")
        return answer

    def count(self, query: str = "SELECT count(*) FROM results") -> int:
        with closing(sqlite3.connect(self.run / "results.sqlite")) as database:
            return int(database.execute(query).fetchone()[0])


def contents(run: Path) -> dict[str, Any]:
    """Everything that a run folder holds, byte by byte; of databases every row of every table."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or name in (".lock", ".session.json") or name.endswith(("-shm", "-wal")):
            continue
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as database:
                found[name] = sorted(database.iterdump())
        else:
            found[name] = path.read_bytes()
    return found
