"""The time from pressing Generate in the playground to its first image: a step of it, and the finished image.

    python -m benchmarks.first_image [--repeats 5] [--steps 20]

The page is opened in Chromium (the system's, or $CFGLAB_BROWSER) and each repeat has a prompt of its own. The model is
loaded before the first one. The numbers are those of this machine; docs/performance.md says how to read them.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from tests.report.browser import chromium

WATCH = """() => {
  window.times = {};
  const look = () => {
    const figure = document.querySelector("#view figure");
    if (!figure?.querySelector("img")) return;
    if (figure.dataset.done === "true") times.done ??= performance.now();
    else times.step ??= performance.now();
  };
  const changes = {subtree: true, childList: true, attributes: true};
  new MutationObserver(look).observe(document.querySelector("#view"), changes);
}"""


def measure(page: Any, prompt: str) -> tuple[float, float]:
    """Seconds from the press to the first step that is shown, and to the finished image."""
    page.fill("#prompt :is(textarea, input)", prompt)
    page.evaluate("() => { times = {}; document.querySelector('#view figure')?.remove(); }")
    begun = page.evaluate("performance.now()")
    page.click("#generate")
    page.wait_for_function("times.done !== undefined")
    times = page.evaluate("times")
    return (times.get("step", times["done"]) - begun) / 1000, (times["done"] - begun) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cfglab", "ui", "--no-browser", "--port", "0", "--device", "cpu"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://\S+", server.stdout.readline())  # type: ignore[union-attr]
            with chromium(reach="127.0.0.1") as browser:
                page = browser.new_page()
                page.goto(f"{address[0]}?steps={chosen.steps}")  # type: ignore[index]
                page.wait_for_selector("#notice .cl-ready", state="attached")
                page.evaluate(WATCH)
                measure(page, "a photograph of a horse")  # the first one waits for the model
                animals = ("cat", "dog", "frog", "owl", "fox", "bee", "crab", "whale", "snail", "tiger")
                pairs = [measure(page, f"a photograph of a {animals[n % 10]}") for n in range(chosen.repeats)]
        finally:
            server.terminate()
            server.wait()
    firsts, ends = zip(*pairs, strict=True)
    print(f"{chosen.steps} steps of `scenes`; n = {chosen.repeats}, {os.cpu_count()} cores, load {load:.1f} before.")
    for name, times in (("first step shown", firsts), ("finished image", ends)):
        print(f"{name}: median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
