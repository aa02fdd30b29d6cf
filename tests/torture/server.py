"""A warm process from which `cfglab run` is started many times, each time in a process of its own that can be killed.

One JSON request a line on stdin, one answer a line on stdout: `{"run": [arguments], "cwd": …, "output": file,
"do": {…}}` gives `{"code": …, "calls": …}`, `{"sh": command}` gives `{"code": …}`. What `do` says is done to the run:

    {"kill": "module:name", "nth": 3, "ends": ".png", "after": false}   SIGKILL at the third call whose first or second
                                                                        argument ends so, before it, or once it returned
    {"kill": "calls", "nth": 12345}                                     SIGKILL at that call of any function
    {"full": "module:name", "nth": 3, "ends": ""}                       from that call on the disk is full
    {"hold": "module:name", "nth": 3, "ends": ""}                       waits there for ever; the answer comes at once,
                                                                        {"pid": …}, and `{"end": pid}` kills it
"""

import errno
import functools
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH = 6
Do = dict[str, Any]


def warm() -> None:
    """Import what a run imports, compile the report's page, and draw in batches of six."""
    for package in ("cli", "pipelines", "denoising", "experiments", "metrics", "scenes", "report"):
        folder = importlib.import_module(f"cfglab.{package}").__path__
        for module in pkgutil.walk_packages(folder, f"cfglab.{package}."):
            importlib.import_module(module.name)
    for name in ("diffusers", "transformers", "accelerate", "safetensors.torch", "rich.progress", "torchsde"):
        importlib.import_module(name)
    from PIL import Image

    Image.init()
    from cfglab.report.page.render import environment

    environment().get_template("page.html.j2")
    from diffusers import AutoencoderKL, LMSDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    from cfglab.experiments.spec import batching as plan

    plan.largest = lambda *_: BATCH


def arrange(do: Do, held: Callable[[], None]) -> None:
    """Put what is to happen in its place."""
    if do.get("kill") == "calls":
        _count_calls(do["nth"])
        return
    for what, act in (("kill", _die), ("full", _fill_disk), ("hold", held)):
        if what in do:
            _at_call(do[what], do["nth"], do.get("ends", ""), act, after=do.get("after", False))


def _at_call(where: str, nth: int, ends: str, act: Callable[[], None], *, after: bool) -> None:
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    real = getattr(owner, name)
    seen = 0

    @functools.wraps(real)
    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += any(str(one).endswith(ends) for one in arguments[:2])
        if seen != nth:
            return real(*arguments, **options)
        if after:
            real(*arguments, **options)
        act()
        return real(*arguments, **options)

    replaced = 0
    for holder in [it for key, it in sys.modules.items() if key.startswith("cfglab")]:
        if getattr(holder, name, None) is real:
            setattr(holder, name, watched)
            replaced += 1
    if owners or not replaced:
        setattr(owner, name, watched)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill_disk() -> None:
    import sqlite3

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = real(*arguments, **options)
        database.execute("PRAGMA max_page_count = 1")  # which is then the size that it has
        return database

    real, sqlite3.connect = sqlite3.connect, connect  # type: ignore[assignment]
    os.fsync = full  # type: ignore[assignment]


calls = 0


def _count_calls(last: int) -> None:
    def watch(_: Any, event: str, __: Any) -> None:
        global calls
        if event in ("call", "c_call"):
            calls += 1
            if calls == last:
                _die()

    sys.setprofile(watch)


def run(request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_here(request, writer)
    os.close(writer)
    with os.fdopen(reader) as answers:
        if "hold" in request.get("do", {}):
            return {"pid": child, "held": answers.read(4) == "held"}
        said = answers.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "calls": int(said or 0)}


def _run_here(request: dict[str, Any], writer: int) -> None:
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(request["cwd"])

    def hold() -> None:
        os.write(writer, b"held")
        while True:
            time.sleep(1000)

    code = 70
    try:
        from cfglab.cli import call

        arrange(request.get("do", {}), hold)
        code = call(request["run"])
        sys.setprofile(None)
        os.write(writer, str(calls).encode())
    finally:
        for text in (sys.stdout, sys.stderr):
            text.flush()
        os._exit(code)


def main() -> None:
    warm()
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "sh" in request:
            answer: dict[str, Any] = {"code": subprocess.run(request["sh"], shell=True, check=False).returncode}
        elif "end" in request:
            os.kill(request["end"], signal.SIGKILL)
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(request["end"], 0)[1])}
        else:
            answer = run(request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
