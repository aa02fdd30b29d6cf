"""What one image file says about its generation: A1111 infotext, ComfyUI, InvokeAI, or a text file beside it."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from cfglab.errors import InputError, is_memory_error
from cfglab.experiments.importing.comfyui import read_prompt
from cfglab.experiments.importing.generation import Generation, Unusable, generation, load_json
from cfglab.experiments.storage.infotext import GUIDANCE, KEYWORD, Infotext, read_infotext
from cfglab.experiments.storage.png_chunks import SIGNATURE, TooLarge, texts
from cfglab.file_input import lines_of, read_bytes, read_text
from cfglab.limits import DOCUMENT_BYTES, IMAGE_BYTES, IMAGE_PIXELS, PNG_TEXT_BYTES

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_COMFYUI, _INVOKEAI, _INVOKEAI_2 = "prompt", "invokeai_metadata", "sd-metadata"
_EXIF_FOLDER, _USER_COMMENT = 0x8769, 0x9286
_NO_CONFIGURATION = (
    *("Seed", "Steps", "Sampler", "CFG scale", "Model", GUIDANCE),
    *("Version", "App", "Time", "Comment", "Created Date", "User"),
)
"""Fields of an infotext that are read on their own, or that do not change the image."""
_HASHES = ("Model hash", "Lora hashes", "TI hashes", "Hashes")


def read_generation(path: Path) -> Generation:
    """How an image was generated, from its own metadata, else from a `.txt` of the same name beside it.

    Nothing but texts is read: no pixel is decoded, and nothing in the file is executed.

    Args:
        path: a PNG, JPEG or WebP file.

    Raises:
        Unusable: the file is no image, has no metadata that is known here, or its metadata cannot be read.
    """
    fields = _texts(path)
    if _INVOKEAI in fields or _INVOKEAI_2 in fields:
        return _invokeai(fields)
    info = read_infotext(fields.get(KEYWORD, ""))
    if info is not None:
        return _a1111(info)
    if _COMFYUI in fields:
        return read_prompt(load_json(fields[_COMFYUI], "ComfyUI prompt"))
    beside = _beside(path)
    if beside is not None:
        return _a1111(beside)
    raise Unusable("carries no metadata of A1111, Forge, SD.Next, ComfyUI or InvokeAI")


def read_listing(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of a folder's `metadata.jsonl` or `metadata.csv` by file name, as diffusers and datasets have them.

    A file name may lead into folders below, such as `train/0.png`.

    Raises:
        InputError: the file cannot be read.
    """
    for path in (folder / "metadata.jsonl", folder / "metadata.csv"):
        if not path.is_file():
            continue
        try:
            lines = lines_of(read_text(path, DOCUMENT_BYTES))
            if path.suffix == ".csv":
                rows: list[Any] = list(csv.DictReader(io.StringIO("\n".join(lines))))
            else:
                rows = [load_json(line, "metadata") for line in lines if line.strip()]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); remove it, or write it again.") from error
        except (Unusable, csv.Error) as error:
            raise InputError(f"{path}: a line {error}; write one JSON object a line, with file_name.") from error
        return {
            PurePosixPath(row["file_name"].replace("\\", "/")).as_posix(): row
            for row in rows
            if isinstance(row, dict) and isinstance(row.get("file_name"), str)
        }
    return {}


def listed_generation(row: Mapping[str, Any]) -> Generation:
    """The generation that a row of a listing describes, in the argument names of a diffusers pipeline.

    Raises:
        Unusable: prompt, seed, num_inference_steps or guidance_scale is missing or cannot be read.
    """
    values = {name: value for name, value in row.items() if isinstance(name, str) and value not in (None, "")}
    values.pop("file_name", None)
    return generation(
        "diffusers",
        prompt=_first(values, "prompt", "text"),
        negative=_first(values, "negative_prompt"),
        seed=_first(values, "seed"),
        steps=_first(values, "num_inference_steps", "steps"),
        scale=_first(values, "guidance", "guidance_scale"),
        sampler=_first(values, "scheduler", "sampler"),
        model=_first(values, "model", "pretrained_model_name_or_path"),
        settings=values,
    )


def _first(values: dict[str, Any], *names: str) -> Any:
    """The value of the first of these names that is there, taken out; the others stay."""
    return next((values.pop(name) for name in names if name in values), None)


def _a1111(info: Infotext) -> Generation:
    fields = dict(info.settings)
    sampler = fields.get("Sampler")
    others = {name: value for name, value in fields.items() if name not in (*_NO_CONFIGURATION, *_HASHES)}
    program = fields.get("App") or ("Forge" if str(fields.get("Version", "")).startswith("f") else "A1111")
    return generation(
        program if program in ("SD.Next", "cfglab") else "Forge" if program == "Forge" else "A1111",
        prompt=info.prompt,
        negative=info.negative,
        seed=fields.get("Seed"),
        steps=fields.get("Steps"),
        scale=fields.get(GUIDANCE) or fields.get("CFG scale"),
        sampler=sampler,
        model=fields.get("Model") or fields.get("Model hash"),
        settings=others,
        hashes={name: fields[name] for name in _HASHES if name in fields},
    )


def _invokeai(fields: Mapping[str, str]) -> Generation:
    """InvokeAI 3 and later write one flat object, InvokeAI 2 one with the image's own values under `image`."""
    if _INVOKEAI in fields:
        values = load_json(fields[_INVOKEAI], "InvokeAI metadata")
    else:
        values = load_json(fields[_INVOKEAI_2], "InvokeAI metadata")
        image = values.get("image") if isinstance(values, dict) else None
        values = {**image, "model": values.get("model_weights")} if isinstance(image, dict) else None
    if not isinstance(values, dict):
        raise Unusable("has InvokeAI metadata that is no object")
    values = {name: value for name, value in values.items() if name != "app_version"}
    prompt, model = _first(values, "positive_prompt", "prompt"), _first(values, "model")
    if isinstance(prompt, list):  # of InvokeAI 2: parts with weights
        prompt = " AND ".join(str(part.get("prompt", "")) for part in prompt if isinstance(part, dict))
    hashes = {}
    if isinstance(model, dict):
        hashes = {"model hash": model.get("hash")}
        model = model.get("name") or model.get("model_name")
    return generation(
        "InvokeAI",
        prompt=prompt,
        negative=_first(values, "negative_prompt"),
        seed=_first(values, "seed"),
        steps=_first(values, "steps"),
        scale=_first(values, "cfg_scale"),
        sampler=_first(values, "scheduler", "sampler"),
        model=model,
        settings=values,
        hashes=hashes,
    )


def _texts(path: Path) -> Mapping[str, str]:
    """The texts of an image file under the keywords that are known here."""
    try:
        content = read_bytes(path, IMAGE_BYTES)
        if content.startswith(SIGNATURE):
            return texts(content, (KEYWORD, _COMFYUI, _INVOKEAI, _INVOKEAI_2), IMAGE_PIXELS)
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    except TooLarge as error:
        raise Unusable(f"is too large ({error})") from error
    except ValueError as error:  # torn, or a text in it is
        raise Unusable(f"is a damaged PNG file ({error})") from error
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "WEBP", "PNG")) as image:
            comment = image.getexif().get_ifd(_EXIF_FOLDER).get(_USER_COMMENT, b"")
    except Exception as error:  # whatever a damaged file makes of the reader
        if is_memory_error(error):
            raise
        raise Unusable("is no image, or a damaged one") from error
    return {KEYWORD: _comment(comment)} if isinstance(comment, bytes) and len(comment) <= PNG_TEXT_BYTES else {}


def _comment(comment: bytes) -> str:
    """The text of an EXIF UserComment: eight bytes name its encoding. A1111 writes UTF-16, the larger byte first."""
    kind, data = comment[:8], comment[8:]
    if kind != b"UNICODE\0":
        return data.decode("utf-8", "replace")
    small_end = data[:2] == b"\xff\xfe" or data[1:64:2].count(0) > data[0:64:2].count(0)
    return data.decode("utf-16-le" if small_end else "utf-16-be", "replace").lstrip("\ufeff")


def _beside(path: Path) -> Infotext | None:
    """The infotext in a text file of the same name, which A1111 writes where it is asked to."""
    beside = path.with_suffix(".txt")
    try:
        return read_infotext(read_text(beside, PNG_TEXT_BYTES)) if beside.is_file() else None
    except OSError:
        return None
