"""A1111 infotext: the text under the PNG keyword `parameters` that A1111, Forge, SD.Next and their readers share.

    a photograph of an astronaut
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model: v1-5

Values with a comma, a colon or a line feed are JSON strings.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cfglab.experiments.spec.cell import Cell
from cfglab.schedules import Constant

KEYWORD = "parameters"
GUIDANCE = "cfglab guidance"
"""The field that holds the text of a guidance."""
_FIELD = re.compile(
    r'\s{0,8}+(\w[\w \-/]{1,60}+):\s{0,8}+("(?:\\.|[^\\"])++"|[+-]?[0-9.]++(?:,[0-9.]++)++(?=,|$)|[^,]*+)(?:,|$)'
)
"""One field of the settings line, as the web UI reads it, without backtracking. Numbers with commas and no space
between them are one value (`7,5`), which the web UI cuts at the first comma."""
_LEAST = 3
"""Fields that make a line the settings line, as in the web UI."""
_LAST_LINES = 5
"""Lines at the end among which the settings line is looked for; extensions append lines of their own."""
_SAMPLERS = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "dpm++2m": "DPM++ 2M",
    "dpm++2m-sde": "DPM++ 2M SDE",
    "dpm++single": "DPM++ 2S",
    "euler": "Euler",
    "euler-a": "Euler a",
    "heun": "Heun",
    "kdpm2": "DPM2",
    "kdpm2-a": "DPM2 a",
    "lcm": "LCM",
    "lms": "LMS",
    "pndm": "PLMS",
    "unipc": "UniPC",
}
"""A sampler's name here -> its name in A1111 or SD.Next."""


@dataclass(frozen=True, slots=True)
class Infotext:
    """An infotext in its parts; `settings` are the fields of the last line as text."""

    prompt: str
    negative: str
    settings: Mapping[str, str]


def read_infotext(text: str) -> Infotext | None:
    """The parts of an infotext, as the web UI reads them; None where it has no settings line.

    Args:
        text: The infotext, of any length.

    Returns:
        Prompt, negative prompt and settings.

    Examples:
        >>> info = read_infotext("a cat\\nNegative prompt: dog\\nSteps: 20, CFG scale: 7, Seed: 3")
        >>> info.prompt, info.negative, info.settings["Seed"]
        ('a cat', 'dog', '3')
    """
    lines = [line.strip() for line in text.strip().split("\n")]
    for place in range(len(lines) - 1, max(-1, len(lines) - 1 - _LAST_LINES), -1):
        fields = _FIELD.findall(lines[place])
        if len(fields) >= _LEAST and any(name == "Steps" for name, _ in fields):
            break
    else:
        return None
    begin = next((row for row, line in enumerate(lines[:place]) if line.startswith("Negative prompt:")), place)
    negative = "\n".join(lines[begin:place]).removeprefix("Negative prompt:").strip()
    settings = {name: _unquoted(value.strip()) for name, value in fields}
    return Infotext("\n".join(lines[:begin]).strip(), negative, settings)


def write_infotext(prompt: str, negative: str, settings: Mapping[str, object]) -> str:
    """The infotext of these parts.

    Args:
        prompt: The prompt.
        negative: The negative prompt; empty for none.
        settings: The fields of the last line in their order.

    Returns:
        The text under the PNG keyword `parameters`.

    Examples:
        >>> print(write_infotext("a cat", "", {"Steps": 20, "Seed": 3}))
        a cat
        Steps: 20, Seed: 3
    """
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items())
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), line])


def infotext_of(cell: Cell) -> str:
    """The infotext of a cell. It has a CFG scale only where the scale is one number for all steps; the guidance is
    always there as text."""
    schedule = cell.guidance.schedule
    plain = isinstance(schedule, Constant) and not cell.guidance.transforms
    settings: dict[str, object] = {"Steps": cell.steps, "Sampler": _SAMPLERS.get(cell.sampler, cell.sampler)}
    if cell.sampler_config.get("use_karras_sigmas") is True:
        settings["Schedule type"] = "Karras"
    if plain:
        settings["CFG scale"] = str(schedule)
    settings |= {"Seed": cell.seed, "Size": f"{cell.width}x{cell.height}"}
    settings |= {
        "Model hash": cell.weights[:10],
        "Model": _name_of(cell.model),
        GUIDANCE: str(cell.guidance),
        "App": "cfglab",
    }
    return write_infotext(cell.prompt, cell.negative, settings)


def _name_of(model: str) -> str:
    """The last part of a path or a hub id, as the web UI names a model."""
    return re.split(r"[\\/]", model.rstrip("\\/"))[-1]


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
