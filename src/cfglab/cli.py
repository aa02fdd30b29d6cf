"""The command line, thin: parse, call one library function, print.

Every import that costs something stands inside the command that needs it: help, lists and comparisons load no torch.
"""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from cfglab.errors import CfglabError, InputError, MachineError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number, such as 50") from None


Shelf = Literal["schedules", "transforms", "models", "presets", "samplers", "metrics"]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]

Pickle = Annotated[bool, typer.Option("--allow-pickle", help="Read a hub model that has no safetensors, weights only.")]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 (read in `call`)
) -> None:
    """Classifier-free guidance as a program and a laboratory.

    w is the guidance scale, uncond + w * (cond - uncond): w = 1 is no guidance.

    \b
    Examples:
      cfglab run k-decay --model scenes --out runs/k-decay
      cfglab plot 'cosine(max=7.5, min=1, k=0.3)' 'cosine(max=7.5, min=1, k=0.3).inverted()'
      cfglab compare runs/k-decay --baseline constant --metric alignment
      cfglab list presets
    """
    if version:
        from cfglab import __version__

        print(f"cfglab {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


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
        Path | None, typer.Option(metavar="DIR", help="The folder of the run.  [default: runs/<name>]")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(metavar="TEXT|@FILE", help="A prompt; repeat for more; @FILE has one a line.")
    ] = None,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="The negative prompt.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|A..B", help="One seed, or a range with both its ends: 0..7.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", parser=_whole, help="Denoising steps.")] = None,
    sampler: Annotated[str | None, typer.Option(metavar="NAME", help="One of cfglab list samplers.")] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="float32, float16 or bfloat16.")] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser: a slow start, faster after.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value for any field of the experiment; repeat."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="A branch, tag or commit of a hub model.")
    ] = None,
    allow_pickle: Pickle = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Make the pictures of an experiment, score them, write the report.

    What the experiment does not say otherwise comes from the preset or the file. Stopped? Run it again, it continues.

    \b
    Examples:
      cfglab run k-decay
      cfglab run k-decay --model prompthero/openjourney --device cuda --dtype float16
      cfglab run k-decay --prompts 'a photograph of a cat' --prompts @more.txt --seeds 0..7 --out runs/cat
      cfglab run mine.yaml --steps 20 --set width=128
    """
    from cfglab.experiments.spec import Experiment, read_assignments, read_prompts

    fields = {
        "model": model,
        "prompts": read_prompts(prompts) if prompts else None,
        "negative": negative,
        "seeds": seeds,
        "steps": steps,
        "sampler": sampler,
        "dtype": dtype,
        "compile": compiled or None,
    }
    own = experiment.endswith((".yaml", ".yml"))
    read = Experiment.from_yaml if own else Experiment.preset
    chosen = read(experiment, set=read_assignments(changes or []), **fields)
    folder = out or Path("runs") / chosen.name
    done = chosen.run(folder, device, revision=revision, allow_pickle=allow_pickle, quiet=quiet)
    print(f"{done.drawn} pictures drawn, {len(done.store.results())} in the run")
    print(f"report: {done.report()}")
    if done.failed:
        raise MachineError(
            f"{done.failed} pictures failed, results.csv in {done.folder} says why; run it again to retry."
        )


@app.command()
def plot(
    guidance: Annotated[
        list[str], typer.Argument(metavar="SCHEDULE...", help="Schedules in their text form, quoted for the shell.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=_whole, help="Denoising steps.")] = 50,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save a picture instead (.png, .svg, .pdf).")] = None,
) -> None:
    """Draw schedules over the steps.

    In the terminal, or into a file; with the dose of each, which is the mean of w.

    \b
    Examples:
      cfglab plot 'cosine(max=7.5, min=1, k=0.3)'
      cfglab plot 7.5 '10x4+10x6+30x1' 'cosine(max=7.5, min=1).inverted()' --out curves.png
    """
    from cfglab.report import chart
    from cfglab.schedules import parse

    lines = {}
    for text in guidance:
        schedule = parse(text)
        values = schedule.values(steps)
        lines[f"{schedule}   dose {sum(values) / steps:.3g}"] = values
    if out is not None:
        print(chart.in_file(lines, out))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(chart.in_text(lines, width=min(console.width, 110)), end="")


@app.command("list")
def list_(
    what: Annotated[
        Shelf | None,
        typer.Argument(help="schedules, transforms, models, presets, samplers or metrics; all if left out."),
    ] = None,
) -> None:
    """List what there is, with one line about each."""
    from cfglab.report.listing import SHELVES, table

    if what:
        print(table(SHELVES[what]()))
        return
    for shelf, rows in SHELVES.items():
        print(f"{shelf}:\n{table(rows(), indent=2)}\n")


@app.command()
def report(folder: Folder) -> None:
    """Write the report of a run again.

    From the stored results, without a model; says where the report is. Beside report.html stand its numbers,
    report.csv and report.json; of more than 5,000 pictures the page reads those that are looked at from report/.
    """
    from cfglab.report import report as write

    print(f"report: {write(folder)}")


@app.command()
def compare(
    folder: Folder,
    baseline: Annotated[
        str | None, typer.Option(metavar="SETTING", help="What the others are compared with.  [default: the run's own]")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="One of cfglab list metrics.")] = "alignment",
    equal: Annotated[
        Literal["dose", "cost"] | None,
        typer.Option(help="Against the constant scale of the same dose, or only settings that cost as many rows."),
    ] = None,
    choose: Annotated[
        Literal["prompts", "seeds"] | None,
        typer.Option(help="Choose the best setting on one half of these, and report it on the other half."),
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Add a row of chance: each picture judged by another prompt.")
    ] = False,
) -> None:
    """Compare the settings of a run with a baseline.

    Paired by prompt and seed: the difference, its 95 % interval (prompts are resampled, not pictures), p, p after
    Holm's correction, n, and the smallest difference that this run could have found. Metrics of sets, such as kid, are
    compared by leaving out prompts.

    \b
    Examples:
      cfglab compare runs/k-decay --baseline constant --metric alignment
      cfglab compare runs/scale --metric kid
      cfglab compare runs/k-decay --equal dose
      cfglab compare runs/k-decay --choose prompts
    """
    from cfglab.experiments import Run

    run = Run(folder)
    if choose and shuffled:
        raise InputError("--shuffled adds a row to the table, and --choose prints none; leave one of them out.")
    if choose:
        print(run.best_on_split(metric, baseline, split=choose, equal=equal))
    else:
        print(run.compare(metric, baseline, equal=equal, shuffled=shuffled))


@app.command()
def reproduce(
    image: Annotated[Path, typer.Argument(metavar="IMAGE.png", help="A picture of a run; it carries its own recipe.")],
    out: Annotated[Path, typer.Option(metavar="COPY.png", help="Where the new picture goes.")],
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")] = "auto",
    allow_pickle: Pickle = False,
) -> None:
    """Make a picture of a run again.

    The picture carries its own recipe; says whether the pixels are the same.

    \b
    Example:
      cfglab reproduce runs/k-decay/images/0f3c….png --out copy.png
    """
    from cfglab.experiments.reproduce import reproduce as again

    copy = again(image, out, device, allow_pickle=allow_pickle)
    if copy.identical:
        print(f"{copy.path}: the same pixels as {image}")
        return
    notes = f" ({'; '.join(copy.notes)})" if copy.notes else ""
    raise MachineError(f"{copy.path}: differs from {image} by up to {copy.largest_difference} of 255{notes}.")


@app.command()
def trace(
    image: Annotated[Path, typer.Argument(metavar="IMAGE.png", help="A picture of a run.")],
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")] = "auto",
    allow_pickle: Pickle = False,
) -> None:
    """Show what guidance did in every step of a picture.

    sigma, w, the norm of cond - uncond, the cosine of their angle, and denoiser rows run and saved, equal rows being
    shared evenly. As the picture's run keeps it; a picture out of its run is drawn again.

    \b
    Example:
      cfglab trace runs/k-decay/images/0f3c….png
    """
    from cfglab.experiments.traces import trace_of

    print(trace_of(image, device, allow_pickle=allow_pickle))


def main() -> None:
    """Run the command line and exit: 0; 2 for what was asked; 1 for what failed; 130 when stopped."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows ? where it must
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """One command as a function: an error becomes one line on stderr and an exit code."""
    try:
        code = app(arguments, prog_name="cfglab", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted, as in `cfglab list | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        code, words = _explain(error)
        print(f"cfglab: {' '.join(words.split())}", file=sys.stderr)
    if code == 130:
        print("cfglab: stopped; run it again to continue.", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and words: ours and the parser's as they are, the machine's named, anything else admitted as a bug."""
    if isinstance(error, CfglabError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # the parser of the command line
        command = getattr(getattr(error, "ctx", None), "command_path", "cfglab")
        return 2, f"{error.format_message().rstrip('.')}; see {command} --help."
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return 1, f"{place}{error.strerror or error}; look after the machine and run it again."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return 1, f"out of memory ({error}); use fewer or smaller pictures, or --dtype float16."
    return 1, f"{type(error).__name__}: {error} -- this is a fault of cfglab; --debug shows where."
