"""What a file says about how its image was generated, in one form for all programs, and how texts in it are cleaned."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance.guidance import Guidance, parse_guidance
from cfglab.json_text import check_tree
from cfglab.limits import LARGEST_SEED, NAME_CHARACTERS, PNG_TEXT_BYTES, PROMPT_CHARACTERS, STEPS
from cfglab.schedules.fields import shown

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]{1,30},[0-9]{1,30}")


class Unusable(ValueError):
    """Why an image cannot be part of a run, in words that follow "it"."""


@dataclass(frozen=True)
class Generation:
    """How one image was generated.

    Attributes:
        program: the program that wrote the metadata.
        prompt: the prompt.
        negative: the negative prompt; empty if there is none.
        seed: the seed that the program states.
        steps: sampling steps.
        guidance: the guidance.
        sampler: the sampler as the program names it; "unknown" if it is not recorded.
        model: the model as the program names it; "unknown" if it is not recorded.
        settings: everything else that is recorded and may change the image, by name.
        hashes: the path of the model and the hashes of the files that were used, by name. They follow from the names
            of the files, so they tell configurations apart only where one name has several of them.
    """

    program: str
    prompt: str
    negative: str
    seed: int
    steps: int
    guidance: Guidance
    sampler: str = "unknown"
    model: str = "unknown"
    settings: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


def generation(
    program: str,
    *,
    prompt: object,
    negative: object = "",
    seed: object,
    steps: object,
    scale: object,
    sampler: object = None,
    model: object = None,
    settings: Mapping[str, object] | None = None,
    hashes: Mapping[str, object] | None = None,
) -> Generation:
    """A Generation from values as they stand in a file, each checked.

    Args:
        program: the program that wrote them.
        prompt: a text.
        negative: a text or None.
        seed: a whole number, or its text.
        steps: a whole number, or its text.
        scale: a number, its text, a list with one scale per step, or the text of a guidance.
        sampler: a text or None.
        model: a text or None.
        settings: other values that may change the image; lists and objects are taken apart.
        hashes: hashes of the model and of other files.

    Raises:
        Unusable: a value is missing or cannot be read.
    """
    if not isinstance(prompt, str):
        raise Unusable("records no prompt")
    if prompt.startswith("@"):
        raise Unusable("has a prompt that begins with @, which names a file of prompts here")
    texts = {"prompt": prompt, "negative prompt": negative or ""}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise Unusable(f"records a {name} that is no text")
        if len(text) > PROMPT_CHARACTERS:
            raise Unusable(f"has a {name} of {len(text):,} characters, and at most {PROMPT_CHARACTERS:,} are read")
    return Generation(
        program=program,
        prompt=clean(prompt),
        negative=clean(str(negative or "")),
        seed=_whole("seed", seed, 0, LARGEST_SEED),
        steps=_whole("number of steps", steps, 1, STEPS),
        guidance=_guidance(scale),
        sampler=_unique(sampler) if isinstance(sampler, str) and sampler else "unknown",
        model=_file_name(model) if isinstance(model, str) and model else "unknown",
        settings=_settings(settings or {}),
        hashes=_settings({**_model_path(model), **(hashes or {})}),
    )


def load_json(text: str, name: str) -> Any:
    """A JSON value of another program, where NaN and Infinity may stand (ComfyUI writes them): they become None.

    Raises:
        Unusable: it is no JSON, or beyond a limit.
    """
    if len(text) > PNG_TEXT_BYTES:
        raise Unusable(f"has {len(text):,} characters of {name}, and at most {PNG_TEXT_BYTES:,} are read")
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        check_tree(value, name)
    except (ValueError, RecursionError) as error:  # InputError among them
        raise Unusable(f"has {name} that is no readable JSON") from error
    return value


def clean(text: str) -> str:
    """The text without control characters and lone surrogates, which become U+FFFD; line feeds and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if _is_control(character) else character for character in text)


def label(value: object) -> str:
    """A value as a short name in one line: at most `limits.NAME_CHARACTERS` characters, numbers without a bare `.0`."""
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return " ".join(clean(text[: 4 * NAME_CHARACTERS]).split())[:NAME_CHARACTERS]


def _settings(values: Mapping[str, object]) -> dict[str, str]:
    settings = {_unique(name): _unique(value) for name, value in _scalars("", values)}
    return {name: value for name, value in settings.items() if name and value}


def _scalars(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The scalars in a value with their names: `loras 1 weight` is in the first object of the list `loras`."""
    if isinstance(value, Mapping | list | tuple):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value, start=1)
        for key, part in parts:
            yield from _scalars(f"{name} {key}".strip(), part)
    elif isinstance(value, str | int | float | bool):
        yield name, value


def _unique(value: object) -> str:
    """`label`, with a checksum of the value where it is cut, so that values that differ have names that differ."""
    text = str(value)
    if len(text) <= NAME_CHARACTERS:
        return label(value)
    checksum = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{label(text)[: NAME_CHARACTERS - 10]}… {checksum}"


def _is_control(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")


def _file_name(model: str) -> str:
    """The model's file without folders, which are those of another machine, and without its ending."""
    name = re.split(r"[\\/]", model)[-1]
    return _unique(re.sub(r"\.(?:safetensors|ckpt|gguf|sft|pt|pth|bin)$", "", name))


def _model_path(model: object) -> dict[str, str]:
    """The model's path or hub id where it is more than a name: two folders may hold a file of one name."""
    path = model.replace("\\", "/") if isinstance(model, str) else ""
    return {"model path": path} if "/" in path else {}


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        raise Unusable(f"records no {name}")
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Unusable(f"records the {name} {shown(value)}, which is no whole number from {least} to {most:,}")
    return value


def _guidance(scale: object) -> Guidance:
    if scale is None:
        raise Unusable("records no guidance scale")
    try:
        if isinstance(scale, str):
            comma = _DECIMAL_COMMA.fullmatch(scale.strip())
            return parse_guidance(scale.replace(",", ".") if comma else scale)
        if isinstance(scale, bool) or not isinstance(scale, int | float | list):
            raise InputError("it is no number")
        return Guidance(float(scale) if isinstance(scale, int) else scale)
    except (InputError, ArithmeticError) as error:
        raise Unusable(f"records the guidance scale {shown(scale)}, which cannot be read") from error
