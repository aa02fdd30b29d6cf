"""cfglab levels."""

from typing import Annotated

import typer

from cfglab.cli.consent import with_download_consent
from cfglab.cli.options import AllowDownload, Sampler, integer
from cfglab.errors import InputError


def levels(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="dit, edm2, sit, repa, ...; scenes, a folder, or a hub id.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=integer, help="Denoising steps.")] = 50,
    sampler: Sampler = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT=LOW..HIGH",
            help="Which steps are inside, in every unit; sigma, t, timestep, level, progress or step; repeat.",
        ),
    ] = None,
    allow_download: AllowDownload = False,
) -> None:
    """Convert the noise levels of a run: sigma, t, timestep, step.

    sigma is noise over signal, t = sigma / (1 + sigma) that of a linear flow. Without a window, one line a step. The
    code bases: dit, adm, iddpm-cosine, sd (k-diffusion), edm, edm2, flow, repa, repa-sde, sit, sit-gvp, lightningdit.

    \b
    Examples:
      cfglab levels dit --steps 250 --window sigma=0.34..1.02
      cfglab levels repa --steps 250 --window t=0..0.7
      cfglab levels scenes --steps 28 --sampler euler
    """
    from cfglab.pipelines.model_levels import levels as levels_of

    run = with_download_consent(
        lambda allowed: levels_of(model, steps, sampler=sampler, allow_download=allowed), allow_download
    )
    windows = [run.window(*_window(text)) for text in window or ()]
    print("\n".join(map(str, windows)) if windows else run)


def _window(text: str) -> tuple[str, float, float]:
    """`sigma=0.34..1.02` in its parts."""
    unit, _, ends = text.partition("=")
    low, _, high = ends.partition("..")
    try:
        return unit.strip(), float(low), float(high)
    except ValueError:
        raise InputError(f"--window {text!r:.60}: it is UNIT=LOW..HIGH; write sigma=0.34..1.02.") from None
