"""Guidances on the hub by name, against its stand-in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cfglab as cl
from cfglab.errors import InputError
from tests.hub import serve

TEXTS = ["cosine(max=7.5, min=1, k=0.3) | apg(norm_threshold=15)", "7.5"]
SCRIPT = """
import json, sys
import cfglab as cl
from cfglab.errors import CfglabError
answers = []
for action, repository, name, text in json.loads(sys.argv[1]):
    try:
        if action == "push":
            answers.append(cl.Guidance(text).push_to_hub(repository, name))
        else:
            answers.append(str(cl.Guidance.from_hub(repository, name)))
    except CfglabError as error:
        answers.append(f"{type(error).__name__} {error}")
print(json.dumps(answers))
"""


def run(address: str, cache: Path, actions: list[tuple[str, str, str, str]]) -> list[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_stand_in"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(actions)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    answers: list[str] = json.loads(output)
    return answers


def test_guidances_are_pushed_and_loaded_by_name(tmp_path: Path) -> None:
    pushes = [("push", "someone/guidances", f"k-{number}", text) for number, text in enumerate(TEXTS)]
    loads = [("load", "someone/guidances", f"k-{number}", "") for number in range(2)]
    with serve({}, tmp_path / "uploads") as hub:
        answers = run(hub.address, tmp_path / "cache", [*pushes, *loads])
        asked = list(hub.asked)
    assert answers[2:] == TEXTS
    assert all("/someone/guidances/commit/" in address for address in answers[:2])
    files = sorted(path.relative_to(tmp_path / "uploads").as_posix() for path in (tmp_path / "uploads").rglob("*.json"))
    assert files == ["guidance/k-0.json", "guidance/k-1.json"]
    stored = (tmp_path / "uploads" / "guidance" / "k-0.json").read_text(encoding="utf-8")
    assert cl.Guidance.from_json(stored) == cl.Guidance(TEXTS[0])
    assert asked.count("POST /api/repos/create") == 2


def test_what_the_hub_has_not_or_refuses_or_holds_wrongly_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "guidance"
    folder.mkdir(parents=True)
    (folder / "bad.json").write_text('{"schedule": {"kind": "no_such_kind"}}')
    (folder / "list.json").write_text("[1, 2]")
    actions = [
        ("load", "someone/here", "bad", ""),
        ("load", "someone/here", "list", ""),
        ("load", "someone/here", "missing", ""),
        ("load", "someone/nothing", "k", ""),
        ("push", "someone/new", "k", "7.5"),
    ]
    with serve({"someone/here": tmp_path / "repository"}) as hub:
        bad, listed, missing, nothing, refused = run(hub.address, tmp_path / "cache", actions)
    assert bad.startswith("InputError the JSON of a guidance")
    assert "not the JSON of a guidance" in listed
    assert missing.startswith("InputError guidance 'missing' of 'someone/here': the hub refuses")
    assert nothing.startswith("InputError guidance 'k' of 'someone/nothing': the hub refuses")
    assert refused.startswith("InputError guidance 'k' to 'someone/new': the hub refuses")
    assert not any("\n" in line for line in (bad, listed, missing, nothing, refused))


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("guidances", "k"),
        ("../x", "k"),
        ("a/b/c", "k"),
        ("someone/x\n", "k"),
        ("someone/x", "../k"),
        ("someone/x", "a/b"),
        ("someone/x", ""),
        ("someone/x", ".k"),
        ("someone/x", "a..b"),
        ("someone/x", "k" * 65),
    ],
)
def test_a_name_that_is_a_path_is_refused_before_anything_is_asked(repository: str, name: str) -> None:
    for call in (
        lambda: cl.Guidance(7.5).push_to_hub(repository, name),
        lambda: cl.Guidance.from_hub(repository, name),
    ):
        with pytest.raises(InputError, match=r"a hub id is owner/name|a guidance's name has"):
            call()


def test_a_function_cannot_be_pushed() -> None:
    with pytest.raises(InputError, match="function"):
        cl.Guidance(lambda step: 1.0 + step.index).push_to_hub("someone/guidances")
