"""Remake the screenshots and figures of docs/ that show the bundled model: what the program shows, with its images.

    python docs/screens.py [NAME …]

`make setup` installs what it needs, but for Chromium: the system's, or $CFGLAB_BROWSER. Prompts and seeds were chosen,
for objects that are easy to name. Real are the images, the run and its numbers, and the training, which goes on from
weights of `scenes` with noise in them. Invented are the votes of the tab Compare but the last one. About six minutes on
two idle cores.
"""

import argparse
import base64
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import cfglab as cl
from cfglab.experiments.storage.files import write_whole
from cfglab.scenes.renderer import draw_scenes
from cfglab.ui.votes import StoredVote, add_vote
from tests.report.browser import chromium, until
from training.source import SceneSource

IMAGES = Path(__file__).resolve().parent / "images"
WAIT = 1_800_000  # milliseconds: a batch of images on a busy machine
GAP, WIDE = 8, 700  # pixels: between light and dark in pictures of a notebook; an element that is there once

PROMPT, SEED, STEPS = "a rocket above a house", 5, 20
GUIDANCE = "cosine(max=7.5, min=1) | rescale(strength=0.5)"
SWEEP, SWEEP_SEEDS = "cosine(max={w:3, 7.5}, min=1, k={k:0.3, 1})", "4..5"
SWEEP_PROMPTS = (PROMPT, "a red car next to a tree")
VOTES = (
    ("7.5", "1", 9, 1, 1),
    ("7.5", "cosine(max=7.5, min=1)", 4, 3, 5),
    ("7.5", "7.5 | rescale()", 4, 3, 4),
    ("cosine(max=7.5, min=1)", "1", 8, 1, 2),
    ("cosine(max=7.5, min=1)", "7.5 | rescale()", 3, 3, 2),
    ("7.5 | rescale()", "1", 6, 1, 1),
)
"""Invented votes: two guidances, and how many votes the first one won, how many were a tie, and how many it lost."""

RUN, RUN_PROMPT, SHEET_SEED = "runs/k-decay", "a frog next to a mushroom", "6"
AXES = {f"groups.{group}.axes.k": [0.3, 1, 3] for group in (0, 1)}
HALF = "49 of 112"  # after a batch of 7, the first look, and one of 42

CHECKPOINTS = (0, 20, 40, 80, 160)
NOISE, RATE, BATCH = 0.25, 1e-4, 8  # of the weights before the training, in their standard deviations; of the training
VALIDATION_PROMPTS = (PROMPT, "a red car next to a tree", RUN_PROMPT, "two red cars")

WIDGET = """
const state = JSON.parse(document.getElementById("state").textContent);
for (const name of ["first", "second"]) state[name] = Uint8Array.from(atob(state[name]), (it) => it.charCodeAt(0));
const get = (name) => state[name], set = (name, value) => { state[name] = value; };
widget.render({ model: { get, set, on() {}, off() {}, save_changes() {} }, el: document.getElementById("place") });
"""

Pictures = Iterator[tuple[str, bytes]]
"""The path of a picture below docs/images/, and its file."""


def webp(png: bytes) -> bytes:
    """A picture as WebP.

    Args:
        png: The picture in any format that Pillow reads.
    """
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, format="webp", quality=85, method=6)
    return file.getvalue()


@contextlib.contextmanager
def served(*command: str) -> Iterator[str]:
    """Start a server of cfglab, and end it after.

    Args:
        *command: The arguments of Python.

    Yields:
        The address that the server prints.
    """
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line
        yield address[0].replace("localhost", "127.0.0.1")
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


@contextlib.contextmanager
def opened(browser: Any, height: int = 860, theme: str = "light", width: int = 1200) -> Iterator[Any]:
    """An empty page of a browser.

    Args:
        browser: The browser.
        height: The height of the page in pixels.
        theme: light or dark.
        width: Its width.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(WAIT)
    try:
        yield page
    finally:
        context.close()


def loaded(page: Any, images: str) -> None:
    """Wait until images are there.

    Args:
        page: The page.
        images: Their CSS selector.
    """
    until(page, f"[...document.querySelectorAll({images!r})].every((it) => it.complete && it.naturalWidth)")


def playground(browser: Any) -> Pictures:
    """The tabs of `cfglab ui`.

    Args:
        browser: The browser.
    """
    for first, second, *counts in VOTES:
        for outcome, count in zip(("left", "tie", "right"), counts, strict=True):
            for _ in range(int(count)):
                vote = {"left": first, "right": second, "outcome": outcome, "blind": True, "prompt": PROMPT}
                more = {"seed": SEED, "steps": STEPS, "sampler": "euler", "model": "scenes"}
                add_vote(Path("votes.jsonl"), StoredVote.model_validate(vote | more))
    options = ("--no-browser", "--port", "0", "--device", "cpu", "--votes", "votes.jsonl")
    query = urlencode({"prompt": PROMPT, "guidance": GUIDANCE, "seed": SEED, "steps": STEPS})
    with served("-m", "cfglab", "ui", *options) as address:
        for name, theme in (("generate", "light"), ("dark", "dark")):
            with opened(browser, 980, theme) as page:
                page.goto(f"{address}?{query}")
                page.wait_for_selector("#notice .cl-ready", state="attached")
                page.click("#generate")
                page.wait_for_selector("#view figure[data-done=true]")
                page.wait_for_timeout(500)
                yield f"ui/{name}.webp", webp(page.screenshot())
        with opened(browser, 1130) as page:
            page.goto(f"{address}?{query}")
            page.wait_for_selector("#notice .cl-ready", state="attached")
            page.get_by_role("tab", name="Compare", exact=True).click()
            page.uncheck("#blind input")
            page.click("#compare")
            page.wait_for_selector("#pair figcaption:text-is('7.5')")
            page.check("#blind input")  # the pair stays, and so do its sides, which would be random otherwise
            page.wait_for_selector("#pair figcaption:text-is('right')")
            page.click("#vote-right")
            page.wait_for_selector("#thumbs img")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            yield "ui/compare.webp", webp(page.screenshot())
        with opened(browser, 760) as page:
            page.goto(address)
            page.wait_for_selector("#notice .cl-ready", state="attached")
            page.get_by_role("tab", name="Sweep", exact=True).click()
            page.fill("#sweep-prompts textarea", "\n".join(SWEEP_PROMPTS))
            page.fill("#template textarea", SWEEP)
            page.fill("#seeds :is(textarea, input)", SWEEP_SEEDS)
            page.wait_for_selector("text=5 settings × 2 prompts × 2 seeds = 20 images")
            page.click("#sweep-start")
            page.wait_for_selector("text=20 of 20 images · complete")
            loaded(page, "#sweep-grid td img")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            yield "ui/sweep.webp", webp(page.screenshot())


def of_a_run(browser: Any) -> Pictures:
    """A run in progress in `cfglab show`; then what is saved of it, and what a notebook shows of it.

    Args:
        browser: The browser.
    """
    experiment = cl.Experiment.preset("k-decay", prompts=(RUN_PROMPT,), steps=STEPS, set=AXES)
    Path("k-decay.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
    command = ("-m", "cfglab", "run", "k-decay.yaml", "--out", RUN, "--device", "cpu", "--quiet")
    with served("-m", "cfglab", "show", RUN, "--watch", "--no-browser", "--port", "0") as address:
        running = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        try:
            with opened(browser) as page:
                page.goto(address)
                page.locator(f"#counts:has-text('{HALF}')").wait_for()
                page.wait_for_timeout(2000)
                loaded(page, "#images img")
                yield "show/running.webp", webp(page.screenshot())
            assert running.wait() == 0
        finally:
            running.kill()
    run = cl.Run(Path(RUN))
    comparison = run.compare("alignment")
    run.report()
    sheet = run.save_images("sheet.png", rows="group", columns="k", at={"seed": SHEET_SEED})
    yield "show/sheet.webp", webp(sheet.read_bytes())
    yield "show/figure.svg", comparison.save("figure.svg").read_bytes()
    for name, shown in (("experiment", experiment), ("run", run), ("comparison", comparison)):
        yield f"notebook/{name}.png", in_a_notebook(browser, html_of(shown), ".cfglab")


def notebook(browser: Any) -> Pictures:
    """What a notebook shows of a guidance and a trace, and the widget with two images.

    Args:
        browser: The browser.
    """
    guidance = cl.Guidance("cosine(max=7.5, min=1) | rescale(strength=0.5) | pag()")
    yield "notebook/guidance.png", in_a_notebook(browser, html_of(guidance), ".cfglab")
    pipe = cl.load("scenes")
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    with cl.guide(pipe, "cosine(max=7.5, min=1) | apg()") as trace:
        pipe(["a frog", "a red car"], num_inference_steps=25, generator=noise)
    yield "notebook/trace.png", in_a_notebook(browser, html_of(trace), ".cfglab")
    noise = [torch.Generator().manual_seed(SEED) for _ in range(2)]
    with cl.guide(pipe, ["3", "7.5"]):
        images = pipe([PROMPT] * 2, num_inference_steps=25, generator=noise).images
    flicker = cl.widgets.Flicker(images[0], images[1], labels=("w = 3", "w = 7.5"))
    script = str(flicker._esm).replace("export default { render };", "const widget = { render };")
    state = {name: value for name, value in flicker.get_state().items() if not name.startswith("_")}
    texts = {name: base64.b64encode(value).decode() for name, value in state.items() if isinstance(value, bytes)}
    html = (
        f'<style>{flicker._css}</style><div id="place"></div><script type="application/json" id="state">'
        f"{json.dumps(state | texts)}</script><script>{script}{WIDGET}</script>"
    )
    yield "notebook/widget-flicker.png", in_a_notebook(browser, html, ".cfglab-flicker")


def html_of(shown: Any) -> str:
    """What a notebook shows of an object.

    Args:
        shown: The object.
    """
    html: str = shown._repr_mimebundle_()["text/html"]
    return html


def in_a_notebook(browser: Any, html: str, selector: str) -> bytes:
    """HTML of a notebook, half of it light and half of it dark, as a PNG of 256 colours.

    A narrow element is there twice, side by side; a wide one once, its right half dark.

    Args:
        browser: The browser.
        html: The HTML.
        selector: The CSS selector of the element to take.
    """
    halves = []
    for theme, paper in (("light", "#fff"), ("dark", "#121212")):
        with opened(browser, theme=theme) as page:
            page.set_content(f'<!doctype html><meta charset="utf-8"><body style="background: {paper}">{html}')
            loaded(page, "img")
            halves.append(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"))
    light, dark = halves
    if light.width < WIDE:
        both = Image.new("RGB", (light.width + GAP + dark.width, light.height), "grey")
        both.paste(light, (0, 0))
        both.paste(dark, (light.width + GAP, 0))
    else:
        half = (light.width // 2, 0, light.width, light.height)
        both = light.copy()
        both.paste(dark.crop(half), half[:2])
    file = io.BytesIO()
    both.quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
    return file.getvalue()


def validation(browser: Any) -> Pictures:
    """The page of a training with `cl.validation`.

    Args:
        browser: The browser.
    """
    torch.manual_seed(0)
    pipe = cl.load("scenes", device="cpu", sampler="ddim")
    with torch.no_grad():
        for weights in pipe.unet.parameters():
            weights += NOISE * weights.std(correction=0) * torch.randn_like(weights)
    guidances = ["1", "3", "7.5", "7.5 | apg()"]
    validate = cl.validation(pipe, guidances, VALIDATION_PROMPTS, out="validation", seeds="0..1", steps=12)
    source, random = SceneSource(0), Random(0)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), lr=RATE)
    pipe.unet.train()
    for step in range(CHECKPOINTS[-1] + 1):
        if step in CHECKPOINTS:
            done = validate(step)
            print(f"step {step}: {done.scalars['validation/alignment/7.5']:.0%} at w = 7.5", flush=True)
        scenes = [source.scene() for _ in range(BATCH)]
        captions = [source.caption(scene) if random.random() > 0.1 else "" for scene in scenes]
        with torch.no_grad():
            pixels = draw_scenes(scenes, random).float() / 127.5 - 1
            latents = pipe.vae.encode(pixels).latent_dist.sample() * pipe.vae.config.scaling_factor
            ids = pipe.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
            embeddings = pipe.text_encoder(ids)[0]
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (BATCH,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        F.mse_loss(pipe.unet(noisy, timesteps, embeddings).sample, noise).backward()
        optimizer.step()
        optimizer.zero_grad()
    with opened(browser, width=1180) as page:
        page.goto(done.page.resolve().as_uri())
        loaded(page, "img[data-view]")
        yield "show/validation.webp", webp(page.screenshot(full_page=True))


GROUPS = {
    playground: ("generate", "dark", "compare", "sweep"),
    of_a_run: ("running", "sheet", "figure", "experiment", "run", "comparison"),
    notebook: ("guidance", "trace", "widget-flicker"),
    validation: ("validation",),
}
NAMES = [name for names in GROUPS.values() for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if left out: {', '.join(NAMES)}")
    chosen = parser.parse_args().names or NAMES
    if unknown := set(chosen).difference(NAMES):
        parser.error(f"no picture {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    with chromium(reach="127.0.0.1") as browser:
        for make, names in GROUPS.items():
            if not set(names).intersection(chosen):
                continue
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                for path, content in make(browser):
                    if Path(path).stem in chosen:
                        write_whole(IMAGES / path, content)
                        print(f"{path}: {len(content):,} bytes", flush=True)


if __name__ == "__main__":
    main()
