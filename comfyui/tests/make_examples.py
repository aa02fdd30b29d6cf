"""Write example_workflows/ and the screenshots of docs/comfyui.md: COMFYUI=… python -m comfyui.tests.make_examples."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from .server import page_of, serving
from .workflows import WORKFLOWS

PACK = Path(__file__).parents[1]
SHOTS = PACK.parent / "docs" / "assets" / "comfyui"


def main() -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, page_of(server) as page:
        for name, prompt in WORKFLOWS.items():
            workflow = page.evaluate(ARRANGE, [prompt, name])
            (PACK / "example_workflows" / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n")
            before = set(Path(folder, "output").glob("*.png"))
            run(page)
            page.wait_for_timeout(1500)
            page.evaluate("() => app.canvas.ds && app.extensionManager.command.execute('Comfy.Canvas.FitView')")
            page.wait_for_timeout(1500)
            page.screenshot(path=SHOTS / f"{name}.png")
            small(SHOTS / f"{name}.png")
            if made := sorted(set(Path(folder, "output").glob("*.png")) - before):
                shutil.copy(made[0], PACK / "example_workflows" / f"{name}.png")


def run(page: Any) -> None:
    """Click the button of the page, and wait for the end of the run."""
    page.evaluate(
        """() => {
            window.ended = null;
            app.api.addEventListener("execution_success", () => (window.ended = "success"), { once: true });
            app.api.addEventListener("execution_error", (event) => (window.ended = event.detail.exception_message), { once: true });
        }"""
    )
    page.get_by_test_id("queue-button").get_by_role("button").first.click()
    page.wait_for_function("() => window.ended", timeout=240_000)


def small(path: Path) -> None:
    """A screenshot of at most 150 kB: 128 colours."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


ARRANGE = """async ([prompt, name]) => {
    await app.loadApiJson(prompt, name);
    app.graph.arrange(60);
    return app.graph.serialize();
}"""

if __name__ == "__main__":
    main()
