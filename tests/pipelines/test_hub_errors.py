"""What the hub does not have is said in one line, with the name and the next step."""

import os
import subprocess
import sys
from pathlib import Path

from tests.hub import serve

LOAD = """
import sys
from cfglab.errors import CfglabError
from cfglab.pipelines import load
try:
    load(sys.argv[1], device="cpu")
except CfglabError as error:
    print(type(error).__name__, error)
"""


def load_in_a_process(name: str, models: dict[str, Path], cache: Path) -> str:
    with serve(models) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", LOAD, name]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_name_that_the_hub_does_not_know(tmp_path: Path) -> None:
    said = load_in_a_process("someone/nothing", {}, tmp_path / "cache")
    assert said.startswith("InputError no model 'someone/nothing'")
    assert "check the spelling" in said
    assert said.count("\n") == 1


def test_a_hub_entry_that_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = load_in_a_process("someone/empty", {"someone/empty": tmp_path / "empty"}, tmp_path / "cache")
    assert said.startswith("InputError no model 'someone/empty'")
