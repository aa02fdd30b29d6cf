"""Commands that read a run: cfglab report, score, compare."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cfglab.cli.app import Device, Folder, Quiet, app, user_path
from cfglab.errors import InputError


@app.command()
def report(folder: Folder) -> None:
    """Write the report of a run again.

    From the stored results, without a model; says where the report is. Beside report.html stand its numbers,
    report.csv and report.json; of more than 5,000 images the page reads those that are looked at from report/.
    """
    from cfglab.progress import working
    from cfglab.report import report as write

    with working("writing the report"):
        page = write(folder)
    print(f"report: {page}")


@app.command()
def score(
    folder: Folder,
    metric: Annotated[list[str], typer.Argument(metavar="METRIC...", help="clip_score, kid_dinov2, ...")],
    real: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=user_path,
            help="Real images, for distances to them; those of scenes are rendered.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="Other weights of the judge: a folder, or a hub id.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Measure the images of a run with a further judge.

    CLIPScore, PickScore and ImageReward judge each image beside its prompt; DINOv2 and Inception give distances to
    real images. Naming one is consent to download its weights (cfglab list metrics says how much). Stopped? Run it
    again, it continues. cfglab compare and the report have the new metrics then.

    \b
    Examples:
      cfglab score runs/k-decay clip_score pick_score
      cfglab score runs/scale kid_dinov2
      cfglab score runs/cats kid_inception --real images/cats
    """
    from cfglab.experiments import Run, Store
    from cfglab.experiments.scoring.metric_models import check, measure
    from cfglab.integrations.judges import judges_of

    with Store.open(folder) as there:
        experiment = there.experiment
        check(there, metric, real)
    if weights is not None and weights.startswith("~"):
        weights = str(user_path(weights))
    judges = judges_of(metric, weights, device)
    with Store.create(folder, experiment) as store:
        for judge in judges:
            looked = measure(store, judge, real, quiet)
            print(f"{', '.join(judge.metrics)}: {looked:,} images looked at")
        store.write_csv()
    print(f"report: {Run(folder).report()}")


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
        bool, typer.Option("--shuffled", help="Add a row of chance: each image judged by another prompt.")
    ] = False,
) -> None:
    """Compare the settings of a run with a baseline.

    Paired by prompt and seed: the difference, its 95 % interval (prompts are the sample, not images; and starting
    noises where prompts share them), p, p after Holm's correction, what share of the variance prompts, seeds and the
    rest have, n, and the smallest difference that this run could have found. Metrics of sets, such as kid, are
    compared by leaving out prompts.

    \b
    Examples:
      cfglab compare runs/k-decay --baseline constant --metric alignment
      cfglab compare runs/scale --metric kid
      cfglab compare runs/dispute --equal dose
      cfglab compare runs/k-decay --choose seeds
    """
    from cfglab.experiments import Run

    run = Run(folder)
    if choose and shuffled:
        raise InputError("--shuffled adds a row to the table, and --choose prints none; leave one of them out.")
    if choose:
        print(run.best_on_split(metric, baseline, split=choose, equal=equal))
    else:
        print(run.compare(metric, baseline, equal=equal, shuffled=shuffled))
