"""cfglab run."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfglab.cli.app import (
    Compiled,
    Device,
    Download,
    Dtype,
    Negative,
    Noise,
    Pickle,
    Quiet,
    Revision,
    Sampler,
    agreed,
    app,
    user_path,
    whole,
)
from cfglab.errors import InputError, MachineError
from cfglab.file_input import last_line

if TYPE_CHECKING:
    from cfglab.experiments.execution.outcome import Executor
    from cfglab.experiments.execution.run import Run
    from cfglab.experiments.spec.cost import Cost


@app.command()
def run(
    experiment: Annotated[
        str,
        typer.Argument(metavar="PRESET|FILE.yaml", help="A preset (cfglab list presets), or a file of your own."),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="scenes, a folder, or a hub id; naming a hub id is consent to download it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=user_path, help="The folder of the run.  [default: runs/<name>]"),
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(metavar="TEXT|@FILE", help="A prompt; repeat for more; @FILE has one a line.")
    ] = None,
    negative: Negative = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|A..B", help="One seed, or a range with both its ends: 0..7.")
    ] = None,
    noise: Noise = None,
    steps: Annotated[int | None, typer.Option(metavar="N", parser=whole, help="Denoising steps.")] = None,
    sampler: Sampler = None,
    device: Device = "auto",
    dtype: Dtype = None,
    compiled: Compiled = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value for any field of the experiment; repeat."),
    ] = None,
    revision: Revision = None,
    allow_pickle: Pickle = False,
    allow_download: Download = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Spread it over Ray workers: local, auto or HOST:PORT.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", parser=whole, help="So many Ray workers.  [default: all there is room for]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start a very large experiment without asking.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make the images of an experiment, score them, write the report.

    What the experiment does not say otherwise comes from the preset or the file. Stopped? Run it again, it continues.

    \b
    Examples:
      cfglab run k-decay
      cfglab run k-decay --model prompthero/openjourney --device cuda --dtype float16
      cfglab run k-decay --prompts 'a photograph of a cat' --prompts @more.txt --seeds 0..7 --out runs/cat
      cfglab run mine.yaml --steps 20 --set width=128
      cfglab run k-decay --prompts @more.txt --seeds 0..99 --device cuda --ray auto
    """
    from cfglab.experiments.execution.run import run as run_experiment
    from cfglab.experiments.spec.experiment import Experiment, read_assignments, read_prompts
    from cfglab.experiments.storage.files import folder_name
    from cfglab.progress import working

    fields = {
        "model": model,
        "prompts": read_prompts(prompts) if prompts else None,
        "negative": negative,
        "seeds": seeds,
        "noise": noise,
        "steps": steps,
        "sampler": sampler,
        "dtype": dtype,
        "compile": compiled or None,
    }
    own = experiment.endswith((".yaml", ".yml"))
    read = Experiment.from_yaml if own else Experiment.preset
    assignments = read_assignments(changes or [])
    chosen = read(experiment, set=assignments, agree=partial(_consent, yes), **fields)
    folder = out or Path("runs") / folder_name(chosen.name)
    executor = _executor(ray, workers)
    done = agreed(
        lambda allowed: run_experiment(
            chosen,
            folder,
            device,
            revision=revision,
            allow_pickle=allow_pickle,
            allow_download=allowed,
            quiet=quiet,
            executor=executor,
        ),
        allow_download or model is not None or "model" in assignments,  # naming it here is consent; in a file it is not
    )
    counts = done.store.counts()
    print(f"{done.drawn} images drawn, {counts['done'] + counts['failed']} in the run")
    with working("writing the report", quiet):
        page = done.report()
    print(f"report: {page}")
    if done.failed:
        raise MachineError(_failures(done, counts["good"]))


def _failures(done: "Run", good: int) -> str:
    """How many images failed, why, and what can be done about it."""
    first = done.store.first_error() or ""
    again = "run it again to retry" + (f" all but {good}, which would fail again" if good else "")
    if good == done.failed:
        again = "they would fail again: choose another guidance or dtype, and another --out"
    return (
        f"{done.failed} images failed, the first with: {last_line(first)}; results.csv in "
        f"{done.folder} says which; {again}."
    )


def _executor(ray: str | None, workers: int | None) -> "Executor":
    """Who draws: this process, or workers on Ray."""
    from cfglab.experiments.execution.outcome import in_process

    if workers is not None and (ray is None or workers < 1):
        raise InputError(
            f"--workers {workers}: that is 1 or more Ray workers; say where with --ray local, or leave it out."
        )
    if ray is None:
        return in_process
    from cfglab.integrations.ray.executor import on_ray

    return on_ray(ray, workers)


def _consent(yes: bool, cost: "Cost") -> None:
    """Ask before a very large experiment; where nobody can answer it is refused."""
    if yes or not cost.large:
        return
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise InputError(f"{cost}; start that with --yes, or give fewer prompts, seeds or settings.")
    try:
        sure = typer.confirm(f"{cost}. Start?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        sure = False
    if not sure:
        raise InputError("not started; give fewer prompts, seeds or settings.")
