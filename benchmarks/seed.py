"""The seed's experiment, drawn in every way: 21 schedules of one prompt and seed, 50 steps, on `scenes`. `make bench`.

    python -m benchmarks.seed [--repeats 3] [--steps 50]

(a) is diffusers' own pipeline, an image a call, the scale set in a step callback; (b) the loop of the notebooks
(min_diffusion 0.0.3) on today's diffusers: an image at a time, attention slicing on; (c) the bare denoiser on as many
rows as cfglab runs, at the batch that suits it best: what cannot be beaten. cfglab is `run`, with its store and PNG
files, without loading the model, which the others do without as well. Its fast settings are in bfloat16 where this
machine is faster in it (processors without instructions for it are ten times slower), else in float32.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cfglab
from benchmarks.turns import arguments, circumstances, in_turns, median, ratio, table
from cfglab.experiments import Experiment
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.cell import Cell
from cfglab.pipelines.loading.compiled_blocks import ROWS
from cfglab.step import steps as steps_of

BATCHES = (8, 16, 24, 32, 48, 64)
NAMES = {"a": "(a) diffusers, one by one", "b": "(b) the notebooks' loop", "c": "(c) the bare denoiser"}
OURS = "cfglab"


def experiment(steps: int, transform: str = "", **fields: Any) -> Experiment:
    """The preset k-decay at one seed; `transform` is added to every guidance."""
    plain = Experiment.preset("k-decay")
    guidance = {
        f"groups.{place}.guidance": f"cosine(max=7.5, min=1, k={{k}}){inverted}{transform}"
        for place, inverted in enumerate(("", ".inverted()"))
    }
    changes = guidance | {"baseline.guidance": f"7.5{transform}"}
    return Experiment.preset("k-decay", seeds=plain.seeds[:1], steps=steps, set=changes, **fields)


def pipeline(one: Experiment) -> Any:
    """Its pipeline, loaded."""
    pipe = cfglab.load(one.model, device="cpu", dtype=one.dtype, sampler=one.sampler, compiled=one.compile)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(pipe: Any, cell: Cell) -> Tensor:
    """A cell's starting noise, (1, channels, h, w)."""
    size = pipe.unet.config.sample_size
    shape = (1, pipe.unet.config.in_channels, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(cell.seed))


def scales(cell: Cell) -> list[float]:
    """w at every step, a hair above 1 where it is 1: there diffusers would leave its guidance."""
    return [max(cell.guidance.schedule(step), 1 + 1e-6) for step in steps_of(cell.steps)]


def by_diffusers(pipe: Any, cell: Cell, output: str = "pil") -> Any:
    """(a): one call of diffusers' pipeline."""
    w = [*scales(cell), 0.0]

    def next_scale(pipe: Any, index: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = w[index + 1]
        return kwargs

    return pipe(
        cell.prompt,
        negative_prompt=cell.negative,
        num_inference_steps=cell.steps,
        guidance_scale=w[0],
        latents=noise(pipe, cell),
        callback_on_step_end=next_scale,
        output_type=output,
    ).images[0]


@torch.no_grad()
def by_the_notebooks(pipe: Any, cell: Cell) -> Any:
    """(b): text, loop and decoder as min_diffusion 0.0.3 had them. `pipe` has attention slicing on."""
    text, scheduler = [], pipe.scheduler
    for prompt in (cell.negative, cell.prompt):
        tokens = pipe.tokenizer(
            [prompt],
            padding="max_length",
            max_length=pipe.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        text.append(pipe.text_encoder(tokens.input_ids)[0])
    embeddings = torch.cat(text)
    scheduler.set_timesteps(cell.steps)
    latents = noise(pipe, cell) * scheduler.init_noise_sigma
    for t, w in zip(scheduler.timesteps, scales(cell), strict=True):
        doubled = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        uncond, cond = pipe.unet(doubled, t, encoder_hidden_states=embeddings).sample.chunk(2)
        latents = scheduler.step(uncond + w * (cond - uncond), t, latents).prev_sample
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.numpy_to_pil((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())[0]


def bare(pipe: Any, rows: int, batch: int) -> Callable[[], None]:
    """(c): the denoiser on so many rows, in batches of this size and a smaller last one."""
    config, dtype = pipe.unet.config, pipe.unet.dtype
    sample = torch.randn(batch, config.in_channels, config.sample_size, config.sample_size).to(dtype)
    text = torch.randn(batch, pipe.tokenizer.model_max_length, config.cross_attention_dim).to(dtype)
    time = torch.tensor(500)

    @torch.no_grad()
    def call() -> None:
        for start in range(0, rows, batch):
            size = min(batch, rows - start)
            pipe.unet(sample[:size], time, encoder_hidden_states=text[:size], return_dict=False)

    return call


def fast_dtype(rows: int = 8) -> str:
    """bfloat16 where the denoiser is faster in it."""
    ways = {dtype: bare(pipeline(experiment(1, dtype=dtype)), rows, rows) for dtype in ("float32", "bfloat16")}
    seconds = in_turns(ways, 3)
    return min(ways, key=lambda dtype: min(seconds[dtype]))


def best_batch(pipe: Any, rows: int = 2 * max(BATCHES)) -> int:
    """The batch at which the denoiser is fastest, of BATCHES."""
    seconds = in_turns({str(batch): bare(pipe, rows, batch) for batch in BATCHES}, 3)
    return min(BATCHES, key=lambda batch: statistics.median(seconds[str(batch)]))


def ours(pipe: Any, one: Experiment, folder: Path) -> Callable[[], None]:
    """`run` into a new folder each time, with this pipeline in the place of a load."""

    def call() -> None:
        where = folder / str(time.monotonic_ns())
        done = run(one, where, "cpu", score=False, quiet=True, load=lambda _: pipe)
        assert (done.drawn, done.failed) == (len(one.settings), 0)

    return call


def farthest(pipe: Any, batch: tuple[Cell, ...]) -> tuple[float, float]:
    """The largest difference of a pixel, in [-1, 1], of an image in the batch from the same one drawn alone by cfglab,
    and drawn by diffusers."""
    together = PipelineBackend(pipe).generate(batch).pixels
    alone = np.concatenate([PipelineBackend(pipe).generate([cell]).pixels for cell in batch])
    theirs = np.stack([2 * by_diffusers(pipe, cell, "pt").numpy() - 1 for cell in batch])
    return float(np.abs(together - alone).max()), float(np.abs(together.clip(-1, 1) - theirs).max())


def main() -> None:
    given = arguments(__doc__, repeats=3, steps=50)
    compare(given.repeats, given.steps, "ab")


def compare(repeats: int, steps: int, others: str) -> None:
    """Print the table; `others` are those of (a) and (b) that take part."""
    plain = experiment(steps)
    said = circumstances(repeats)
    dtype = fast_dtype()
    typed = f"cfglab, {dtype}"
    fast = {} if dtype == plain.dtype else {typed: experiment(steps, dtype=dtype)}
    uncompiled = {name: pipeline(one) for name, one in fast.items()}
    fast[f"{typed}, compiled"] = experiment(steps, dtype=dtype, compile=True)
    fast[f"{typed}, compiled, reuse(every=2)"] = experiment(steps, " | reuse()", dtype=dtype, compile=True)
    pipe, sliced = pipeline(plain), pipeline(plain)
    sliced.enable_attention_slicing()
    compiled = pipeline(experiment(steps, dtype=dtype, compile=True))
    pipes = {OURS: pipe} | dict.fromkeys(fast, compiled) | uncompiled
    batch = tuple(cell for _, cell in plain.cells())
    drawn = {OURS: plain, **fast}
    rows = {
        name: PipelineBackend(pipes[name]).generate(tuple(cell for _, cell in one.cells())).rows_run
        for name, one in drawn.items()
    }
    alone, elsewhere = farthest(pipe, batch)
    size = best_batch(pipe)
    limits = {f"{NAMES['c']}, {size} rows a call": bare(pipe, rows[OURS], size)}
    limits[f"{NAMES['c']}, {dtype}, compiled, blocks of {ROWS}"] = bare(compiled, rows[OURS], ROWS)
    limit = next(iter(limits))
    rows |= dict.fromkeys(limits, rows[OURS]) | {NAMES[one]: 2 * len(batch) * steps for one in others}
    with tempfile.TemporaryDirectory() as folder:
        theirs: dict[str, Callable[[], object]] = {
            "a": lambda: [by_diffusers(pipe, cell) for cell in batch],
            "b": lambda: [by_the_notebooks(sliced, cell) for cell in batch],
        }
        ways = {
            **{NAMES[one]: theirs[one] for one in others},
            **limits,
            OURS: ours(pipe, plain, Path(folder)),
            **{name: ours(pipes[name], one, Path(folder)) for name, one in fast.items()},
        }
        seconds = in_turns(ways, repeats, warm=False)
    lines = [
        [
            name,
            str(rows[name]),
            median(seconds[name]),
            *(ratio(seconds, NAMES[one], name) for one in others),
            ratio(seconds, name, limit),
        ]
        for name in ways
    ]
    print(f"{len(batch)} images, {steps} steps, {plain.sampler}; {said}\n")
    print(table(["way", "rows", "median", *(f"({one}) over it" for one in others), "it over (c)"], lines))
    print(
        f"\nThe largest difference of a pixel (in [-1, 1], float32) between an image in the batch and the same one "
        f"drawn alone by cfglab: {alone:.1e}; drawn by diffusers (a): {elsewhere:.1e}."
    )


if __name__ == "__main__":
    main()
