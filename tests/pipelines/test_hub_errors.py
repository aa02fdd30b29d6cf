"""What a process of its own prints when it loads models: nothing, and one line for what the hub does not have."""

import json
import os
import subprocess
import sys

import pytest

from tests.hub import serve
from tests.pipelines.families import case
from tests.tiny import tiny_pipeline

LOAD = """
import json, sys
from cfglab.errors import CfglabError
from cfglab.pipelines import load
load(sys.argv[1], sampler="lms")
messages = {}
for name in sys.argv[2:]:
    try:
        load(name, device="cpu")
    except CfglabError as error:
        messages[name] = f"{type(error).__name__} {error}"
print(json.dumps(messages))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A model that can be loaded and two that cannot, in one process: it imports torch and diffusers once."""
    model = tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model")
    folder = tmp_path_factory.mktemp("hub")
    (folder / "empty").mkdir()
    case("StableDiffusion3Pipeline").build().save_pretrained(folder / "sd3")
    with serve({"someone/empty": folder / "empty", "someone/sd3": folder / "sd3"}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache")}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", LOAD, str(model), "someone/nothing", "someone/empty", "someone/sd3"]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


@pytest.fixture
def messages(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    errors: dict[str, str] = json.loads(done.stdout)
    return errors


def test_a_pipeline_of_another_class_is_downloaded(messages: dict[str, str]) -> None:
    assert set(messages) == {"someone/nothing", "someone/empty"}


def test_loading_is_quiet(done: subprocess.CompletedProcess[str]) -> None:
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_a_name_that_the_hub_does_not_know(messages: dict[str, str]) -> None:
    assert messages["someone/nothing"].startswith("InputError no model 'someone/nothing'")
    assert "check the spelling" in messages["someone/nothing"]
    assert "\n" not in messages["someone/nothing"]


def test_a_hub_entry_that_is_no_pipeline(messages: dict[str, str]) -> None:
    assert messages["someone/empty"].startswith("InputError no model 'someone/empty'")
    assert "\n" not in messages["someone/empty"]
