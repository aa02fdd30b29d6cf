"""Guidances as the JSON objects of a configuration file, and back."""

import json
from collections.abc import Sequence
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import as_guidance


def read(value: Any) -> Any:
    """A guidance from what stands for one, the JSON object of a Guidance included. Raises InputError."""
    if value is None:
        raise InputError(
            "no guidance in this configuration of a guider: it was made of something that cannot be stored; "
            "make the guider with to_guider(guidance)."
        )
    return Guidance(**value) if isinstance(value, dict) and "schedule" in value else as_guidance(value)


def written(guidances: Sequence[Any]) -> tuple[list[Any] | None, str]:
    """The guidances as JSON objects; None, and the reason in one line, where one of them cannot be written."""
    try:
        return [_object(one) for one in guidances], ""
    except InputError as error:
        return None, str(error)


def _object(guidance: Any) -> Any:
    if not isinstance(guidance, Guidance):
        raise InputError(f"{guidance!r} cannot be written: only a Guidance is stored; give to_guider one.")
    return json.loads(guidance.to_json())
