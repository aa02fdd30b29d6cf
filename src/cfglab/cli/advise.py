"""cfglab advise."""

from typing import Annotated

import typer

from cfglab.cli.options import Sampler, integer
from cfglab.errors import InputError


def advise(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A family, a pipeline class of diffusers, or a hub id; all if left out."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", parser=integer, help="Steps of the noise levels; else the usual number.")
    ] = None,
    sampler: Sampler = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what to set for a model: scale, steps, methods, levels.

    Convention, defaults and recommendations of the guidance scale, each with its source; which methods apply; three
    guidances to start from; the noise levels of the sampler. Offline, from a catalogue; what is not known is said.

    \b
    Examples:
      cfglab advise FluxPipeline
      cfglab advise stabilityai/stable-diffusion-xl-base-1.0 --steps 30 --sampler dpm++2m
      cfglab advise wan-2.2-a14b --json
    """
    import json

    from cfglab.pipelines.advice.catalogue import families
    from cfglab.report.terminal.listing import table

    if model is None:
        if steps is not None or sampler is not None:
            raise InputError("--steps and --sampler are of one model; name it: cfglab advise MODEL --steps 30.")
        titles = {name: family.title for name, family in families().items()}
        print(json.dumps(titles, indent=2, ensure_ascii=False) if as_json else table(list(titles.items())))
        return

    from cfglab.pipelines.advice.advice import advise as advise_on

    advice = advise_on(model, steps, sampler=sampler)
    print(json.dumps(advice.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) if as_json else advice)
