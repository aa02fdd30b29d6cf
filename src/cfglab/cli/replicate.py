"""cfglab replicate."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.consent import with_download_consent
from cfglab.cli.options import AllowDownload, AllowPickle, Compile, Device, Dtype, Quiet, Revision, integer, path
from cfglab.errors import InputError
from cfglab.scenes import MODELS


def replicate(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN|FILE.yaml", help="`plan`, the plan of the findings, or a file of your own.")
    ] = "plan",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="scenes, a folder, or a hub id; naming a hub id is consent.")
    ] = "scenes",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A metric of single images. Naming one that needs a model is consent to its download.  "
            "[default: the plan's]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=path, help="The folder.  [default: runs/<plan>]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", parser=integer, help="Denoising steps.  [default: the plan's]")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N|A..B", help="Seeds of the report, such as fewer.  [default: the plan's]"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = None,
    compiled: Compile = False,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
    allow_download: AllowDownload = False,
    quiet: Quiet = False,
) -> None:
    """Run a plan of hypotheses on a model, and write the page that says what holds.

    The plan chooses the best setting of each method on some prompts and seeds, and tests its hypotheses on others. The
    page is findings.md in the folder. If the command was stopped, run it again: it continues.

    \b
    Examples:
      cfglab replicate plan
      cfglab replicate plan --model stabilityai/sd-turbo --device cuda --metric pick_score
      cfglab replicate mine.yaml --out runs/mine
    """
    from cfglab.experiments.execution.run import run
    from cfglab.experiments.replication.plan import Plan
    from cfglab.experiments.replication.replicate import replicate as replicate_plan
    from cfglab.experiments.storage.files import folder_name
    from cfglab.report.replication_markdown import write

    document = Plan.read(plan)
    if model not in MODELS and metric is None and document.metric.startswith("alignment"):
        raise InputError(
            f"--model {model}: {document.metric} is a classifier for scenes; give --metric pick_score, or another "
            "metric of cfglab list metrics."
        )
    if seeds is not None:
        document = Plan.of({**document.model_dump(), "report": {**document.report, "seeds": seeds}})
    folder = out or Path("runs") / folder_name(document.name)
    fields = {"model": model, "steps": steps, "dtype": dtype, "compile": compiled or None}
    done = with_download_consent(
        lambda allowed: replicate_plan(
            document,
            folder,
            metric=metric,
            fields=fields,
            run_experiment=partial(
                run,
                device=device,
                revision=revision,
                allow_pickle=allow_pickle,
                allow_download=allowed,
                quiet=quiet,
            ),
            measure=_measure(metric or document.metric, device, quiet),
        ),
        allow_download or model not in MODELS,
    )
    for finding in done.findings:
        print(f"{finding.hypothesis.id}: {finding.verdict}. {finding.hypothesis.statement}")
    print(f"page: {write(done, folder)}")


def _measure(metric: str, device: str, quiet: bool) -> Callable[[Path], object]:
    """What measures a metric that needs a model of its own, which is loaded first; every run has the others."""
    from cfglab.experiments.scoring.metric_models import measure_run
    from cfglab.integrations.metric_models import metric_models_of
    from cfglab.metrics.registry import METRICS

    if metric not in METRICS or not METRICS[metric].model:
        return lambda _: None
    models = metric_models_of([metric], None, device)
    return lambda folder: measure_run(folder, models, quiet=quiet)
