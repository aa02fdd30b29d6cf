"""levels(model, steps): the noise levels of a run, of a code base by name or of a diffusers model by its scheduler."""

from os import PathLike
from pathlib import Path
from typing import Any

from cfglab.errors import InputError
from cfglab.file_input import given_path
from cfglab.hosts.code_bases import PATHS, path_levels
from cfglab.hosts.levels import Levels
from cfglab.limits import STEPS
from cfglab.pipelines.loading.configuration import read_json
from cfglab.scenes import MODELS
from cfglab.schedules.fields import shown


def levels(model: str, steps: int, *, sampler: str | None = None, allow_download: bool = False) -> Levels:
    """The noise levels of a run in every unit: sigma, t, timestep, step.

    Args:
        model: The name of a code base (dit, adm, iddpm-cosine, sd, edm, edm2, flow, repa, repa-sde, sit, sit-gvp,
            lightningdit), or "scenes", "scenes-flow", the folder of a diffusers model, or a hub id.
        steps: The number of steps.
        sampler: A name in SAMPLERS for a diffusers model; None is its own scheduler.
        allow_download: Allow the download of a hub model.

    Returns:
        The levels. Those of a diffusers model have its timesteps as the host's own numbers.

    Raises:
        InputError: There is no such model, the number of steps is out of range, or the levels of the model depend on
            more than its scheduler.

    Examples:
        >>> from cfglab import levels
        >>> window = levels("dit", 250).window("sigma", 0.34, 1.02)
        >>> window.steps[0].timestep, window.steps[-1].timestep
        (261.0, 100.0)
    """
    if not isinstance(model, str | PathLike):
        raise InputError(f"{shown(model)} is no model: name a path such as dit, a model folder, or scenes.")
    model = str(model)
    if model in PATHS:
        if sampler is not None:
            raise InputError(f"sampler {shown(sampler)}: {model} has levels of its own; leave it out.")
        return path_levels(model, steps)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= STEPS:
        raise InputError(f"{shown(steps)} steps: a run has 1 to {STEPS:,}, a whole number; write 50.")
    return scheduler_levels(Path(model).name, _scheduler(model, sampler, allow_download), steps)


def _scheduler(model: str, sampler: str | None, allow_download: bool) -> Any:
    """The scheduler of a model's folder, or the named sampler with its noise schedule."""
    from cfglab.pipelines.loading.model_folder import locate
    from cfglab.pipelines.loading.samplers import make_sampler

    folder = given_path(model)
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        if "/" not in model and model not in MODELS and not folder.exists():
            path_levels(model, 2)  # raises, with the names that there are
        folder = locate(model, None, False, allow_download)
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    if sampler is not None:
        return make_sampler(sampler, config)
    import diffusers

    name = str(config.get("_class_name", ""))
    kind = getattr(diffusers, name, None) if name.isidentifier() and name.endswith("Scheduler") else None
    if kind is None:
        raise InputError(f"{folder}: its scheduler {shown(name)} is none of diffusers'; name one with --sampler.")
    return kind.from_config(config)


def scheduler_levels(name: str, scheduler: Any, steps: int, **timesteps: Any) -> Levels:
    """The noise levels of a run of a diffusers scheduler.

    Args:
        name: The name of the model, for messages.
        scheduler: The scheduler.
        steps: The number of steps.
        **timesteps: Arguments of `set_timesteps` in place of the number of steps, such as sigmas and mu.

    Returns:
        The levels, with the timesteps as the host's own numbers.

    Raises:
        InputError: The levels depend on more than that, or the sampler's sigmas are not known.
    """
    import numpy as np

    from cfglab.denoising.step_reader import alpha_of, prediction_of, read_steps

    try:
        scheduler.set_timesteps(**timesteps or {"num_inference_steps": steps})
        calls = read_steps(scheduler)
    except Exception as error:
        raise InputError(
            f"{name}: its {type(scheduler).__name__} gives no levels for {steps} steps alone "
            f"({str(error).strip().partition(chr(10))[0]:.80}); read them from the trace of a run, guide(pipe).trace."
        ) from error
    run = [next(step for step in calls if step.index == index) for index in range(calls[-1].index + 1)]
    if any(step.sigma is None or step.timestep is None for step in run):
        raise InputError(f"{name}: the sigmas of {type(scheduler).__name__} are not known; name another --sampler.")
    times = [float(step.timestep or 0.0) for step in run]
    sigmas = [float(step.sigma or 0.0) for step in run]

    def sigma_of(level: float) -> float:
        return float(np.interp(level, times[::-1], sigmas[::-1]))

    hosts = [
        type(step)(step.index, step.count, step.timestep, step.sigma, step.next_sigma, step.alpha, step.timestep)
        for step in run
    ]
    return Levels(
        name,
        "timestep",
        (*times, -1.0),
        tuple(hosts),
        sigma_of,
        lambda sigma: alpha_of(scheduler, sigma),
        prediction_of(scheduler),
    )
