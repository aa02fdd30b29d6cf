"""What only a GPU can show, in ten minutes; it writes docs/gpu.md. `make gpu`, or

    python -m benchmarks.gpu [SECTION …] [--model FOLDER] [--page PAGE] [--cpu]

Sections: correctness, precision, offload, overhead, rows, ray, seed. All weights are random, of the sizes of Stable
Diffusion 1.5 and SDXL, except in `seed`, which needs `--model`: the folder of prompthero/openjourney or another
Stable Diffusion 1.x. Without a GPU, or with --cpu, everything runs once in tiny sizes: a rehearsal; the page says so.
"""

import argparse
import datetime
import gc
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

import cfglab
from benchmarks.turns import in_turns, median, ratio, table
from cfglab.experiments import Experiment
from cfglab.experiments.execution.run import run as run_experiment
from cfglab.experiments.storage.files import write_whole

PAGE = Path(__file__).parents[1] / "docs/gpu.md"
SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
}
TINY: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
METHODS = (
    "7.5",
    "cosine(max=7.5, min=1)",
    "constant(7.5).inside(progress=(0.2, 0.8))",
    "7.5 | rescale(strength=0.7)",
    "7.5 | apg(eta=0.5, momentum=-0.5, norm_threshold=15)",
    "5 | cfg_zero_star()",
    "5 | fdg()",
    "5 | fresca(cutoff=2)",
    "5 | prediction_norm()",
    "5 | tcfg()",
    "5 | mimic_threshold(mimic=3)",
    "3 | pag()",
    "3 | seg()",
    "3 | cads()",
    "5 | adaptive(similarity=0.99)",
    "5 | reuse(every=2)",
)
NOT_YET = "No section of this page has run on a GPU yet."


@dataclass(frozen=True)
class Setup:
    """The device and the sizes of a run.

    Attributes:
        device: The device.
        small: The configuration of a network of the size of Stable Diffusion 1.5.
        large: The configuration of a network of the size of SDXL.
        steps: Steps of an image whose time is measured.
        repeats: Repeats of each measurement.
        model: A model folder for `seed`; None leaves it out.
    """

    device: str
    small: dict[str, Any]
    large: dict[str, Any]
    steps: int
    repeats: int
    model: str | None = None

    @property
    def is_rehearsal(self) -> bool:
        """Whether the numbers mean nothing: tiny sizes on a CPU."""
        return self.device == "cpu"


def setup_of(device: str, model: str | None) -> Setup:
    """The full sizes on a GPU, tiny ones on a CPU."""
    if device == "cpu":
        return Setup(device, TINY, TINY, steps=2, repeats=1, model=model)
    return Setup(device, SD15, SDXL, steps=20, repeats=9, model=model)


def pipeline(config: dict[str, Any], device: str, dtype: torch.dtype) -> Any:
    """A Stable Diffusion pipeline with a random network, the same on every device and in every dtype."""
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(**config).to(device, dtype).eval()
    pipe = diffusers.StableDiffusionPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=network,
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe: Any, steps: int, images: int = 1, scale: float = 7.5) -> Tensor:
    """The latents of some images, from noise and text that are drawn on the CPU."""
    width = pipe.unet.config.cross_attention_dim
    text = torch.randn(2, 77, width, generator=torch.Generator().manual_seed(1)).to(pipe.unet.dtype)
    device = pipe._execution_device
    side = 8 * pipe.unet.config.sample_size
    latents: Tensor = pipe(
        prompt_embeds=text[:1].expand(images, -1, -1).to(device),
        negative_prompt_embeds=text[1:].expand(images, -1, -1).to(device),
        guidance_scale=scale,
        num_inference_steps=steps,
        height=side,
        width=side,
        generator=[torch.Generator().manual_seed(seed) for seed in range(images)],
        output_type="latent",
        return_dict=False,
    )[0]
    if latents.device.type == "cuda":
        torch.cuda.synchronize()
    return latents


def guided(pipe: Any, guidance: Any, steps: int, images: int = 1) -> Tensor:
    """The same under guide()."""
    with cfglab.guide(pipe, guidance):
        return generate(pipe, steps, images)


def code(text: str) -> str:
    """A guidance in a cell of a table."""
    return f"`{text}`".replace("|", r"\|")


def distance(result: Tensor, reference: Tensor) -> float:
    """The L2 norm of the difference over that of the reference."""
    result, reference = (x.double().cpu() for x in (result, reference))
    return float((result - reference).norm() / reference.norm())


def correctness(setup: Setup) -> str:
    """Plain guidance is the pipeline's own; methods agree with the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    here = pipeline(setup.small, setup.device, torch.float32)
    own = generate(here, setup.steps)
    equal = bool(torch.equal(guided(here, 7.5, setup.steps), own))
    reference = pipeline(TINY, "cpu", torch.float32)
    tiny = pipeline(TINY, setup.device, torch.float32)
    rows = [
        [code(text), f"{distance(guided(tiny, text, 6, 2), guided(reference, text, 6, 2)):.2g}"] for text in METHODS
    ]
    first = "bit for bit equal to" if equal else f"**{distance(guided(here, 7.5, setup.steps), own):.2g} away from**"
    return (
        f"`guide(pipe, 7.5)` is {first} the untouched pipeline at `guidance_scale=7.5` (float32, "
        f"{setup.steps} steps).\n\n"
        "Two images of a small network, six steps, float32 without TF32, against the same run on the CPU:\n\n"
        + table(["guidance", "relative distance"], rows)
    )


def precision(setup: Setup) -> str:
    """float16 and bfloat16 against float32."""
    names = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    exact = pipeline(setup.small, setup.device, torch.float32)
    results = {text: guided(exact, text, setup.steps) for text in METHODS}
    own = generate(exact, setup.steps)
    del exact
    columns: dict[str, list[str]] = {}
    for name, dtype in names.items():
        pipe = pipeline(setup.small, setup.device, dtype)
        columns[name] = [f"{distance(generate(pipe, setup.steps), own):.2g}"]
        for text in METHODS:
            latents = guided(pipe, text, setup.steps)
            finite = bool(latents.isfinite().all())
            columns[name].append(f"{distance(latents, results[text]):.2g}" if finite else "**not finite**")
    labels = ["the pipeline's own guidance", *map(code, METHODS)]
    return "Relative distance of the latents from those of float32:\n\n" + table(
        ["guidance", *names], [list(row) for row in zip(labels, *columns.values(), strict=True)]
    )


def offload(setup: Setup) -> str:
    """Weights that come and go give the same image."""
    import accelerate

    dtype = torch.float32 if setup.is_rehearsal else torch.float16
    pipe = pipeline(setup.small, setup.device, dtype)
    text = "constant(7.5).inside(progress=(0.2, 1)) | apg(momentum=-0.5)"
    expected = guided(pipe, text, setup.steps)
    ways: dict[str, Callable[[Any], object]] = {
        "sequential offload": lambda it: accelerate.cpu_offload(it.unet, execution_device=torch.device(setup.device))
    }
    if not setup.is_rehearsal:
        ways["enable_model_cpu_offload()"] = lambda it: it.enable_model_cpu_offload()
    rows = []
    for name, enable in ways.items():
        moved = pipeline(setup.small, "cpu", dtype)
        enable(moved)
        rows.append([name, f"{distance(guided(moved, text, setup.steps), expected):.2g}"])
        del moved
    return f"`{text}`, against the same run without offload:\n\n" + table(["offload", "relative distance"], rows)


def overhead(setup: Setup) -> str:
    """The time of guide() over that of the untouched pipeline, on a network of the size of SDXL's."""
    dtype = torch.float32 if setup.is_rehearsal else torch.float16
    pipe = pipeline(setup.large, setup.device, dtype)
    ways = {
        "untouched": lambda: generate(pipe, setup.steps),
        "guide, w = 7.5": lambda: guided(pipe, 7.5, setup.steps),
        "guide, apg": lambda: guided(pipe, "7.5 | apg(momentum=-0.5)", setup.steps),
    }
    seconds = in_turns(ways, setup.repeats)
    lines = [[name, median(seconds[name]), ratio(seconds, name, "untouched")] for name in ways]
    return f"One image, {setup.steps} steps; the goal is at most 1.01 for plain guidance.\n\n" + table(
        ["way", "median", "of the time of the untouched pipeline"], lines
    )


def rows(setup: Setup) -> str:
    """Rows saved are time saved."""
    dtype = torch.float32 if setup.is_rehearsal else torch.float16
    pipe = pipeline(setup.large, setup.device, dtype)
    texts = {
        "on at every step": "7.5",
        "off in the second half": "constant(7.5).inside(progress=(0, 0.5))",
        "on in a tenth": "constant(7.5).inside(progress=(0.4, 0.5))",
        "reuse(every=2)": "7.5 | reuse(every=2)",
    }
    run: dict[str, int] = {}

    def call(name: str) -> None:
        with cfglab.guide(pipe, texts[name]) as trace:
            generate(pipe, setup.steps, images=4)
        run[name] = trace.rows_run

    seconds = in_turns({name: partial(call, name) for name in texts}, max(1, setup.repeats // 2))
    most = run["on at every step"]
    lines = [
        [name, str(run[name]), f"{run[name] / most:.3g}", ratio(seconds, name, "on at every step")] for name in texts
    ]
    return f"Four images, {setup.steps} steps:\n\n" + table(["guidance", "rows", "of all rows", "of the time"], lines)


def ray(setup: Setup) -> str:
    """An experiment by Ray workers, one GPU each, gives the images of this process."""
    from cfglab.integrations.ray.executor import on_ray

    small = Experiment.preset("k-decay", prompts=("scenes:2",), seeds="0", steps=2 if setup.is_rehearsal else 20)
    with tempfile.TemporaryDirectory() as folder:
        here = run_experiment(small, Path(folder) / "here", setup.device, quiet=True, score=False)
        start = time.perf_counter()
        there = run_experiment(
            small, Path(folder) / "ray", setup.device, quiet=True, score=False, executor=on_ray("local")
        )
        seconds = time.perf_counter() - start
        images = [sorted(path.read_bytes() for path in Path(run.folder).rglob("*.png")) for run in (here, there)]
    same = sum(a == b for a, b in zip(*images, strict=True))
    return f"{len(images[1])} images by Ray in {seconds:.0f} s, its start included; {same} equal this process's bytes."


def seed(setup: Setup) -> str:
    """The notebooks' experiment on real weights: 21 schedules of one prompt and seed, 50 steps, 512 x 512."""
    if setup.model is None:
        return "Left out: no weights were given (`--model FOLDER`)."
    plain = Experiment.preset("k-decay")
    steps = 2 if setup.is_rehearsal else 50
    fields: dict[str, Any] = {"model": setup.model, "seeds": plain.seeds[:1], "steps": steps}
    if not setup.is_rehearsal:
        fields |= {"dtype": "float16", "prompts": ("a photograph of an astronaut riding a horse",)}
    experiment = Experiment.preset("k-decay", **fields)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = run_experiment(experiment, folder, setup.device, quiet=True, score=False)
        seconds = time.perf_counter() - start
        count = len(list(Path(folder).rglob("*.png")))
    return f"{count} images of {steps} steps in {seconds:.0f} s, loading included; {run.failed} failed."


SECTIONS: dict[str, tuple[str, Callable[[Setup], str]]] = {
    "correctness": ("Correctness", correctness),
    "precision": ("float16 and bfloat16", precision),
    "offload": ("Offload", offload),
    "overhead": ("What guide() costs", overhead),
    "rows": ("Rows saved, time saved", rows),
    "ray": ("Ray with GPUs", ray),
    "seed": ("The experiment of the notebooks", seed),
}


def measured(names: list[str], setup: Setup) -> dict[str, str]:
    """The text of each section; what fails says so, and the rest runs."""
    texts = {}
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        try:
            texts[name] = SECTIONS[name][1](setup)
        except Exception as error:  # one section that fails must not lose the others
            traceback.print_exc()
            texts[name] = f"**Failed:** {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        gc.collect()
        if setup.device == "cuda":
            torch.cuda.empty_cache()
    return texts


def page(page_text: str, texts: dict[str, str], setup: Setup) -> str:
    """The page with the sections that were measured in their places, and where they ran at its top."""
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, cfglab {cfglab.__version__}"
    day = datetime.datetime.now(datetime.UTC).date()
    if setup.is_rehearsal:
        status = f"{NOT_YET} What stands below is a rehearsal on a CPU in tiny sizes: its numbers mean nothing."
    else:
        status = f"Run on one {torch.cuda.get_device_name()}, {platform.system()}, {versions}, on {day}."
    for name, text in {"status": status, **texts}.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if page_text.count(begin) != 1 or end not in page_text:
            raise SystemExit(f"the page has no place for {name}; write {begin.strip()} and {end.strip()} into it.")
        before, _, rest = page_text.partition(begin)
        page_text = before + begin + text + rest[rest.index(end) :]
    return page_text


def main(arguments: list[str] | None = None) -> int:
    """Run the sections and write the page; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all if left out")
    parser.add_argument("--model", help="the folder of a Stable Diffusion 1.x model, for the section seed")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into; docs/gpu.md by default")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal in tiny sizes, even with a GPU")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"section {unknown[0]!r}: there are {', '.join(SECTIONS)}")
    setup = setup_of("cuda" if torch.cuda.is_available() and not options.cpu else "cpu", options.model)
    text = options.page.read_text(encoding="utf-8")
    if setup.is_rehearsal and NOT_YET not in text:
        parser.error(f"{options.page} holds numbers of a GPU: a rehearsal does not replace them; give another --page")
    texts = measured(options.sections or list(SECTIONS), setup)
    write_whole(options.page, page(text, texts, setup).encode())
    return int(any(text.startswith("**Failed:**") for text in texts.values()))


if __name__ == "__main__":
    sys.exit(main())
