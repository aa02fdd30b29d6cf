"""The noise levels of a family at a number of steps: from the catalogue's scheduler, without the model's files."""

import math
from typing import Any

from cfglab.errors import InputError
from cfglab.hosts.levels import Levels
from cfglab.limits import STEPS
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.loading.samplers import FLOW_SAMPLERS, SAMPLERS, make_sampler
from cfglab.pipelines.model_levels import scheduler_levels
from cfglab.schedules.fields import shown


def family_levels(family: Family, steps: int, sampler: str | None = None) -> Levels:
    """The noise levels of a family's run.

    Args:
        family: The family.
        steps: The number of steps.
        sampler: A name in SAMPLERS; None for the family's own scheduler.

    Returns:
        The levels.

    Raises:
        InputError: The family's scheduler is not known, the sampler is no flow sampler, or the number of steps is out
            of range.
    """
    check_steps(steps)
    facts = family.scheduler.value
    if facts is None:
        raise InputError(
            f"{family.name}: its noise levels are not known ({family.scheduler.reason}); cfglab levels reads them from "
            "a model's folder."
        )
    import diffusers

    settings, mu = facts.get("settings", {}), facts.get("mu")
    flow = family.prediction.value == "flow"
    if flow and sampler is not None and FLOW_SAMPLERS.get(sampler) != facts["class"]:
        return scheduler_levels(family.name, _flow_sampler(family, sampler, settings, mu), steps)
    if sampler is not None and not flow:
        return scheduler_levels(family.name, make_sampler(sampler, settings), steps)
    scheduler = getattr(diffusers, facts["class"]).from_config(dict(settings))
    timesteps: dict[str, Any] = {}
    if facts.get("even_sigmas"):
        timesteps["sigmas"] = [1 - index / steps for index in range(steps)]
    if mu is not None:
        timesteps["mu"] = mu
    return scheduler_levels(family.name, scheduler, steps, **timesteps)


def check_steps(steps: Any) -> None:
    """Refuse a number of steps that no run has.

    Args:
        steps: The number.

    Raises:
        InputError: It is no whole number from 1 to STEPS.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= STEPS:
        raise InputError(f"{shown(steps)} steps: a run has 1 to {STEPS:,}, a whole number; write 50.")


def _flow_sampler(family: Family, sampler: str, settings: dict[str, Any], mu: float | None) -> Any:
    """A sampler that integrates a flow, at the family's shift."""
    if sampler in SAMPLERS and sampler not in FLOW_SAMPLERS:
        raise InputError(
            f"sampler {sampler} for {family.name}, which predicts a flow: those that integrate one are "
            f"{', '.join(FLOW_SAMPLERS)}; name one of them, or leave it out."
        )
    shift = settings.get("flow_shift", settings.get("shift", 1.0 if mu is None else math.exp(mu)))
    return make_sampler(sampler, {"prediction_type": "flow_prediction", "shift": shift})
