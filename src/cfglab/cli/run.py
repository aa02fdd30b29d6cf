"""cfglab run."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfglab.cli.consent import confirm_cost, with_download_consent
from cfglab.cli.live_report import LiveReport
from cfglab.cli.options import (
    AllowDownload,
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
from cfglab.errors import InputError, MachineError
from cfglab.file_input import last_line

if TYPE_CHECKING:
    from cfglab.experiments.execution.outcome import Executor
    from cfglab.experiments.execution.run import Run


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
        typer.Option(metavar="DIR", parser=path, help="The folder of the run.  [default: runs/<name>]"),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT|@FILE", help="A prompt; repeat for more; @FILE reads one prompt per line."),
    ] = None,
    negative: NegativePrompt = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|A..B", help="One seed, or a range with both its ends: 0..7.")
    ] = None,
    noise: Noise = None,
    steps: Annotated[int | None, typer.Option(metavar="N", parser=integer, help="Denoising steps.")] = None,
    sampler: Sampler = None,
    device: Device = "auto",
    dtype: Dtype = None,
    compiled: Compile = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the experiment; repeat for more."),
    ] = None,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    allow_download: AllowDownload = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Generate on Ray workers: local, auto or HOST:PORT.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=integer, help="The number of Ray workers.  [default: as many as there is room for]"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start a very large experiment without asking.")] = False,
    quiet: Quiet = False,
) -> None:
    """Generate the images of an experiment, score and report them.

    Options that are left out come from the preset or the file. If the run was stopped, run the command again: it
    continues.

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
    is_file = experiment.endswith((".yaml", ".yml"))
    read = Experiment.from_yaml if is_file else Experiment.preset
    assignments = read_assignments(overrides or [])
    spec = read(experiment, set=assignments, agree=partial(confirm_cost, yes), **fields)
    folder = out or Path("runs") / folder_name(spec.name)
    executor = _executor(ray, workers)
    result = with_download_consent(
        lambda allowed: run_experiment(
            spec,
            folder,
            device,
            revision=revision,
            allow_pickle=allow_pickle,
            allow_download=allowed,
            quiet=quiet,
            executor=executor,
            watch=LiveReport(_say_nothing if quiet else _say),
        ),
        allow_download or model is not None or "model" in assignments,  # naming it here is consent; in a file it is not
    )
    counts = result.store.counts()
    print(f"{result.drawn} images drawn, {counts['done'] + counts['failed']} in the run")
    with working("writing the report", quiet):
        page = result.report(live=False)
    print(f"report: {page}")
    if result.failed:
        raise MachineError(_failures(result, counts["good"] + result.refused))


def _say(line: str) -> None:
    """Show a line where somebody looks, as the progress bar does: only on a terminal."""
    if not sys.stderr.isatty():
        return
    with suppress(OSError, ValueError):  # a terminal that was closed does not end a run
        print(line, file=sys.stderr, flush=True)


def _say_nothing(_line: str) -> None:
    pass


def _failures(result: "Run", permanent: int) -> str:
    """How many images failed, why, and what can be done about it; `permanent` ones would fail again."""
    advice = "run it again to retry" + (f" all but {permanent}, which would fail again" if permanent else "")
    if permanent == result.failed:
        advice = "they would fail again: choose another guidance or dtype, and another --out"
    return (
        f"{result.failed} images failed, the first with: {last_line(result.store.first_error())}; results.csv in "
        f"{result.folder} says which; {advice}."
    )


def _executor(ray: str | None, workers: int | None) -> "Executor":
    """What generates the images: this process, or workers on Ray."""
    from cfglab.experiments.execution.outcome import in_process

    if workers is not None and (ray is None or workers < 1):
        raise InputError(
            f"--workers {workers}: that is 1 or more Ray workers; say where with --ray local, or leave it out."
        )
    if ray is None:
        return in_process
    from cfglab.integrations.ray.executor import on_ray

    return on_ray(ray, workers)
