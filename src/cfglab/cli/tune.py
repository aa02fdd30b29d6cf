"""cfglab tune."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import (
    AllowPickle,
    Compile,
    Device,
    Dtype,
    NegativePrompt,
    Noise,
    Quiet,
    Revision,
    Sampler,
    integer,
    path,
)


def tune(
    guidance: Annotated[
        str,
        typer.Argument(metavar="GUIDANCE", help="A guidance with gaps, {name:low..high}, quoted for the shell."),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A metric of cfglab list metrics; two give a Pareto front.  [default: alignment]"
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(metavar="N", parser=integer, help="Trials of the guidance, and of the constant scale.")
    ] = 40,
    rows: Annotated[
        int | None,
        typer.Option(metavar="N", parser=integer, help="Start no new trial after this many denoiser rows."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", parser=path, help="The folder of the search.")] = Path(
        "runs/tuned"
    ),
    model: Annotated[
        str, typer.Option(metavar="NAME", help="scenes, a folder, or a hub id; naming a hub id is consent.")
    ] = "scenes",
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT|@FILE",
            help="Prompts, split at random into tuning and held-out prompts.  [default: scenes:64]",
        ),
    ] = None,
    tune_on: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=integer, help="The number of prompts to tune on; the rest is held out.  [default: half]"
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N|A..B", help="Seeds to tune on.")] = "0",
    held_seeds: Annotated[
        str, typer.Option(metavar="N|A..B", help="Seeds of the held-out comparison; none of the tuning seeds.")
    ] = "1000..1003",
    constant: Annotated[
        str, typer.Option(metavar="A..B", help="The range of constant scales to search for the best baseline.")
    ] = "1..8",
    negative: NegativePrompt = None,
    noise: Noise = None,
    steps: Annotated[int, typer.Option(metavar="N", parser=integer, help="Denoising steps.")] = 20,
    sampler: Sampler = None,
    device: Device = "auto",
    dtype: Dtype = None,
    compiled: Compile = False,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    quiet: Quiet = False,
) -> None:
    """Tune a guidance for a metric, and test it against constants.

    The search fills the gaps of the guidance: {k:0.2..5}, {k:0.2..5:log}, {n:1..8:int}, {w:knots(5):1..6} for a
    curve over the steps, {t:apg()|cfg_norm()} for a choice, and {k} again for the same value. Constant scales are
    tuned by the same rules on the same images. Trials are paired, and stopped early if they are clearly worse. The
    best guidance and the best constant scale are then compared on held-out prompts and seeds. If the command was
    stopped, run it again: it continues. Needs Optuna: pip install 'cfglab[tune]'.

    \b
    Examples:
      cfglab tune 'cosine(max={max:1..6}, min={min:0..2}, k={k:0.1..5:log})' --out runs/tuned
      cfglab tune '{w:knots(4):0..5}' --trials 100 --seeds 0..3 --prompts scenes:128
      cfglab tune '{w:1..6} | apg(eta={eta:0..1})' --metric alignment --metric kid --seeds 0..3
    """
    from cfglab.experiments.spec.prompts import read_prompts, read_seeds
    from cfglab.experiments.tuning.search import Search
    from cfglab.integrations.optuna import tune as search_for
    from cfglab.report.tuning_markdown import write

    search = Search.of(
        guidance,
        metric or ["alignment"],
        read_prompts(prompts or ["scenes:64"]),
        tune_on=tune_on,
        seeds=read_seeds(seeds),
        held_seeds=read_seeds(held_seeds),
        constant=constant,
        steps=steps,
        model=model,
        negative=negative,
        noise=noise,
        sampler=sampler,
        dtype=dtype,
        compile=compiled or None,
    )
    result = search_for(
        search,
        out,
        device,
        trials=trials,
        rows=rows,
        revision=revision,
        allow_pickle=allow_pickle,
        quiet=quiet,
    )
    print(f"\n{write(result, out)}\n{out}: tuned.md, tuned*.json")
