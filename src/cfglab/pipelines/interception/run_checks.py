"""Checks of a run as a whole: before it, beside other runs, and at its end."""

import contextlib
import copy
import math
from typing import Any

from torch import nn

from cfglab.errors import InputError
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.pipelines.interception.wrapped_modules import core_of

STATELESS = {
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "CogVideoXDDIMScheduler",
    "DDPMWuerstchenScheduler",
}
"""Schedulers of diffusers that keep nothing from step to step: runs of the same steps do not disturb each other."""

_PER_RUN = (
    "prompt",
    "negative_",
    "latents",
    "generator",
    "image",
    "callback",
    "output_type",
    "return_dict",
    "num_images_",
)
"""Beginnings of arguments in which two runs of one pipeline at once may differ."""


def check_networks(pipe: Any, names: tuple[str, ...]) -> None:
    """Check that the denoiser can be intercepted.

    Args:
        pipe: The pipeline.
        names: The components that denoise.

    Raises:
        InputError: There is none, or it is not a torch module.
    """
    parts = [(name, getattr(pipe, name, None)) for name in names]
    if all(part is None for _, part in parts):
        raise InputError(
            f"no {' or '.join(names)} in this {type(pipe).__name__}: there is nothing to guide; load the pipeline with "
            "it, or pass profile=Profile(denoisers=...) with the component that denoises."
        )
    for name, part in parts:
        if part is not None and not isinstance(part, nn.Module):
            raise InputError(
                f"the {name} of this {type(pipe).__name__} is a {type(part).__name__}, not a torch.nn.Module: its "
                "calls cannot be seen; put it into a module whose forward calls it."
            )


def check_steps(pipe: Any, arguments: dict[str, Any]) -> None:
    """Check that a call runs at least one step.

    Args:
        pipe: The pipeline.
        arguments: The arguments of the call by name.

    Raises:
        InputError: It runs none.
    """
    steps, strength = arguments.get("num_inference_steps"), arguments.get("strength")
    strength = None if arguments.get("denoising_start") is not None else strength
    if isinstance(steps, int) and isinstance(strength, int | float) and _remaining_steps(pipe, steps, strength) == 0:
        raise InputError(
            f"strength={strength:g} with num_inference_steps={steps}: no step is left to run, and nothing to guide; "
            f"give a strength of {math.ceil(1000 / steps) / 1000:g} or more, or more steps."
        )
    for name in ("timesteps", "sigmas"):
        values = arguments.get(name)
        if values is not None and len(values) == 0:
            raise InputError(f"{name}=[]: a run of no steps; give at least one, or leave {name} out.")


def _remaining_steps(pipe: Any, steps: int, strength: float) -> int | None:
    """How many steps the pipeline's own `get_timesteps` leaves of so many; None where that cannot be asked."""
    if steps < 1 or not hasattr(pipe, "get_timesteps"):
        return None
    with contextlib.suppress(Exception):  # a scheduler that wants more than a number of steps, another signature
        probe = copy.copy(pipe)
        vars(probe)["scheduler"] = scheduler = copy.deepcopy(pipe.scheduler)
        scheduler.set_timesteps(steps)
        timesteps, _ = probe.get_timesteps(steps, strength, "cpu")
        return len(timesteps)
    return None


def check_concurrent(run: GuidedRun, running: GuidedRun) -> None:
    """Check that a run does not disturb another one.

    Args:
        run: The run that begins.
        running: A run under way.

    Raises:
        InputError: They share a pipeline or a scheduler whose state one run needs.
    """
    if run.scheduler is not running.scheduler and run.pipe is not running.pipe:
        return
    kind, scheduler = type(run.pipe).__name__, type(run.scheduler).__name__
    owner = (
        "of this pipeline"
        if run.pipe is running.pipe
        else f"of a {type(running.pipe).__name__} with the same scheduler"
    )
    if run.scheduler is not running.scheduler or scheduler not in STATELESS:
        reason = f"{scheduler} keeps the state of one run"
    elif run.pipe is not running.pipe:
        reason = f"{scheduler} keeps the steps of one run"
    else:
        differ = [name for name in run.arguments if not _shared(name, run.arguments[name], running.arguments.get(name))]
        if not differ:
            return
        reason = f"a pipeline keeps such arguments for one run, and here {differ[0]} differs"
    raise InputError(
        f"a run {owner} is under way, in a callback or in another thread, and {reason}: wait for it, or run "
        f"{kind}.from_pipe(pipe, scheduler=copy.deepcopy(pipe.scheduler)) under a guide() of its own."
    )


def _shared(name: str, value: Any, running_value: Any) -> bool:
    """Whether two runs may have these values of an argument at the same time."""
    if (
        value is running_value
        or name.startswith(_PER_RUN)
        or name.endswith(("_embeds", "guidance_scale"))
        or "image" in name
    ):
        return True
    if isinstance(value, dict) and isinstance(running_value, dict):  # attention's arguments are read at every step
        return not value and not running_value
    return (
        isinstance(value, int | float | str | list | tuple)
        and type(value) is type(running_value)
        and bool(value == running_value)
    )


def check_finished(run: GuidedRun, calls: int, outside_caller: str) -> None:
    """Check at the end that the run was guided.

    Args:
        run: The run.
        calls: The number of guided denoiser calls.
        outside_caller: The first function outside of the pipeline that called a denoiser; "" for none.

    Raises:
        InputError: Not all steps were guided.
    """
    kind, denoiser = type(run.pipe).__name__, run.profile.denoisers[0]
    if calls == 0 and (getattr(run.pipe, "_num_timesteps", None) or getattr(run.pipe, "num_timesteps", None)) == 0:
        options = {name: run.arguments.get(name) for name in ("strength", "denoising_start", "denoising_end")}
        listing = ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)
        raise InputError(
            f"a run of 0 steps{f' ({listing})' if listing else ''}: nothing was guided; give more steps, or a larger "
            "part of them."
        )
    remaining = run.reader.remaining
    if outside_caller and (calls == 0 or remaining):
        missing = "no step" if calls == 0 else f"{remaining} steps less than its scheduler has"
        raise InputError(
            f"{missing} of {kind} was guided: its {denoiser} was called by {outside_caller}, which is not the code of "
            f"the pipeline; call self.{denoiser} in the pipeline's own methods."
        )


def check_claims(run: GuidedRun, claims: list[float]) -> None:
    """Check at the end that rows that were taken for equal were equal.

    Args:
        run: The run.
        claims: One number per claim; 0 if it was wrong.

    Raises:
        InputError: A claim was wrong.
    """
    if not all(claims):
        raise InputError(
            f"rows of this {type(run.pipe).__name__} that were equal at its first step were not equal at a later one, "
            f"and were run once: {type(run.scheduler).__name__} or the loop adds noise; pass share_rows=False to "
            "guide()."
        )


def switched_off(pipe: Any, name: str, value: Any, denoiser: str) -> InputError:
    """The error of a call whose guidance is off although its scale is on.

    Args:
        pipe: The pipeline.
        name: The name of the scale argument.
        value: Its value.
        denoiser: The component that denoises.

    Returns:
        The error, with the reason: the network, the configuration or a callback.
    """
    network = core_of(getattr(pipe, denoiser, None))
    width = getattr(getattr(network, "config", None), "time_cond_proj_dim", None)
    if width is not None:
        reason = (
            f"{name}={value} inside guide() for a {type(network).__name__} with time_cond_proj_dim={width} (a latent "
            "consistency model): it reads the scale as an input and makes one prediction"
        )
    elif getattr(getattr(pipe, "config", None), "is_distilled", False):
        reason = (
            f"{name}={value} inside guide() for a {type(pipe).__name__} with is_distilled=True: it makes one prediction"
        )
    else:
        return InputError(
            f"{name}={value} inside guide(), and yet {type(pipe).__name__} makes no unconditional prediction: it, or "
            "a callback, has switched guidance off before the first step; leave that to .inside(...) of a schedule."
        )
    return InputError(
        f"{reason}, so there is nothing to guide; call it without guide(), or load a checkpoint that is not distilled."
    )
