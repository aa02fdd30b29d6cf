"""Write example_workflows/ and the screenshots of docs/comfyui.md: python -m comfyui.tests.make_examples [NAME …]."""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from .server import page_of, serving
from .workflows import WORKFLOWS

PACK = Path(__file__).parents[1]
SHOTS = PACK.parent / "docs" / "images" / "comfyui"


def main() -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, page_of(server) as page:
        for name in sys.argv[1:] or WORKFLOWS:
            prompt = WORKFLOWS[name]
            workflow = page.evaluate(ARRANGE, [prompt, name, SIZES])
            (PACK / "example_workflows" / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n")
            before = set(Path(folder).glob("*/*.png"))
            run(page)
            page.wait_for_timeout(1500)
            page.evaluate("() => app.canvas.ds && app.extensionManager.command.execute('Comfy.Canvas.FitView')")
            page.wait_for_timeout(1500)
            page.screenshot(path=SHOTS / f"{name}.png", clip={"x": 40, "y": 78, "width": 1360, "height": 720})
            small(SHOTS / f"{name}.png")
            images = sorted(set(Path(folder).glob("*/*.png")) - before, key=lambda path: path.parent.name)
            shutil.copy(images[0], PACK / "example_workflows" / f"{name}.png")


def run(page: Any) -> str:
    """Click the button of the page, and wait for the end of the run: "success", or the message of its error."""
    page.evaluate(
        """() => {
            window.ended = null;
            const once = { once: true };
            app.api.addEventListener("execution_success", () => (window.ended = "success"), once);
            const failed = (event) => (window.ended = event.detail.exception_message);
            app.api.addEventListener("execution_error", failed, once);
        }"""
    )
    page.get_by_test_id("queue-button").get_by_role("button").first.click()
    page.wait_for_function("() => window.ended", timeout=240_000)
    ended: str = page.evaluate("() => window.ended")
    return ended


def small(path: Path) -> None:
    """A screenshot of at most 150 kB: 128 colours."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


SIZES = {
    "CfglabScenes": (0, 0, 230, 70),
    "EmptyLatentImage": (0, 0, 230, 110),
    "CfglabTuned": (0, 0, 270, 60),
    "BasicScheduler": (0, 0, 230, 110),
    "CLIPTextEncode": (0, 1, 270, 110),
    "CfglabGuidance": (0, 2, 380, 300),
    "CfglabGuidanceList": (0, 2, 380, 340),
    "CfglabSchedule": (0, 2, 380, 240),
    "KSampler": (0, 3, 270, 270),
    "CfglabCurve": (0, 3, 380, 200),
    "VAEDecode": (0, 4, 270, 50),
    "CfglabTrace": (0, 4, 270, 60),
    "SaveImage": (0, 4, 270, 230),
    "PreviewImage": (1, 0, 780, 330),
    "PreviewAny": (1, 1, 600, 330),
}
"""The row, column, width and height of each class of nodes."""

ARRANGE = """async ([prompt, name, sizes]) => {
    app.clean();
    await app.loadApiJson(prompt, name);
    const widths = {}, heights = [[], []], GAP = 60;
    for (const node of app.graph._nodes) {
        const [row, column, width, height] = sizes[node.type];
        widths[[row, column]] = Math.max(widths[[row, column]] ?? 0, width);
        heights[row][column] = (heights[row][column] ?? 0) + height + GAP;
    }
    const filled = {}, second = Math.max(...heights[0].filter((height) => height));
    for (const node of app.graph._nodes) {
        const [row, column, width, height] = sizes[node.type];
        let left = 0;
        for (let before = 0; before < column; before++) left += widths[[row, before]] ? widths[[row, before]] + GAP : 0;
        node.pos = [left, row * second + (filled[[row, column]] ?? 0)];
        node.setSize([width, height]);
        filled[[row, column]] = (filled[[row, column]] ?? 0) + height + GAP;
    }
    for (const widget of app.graph._nodes.flatMap((node) => node.widgets ?? [])) {
        if (widget.name === "control_after_generate") widget.value = "fixed";
        if (widget.name === "seed") widget.value = 3;
    }
    return app.graph.serialize();
}"""

if __name__ == "__main__":
    main()
