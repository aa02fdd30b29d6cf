"""What the hub does not have is said in one line, with the name and the next step."""

import json
import os
import subprocess
import sys

import pytest

from tests.hub import serve

LOAD = """
import json, sys
from cfglab.errors import CfglabError
from cfglab.pipelines import load
messages = {}
for name in sys.argv[1:]:
    try:
        load(name, device="cpu")
    except CfglabError as error:
        messages[name] = f"{type(error).__name__} {error}"
print(json.dumps(messages))
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The error of each model that cannot be loaded, from one process: it imports torch and diffusers once."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "empty").mkdir()
    with serve({"someone/empty": folder / "empty"}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache")}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", LOAD, "someone/nothing", "someone/empty"]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert output.count("\n") == 1
    errors: dict[str, str] = json.loads(output)
    return errors


def test_a_name_that_the_hub_does_not_know(messages: dict[str, str]) -> None:
    assert messages["someone/nothing"].startswith("InputError no model 'someone/nothing'")
    assert "check the spelling" in messages["someone/nothing"]
    assert "\n" not in messages["someone/nothing"]


def test_a_hub_entry_that_is_no_pipeline(messages: dict[str, str]) -> None:
    assert messages["someone/empty"].startswith("InputError no model 'someone/empty'")
    assert "\n" not in messages["someone/empty"]
