"""cfglab score."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import Device, Quiet, RunFolder, path


def score(
    folder: RunFolder,
    metric: Annotated[list[str], typer.Argument(metavar="METRIC...", help="clip_score, kid_dinov2, ...")],
    real: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=path,
            help="Real images, for distances to them; those of scenes are rendered.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="Other weights of the metric model: a folder, or a hub id.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score the images of a run with further metric models.

    CLIPScore, PickScore and ImageReward score each image with its prompt; DINOv2 and Inception give distances to real
    images. Naming a metric is consent to download its weights (cfglab list metrics gives the sizes). If the command
    was stopped, run it again: it continues. Afterwards cfglab compare and the report have the new metrics.

    \b
    Examples:
      cfglab score runs/k-decay clip_score pick_score
      cfglab score runs/scale kid_dinov2
      cfglab score runs/cats kid_inception --real images/cats
    """
    from cfglab.experiments import Run, Store
    from cfglab.experiments.scoring.metric_models import check, measure_run
    from cfglab.integrations.metric_models import metric_models_of

    with Store.open(folder) as stored:
        check(stored, metric, real)
    if weights is not None and weights.startswith("~"):
        weights = str(path(weights))
    models = metric_models_of(metric, weights, device)
    measure_run(
        folder,
        models,
        real,
        quiet,
        tell=lambda model, count: print(f"{', '.join(model.metrics)}: {count:,} images looked at"),
    )
    print(f"report: {Run(folder).report()}")
