"""How two experiments differ, in words for an error."""

from typing import Any

from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.prompts import write_seeds
from cfglab.experiments.spec.setting import Setting


def describe_difference(stored: Experiment, requested: Experiment) -> str:
    """Return how a stored experiment differs from a requested one.

    Args:
        stored: the experiment of a run.
        requested: the experiment that was asked for.

    Returns:
        Such as "the experiment 'k-decay', not 'scale'", or for two of one name the first field that differs.
    """
    name = f"the experiment {stored.name!r}"
    if stored.name != requested.name:
        return f"{name}, not {requested.name!r}"
    for field in Experiment.model_fields:
        value, requested_value = getattr(stored, field), getattr(requested, field)
        if value == requested_value or field in Experiment.unnamed:
            continue
        if field in ("baseline", "settings", "left_out"):
            return f"{name} with other settings than asked for now{_setting_difference(stored, requested)}"
        if field == "seeds":
            value, requested_value = write_seeds(value), write_seeds(requested_value)
        return f"{name} with {field} {_short(value)}, not {_short(requested_value)}"
    return name


def _setting_difference(stored: Experiment, requested: Experiment) -> str:
    """` ('constant' is 7.5, not 8)`: the first setting that is not the same in both, or is in another place."""
    guidances, requested_guidances = (
        {setting.name: _what_it_is(setting) for setting in (experiment.baseline, *experiment.settings)}
        for experiment in (stored, requested)
    )
    for name in {**guidances, **requested_guidances}:
        if name not in guidances:
            return f" ({name!r} is not there)"
        if name not in requested_guidances:
            return f" ({name!r} is no longer asked for)"
        if guidances[name] != requested_guidances[name]:
            return f" ({name!r} is {_short(guidances[name])}, not {_short(requested_guidances[name])})"
    if list(guidances) != list(requested_guidances):
        pairs = zip(guidances, requested_guidances, strict=True)
        name, other = next(pair for pair in pairs if pair[0] != pair[1])
        return f" (the same ones in another order: {name!r} is before {other!r} there, and after it now)"
    return _field_difference(stored, requested)


def _field_difference(stored: Experiment, requested: Experiment) -> str:
    """` ('constant' has group 'a', not 'b')`: the first other field of a setting that differs."""
    pairs = zip((stored.baseline, *stored.settings), (requested.baseline, *requested.settings), strict=False)
    for setting, other in pairs:
        for field in Setting.model_fields:
            value, requested_value = getattr(setting, field), getattr(other, field)
            if value != requested_value:
                return f" ({setting.name!r} has {field} {_short(value)}, not {_short(requested_value)})"
    return " (in what is left out)" if stored.left_out != requested.left_out else ""


def _what_it_is(setting: Setting) -> str:
    best_of = f", best of {setting.best_of} by {setting.early} steps" if setting.best_of > 1 else ""
    return f"{setting.guidance}{best_of}"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, tuple) or value == "" else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
