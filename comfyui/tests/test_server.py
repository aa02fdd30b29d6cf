"""Acceptance (h): the example workflows run through the API of the server, and clicked in its page, with one image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .figures import note
from .make_examples import run
from .server import Server, page_of, serving
from .workflows import WORKFLOWS

PACK = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("comfyui")) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    with page_of(server) as opened:
        yield opened


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def newest(server: Server, count: int) -> list[Path]:
    return sorted((server.folder / "output").glob("*.png"), key=lambda path: path.stat().st_mtime_ns)[-count:]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_h_a_workflow_runs_through_the_api_and_in_the_page_and_gives_one_image(
    server: Server, page: Any, name: str
) -> None:
    history = server.queue(WORKFLOWS[name])
    assert history["status"]["status_str"] == "success", history
    through_api = server.images(history)
    workflow = json.loads((PACK / "example_workflows" / f"{name}.json").read_text())
    page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", workflow)
    page.evaluate("() => app.api.fetchApi('/free', {method: 'POST', body: JSON.stringify({free_memory: true})})")
    assert run(page) == "success"
    clicked = newest(server, len(through_api)) if through_api else []
    assert not set(clicked) & set(through_api)
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(through_api, clicked, strict=True))
    note("h", f"{name}, API and page", 0.0, f"{len(through_api)} images equal")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_h_the_image_of_an_example_carries_its_workflow(page: Any, name: str) -> None:
    path = PACK / "example_workflows" / f"{name}.png"
    page.evaluate("() => app.graph.clear()")
    page.evaluate(
        """async (bytes) => {
            const file = new File([new Uint8Array(bytes)], "example.png", {type: "image/png"});
            await app.handleFile(file);
        }""",
        list(path.read_bytes()),
    )
    page.wait_for_function("() => app.graph._nodes.length > 0")
    classes = page.evaluate("() => app.graph._nodes.map((node) => node.type)")
    assert sorted(classes) == sorted(node["class_type"] for node in WORKFLOWS[name].values())


def test_h_the_images_of_a_list_differ_and_the_first_is_the_one_of_its_own_guidance(server: Server) -> None:
    listed = server.images(server.queue(WORKFLOWS["guidance_list"]))
    assert len(listed) == 6
    assert len({pixels(path).tobytes() for path in listed}) == 6
    alone = json.loads(json.dumps(WORKFLOWS["guidance_and_trace"]))
    alone["5"]["inputs"]["guidance"] = "7.5 | apg()"
    (single,) = server.images(server.queue(alone))
    apart = np.abs(pixels(single).astype(int) - pixels(listed[4]).astype(int)).max()
    note("h", "an image of a list against the same one alone", float(apart), "levels of 255")
    assert apart <= 1


def test_the_line_under_the_text_says_what_is_wrong_while_it_is_typed(page: Any) -> None:
    workflow = json.loads((PACK / "example_workflows" / "further_prompts.json").read_text())
    page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", workflow)
    areas = page.locator("textarea")
    area = next(areas.nth(i) for i in range(areas.count()) if "perp_neg" in areas.nth(i).input_value())
    area.fill("cosin(max=7.5)")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cfglab-fault')].some((line) => line.textContent.includes('cosine'))"
    )
    area.fill("<img src=x onerror=window.ran=1>")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cfglab-fault')].some((line) => line.textContent.includes('<img'))"
    )
    assert page.evaluate("() => window.ran === undefined && !document.querySelector('.cfglab-fault img')")
    area.fill("7.5")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cfglab-fault')].every((line) => line.textContent === '')"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guidance": "cosin(max=7)"}, "did you mean cosine"),
        (
            {"guidance": "7.5 | perp_neg(prompt=blurry)", "prompt_1": None},
            "1 further prompts in the guidance ('blurry') and 0 connected",
        ),
        ({"guidance": "7.5"}, "0 further prompts in the guidance (none) and 1 connected"),
    ],
)
def test_a_fault_is_an_error_of_the_node_in_one_line_and_the_server_goes_on(
    server: Server, change: dict[str, Any], words: str
) -> None:
    prompt = json.loads(json.dumps(WORKFLOWS["further_prompts"]))
    prompt["5"]["inputs"] |= change
    prompt["5"]["inputs"] = {name: value for name, value in prompt["5"]["inputs"].items() if value is not None}
    answer = server.queue(prompt)
    if "node_errors" in answer:
        (fault,) = answer["node_errors"]["5"]["errors"]
        message = fault["details"]
    else:
        (message,) = (
            body["exception_message"] for kind, body in answer["status"]["messages"] if kind == "execution_error"
        )
    assert words in message
    assert "\n" not in message.strip()
    assert server.queue(WORKFLOWS["further_prompts"])["status"]["status_str"] == "success"


def test_a_batch_of_the_wrong_length_is_an_error_of_the_sampler_in_one_line(server: Server) -> None:
    prompt = json.loads(json.dumps(WORKFLOWS["guidance_list"]))
    prompt["6"]["inputs"]["latent_image"] = ["4", 0]
    messages = dict(server.queue(prompt)["status"]["messages"])
    assert messages["execution_error"]["exception_message"].strip() == (
        "6 guidances for a batch of 1: every image has one; make a batch of 6, or connect the LATENT of the guidance "
        "list."
    )


def test_the_help_page_of_every_node_is_served(server: Server) -> None:
    import urllib.request

    for node in ("Guidance", "GuidanceList", "Schedule", "Curve", "Trace", "Tuned", "Scenes"):
        address = f"{server.address}/extensions/cfglab-comfyui/docs/Cfglab{node}.md"
        assert urllib.request.urlopen(address, timeout=30).read().startswith(b"# ")
