"""A model's folder on disk: where it is, whether it is whole, what its weights are. Loads no torch."""

import errno
import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from cfglab.errors import InputError, MachineError
from cfglab.scenes import folder as scenes_folder
from cfglab.schedules.fields import nearest

PARTS = ("unet", "vae", "text_encoder")
"""The folders whose weights make the picture."""
KNOWN = ("scenes",)
_VOCABULARIES = ("tokenizer.json", "vocab.json")
_PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(name: str | Path, revision: str | None = None, allow_pickle: bool = False) -> Path:
    """The folder of `scenes`, of a path, or of a hub id, which is downloaded unless the hub's cache holds it.

    The folder is checked before it is returned: a Stable Diffusion 1.x pipeline, every weights file whole. A copy in
    the hub's cache is used as it is. Raises InputError for a faulty folder or an unknown name, MachineError where the
    hub cannot be reached or the disk is full.
    """
    path = Path(name).expanduser()
    if str(name) == "scenes":
        path = scenes_folder()
    elif not path.exists():
        if not _HUB_ID.fullmatch(str(name)) or str(name).startswith("."):
            hint = (
                nearest(str(name), KNOWN) or " give one of them, a folder, or a hub id such as prompthero/openjourney."
            )
            raise InputError(f"no model {str(name)!r}: it is no folder here; known by name: {', '.join(KNOWN)};{hint}")
        path = _from_hub(str(name), revision, allow_pickle)
    elif revision is not None:
        raise InputError(f"revision {revision!r} with the folder {path}: only hub models have revisions; leave it out.")
    check_folder(path, allow_pickle)
    return path


def check_folder(folder: Path, allow_pickle: bool = False) -> None:
    """Raise InputError unless `folder` is a Stable Diffusion pipeline whose weights can be read safely."""
    index = folder / "model_index.json"
    if not index.is_file():
        what = "a single file, not a folder" if folder.is_file() else "a folder without model_index.json"
        raise InputError(
            f"{folder} is no pipeline: it is {what}; give the folder that save_pretrained wrote "
            "(model_index.json with unet, vae, text_encoder, tokenizer, scheduler)."
        )
    kind = read_json(index).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise InputError(f"{folder} holds a {kind}, which is not yet supported; give a StableDiffusionPipeline.")
    for part in (*PARTS, "tokenizer", "scheduler"):
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder} has no {part} folder: a pipeline needs {', '.join(PARTS)}, tokenizer and scheduler."
            )
    for part in PARTS:
        _check_weights(folder / part, allow_pickle)
    if not any((folder / "tokenizer" / name).is_file() for name in _VOCABULARIES):
        raise InputError(
            f"{folder / 'tokenizer'} holds no vocabulary: it has {' or '.join(_VOCABULARIES)}; copy the model's folder "
            "again."
        )


def weights_hash(folder: str | Path) -> str:
    """What the weights are, in hex: the commit for a folder of the hub's cache, else the SHA-256 over the names and
    contents of the weights files of unet, vae and text encoder. Computed once per process while files stay the same."""
    path = Path(folder).absolute()
    if path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name):
        return path.name
    files = [file for part in PARTS for file in _weights(path / part)]
    if not files:
        raise InputError(f"{path} holds no weights: there is nothing to identify; give a pipeline's folder.")
    return _digest(path, tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@lru_cache(maxsize=64)
def _digest(root: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(f"{Path(name).relative_to(root).as_posix()}\0{size}\0".encode())
        with Path(name).open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"{path} cannot be read as JSON ({reason}); copy the model's folder again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; copy the model's folder again.")
    return content


def _weights(part: Path) -> list[Path]:
    return sorted(part.glob("*.safetensors")) or sorted(file for kind in _PICKLED for file in part.glob(kind))


def _check_weights(part: Path, allow_pickle: bool) -> None:
    files = _weights(part)
    if not files:
        raise InputError(f"{part} holds no weights: there is no *.safetensors file; copy the model's folder again.")
    for file in files:
        if file.suffix == ".safetensors":
            _check_safetensors(file)
        elif not allow_pickle:
            raise InputError(
                f"{file} is a pickle, which can run code when it is read: only safetensors are read; if you trust its "
                "source, allow_pickle=True (--allow-pickle) reads it with weights-only loading."
            )


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} is corrupt or cut off ({str(error).splitlines()[0]}); copy or download that file again."
        ) from None


def _from_hub(name: str, revision: str | None, allow_pickle: bool) -> Path:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "model_index.json", revision=revision)
    if isinstance(cached, str):
        try:
            check_folder(Path(cached).parent, allow_pickle)
        except InputError:
            pass  # an interrupted download: go on with it
        else:
            return Path(cached).parent
    return _download(name, revision, allow_pickle)


def _download(name: str, revision: str | None, allow_pickle: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from cfglab.pipelines.quiet import StableDiffusionPipeline, quiet

    at = f" at revision {revision!r}" if revision else ""
    try:
        with quiet():  # the hub shows its own progress; the safety checker stays there
            hf_hub_download(name, "model_index.json", revision=revision)  # says what is missing; diffusers would not
            folder = StableDiffusionPipeline.download(
                name,
                revision=revision,
                use_safetensors=None if allow_pickle else True,
                safety_checker=None,
                feature_extractor=None,
            )
        return Path(folder)
    except LocalEntryNotFoundError:
        raise _unreachable(name) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"no model {name!r}{at}: there is no such folder here and the hub has none ({reason}); check the "
            "spelling, or sign in if it is gated."
        ) from None
    except OSError as error:
        if "safetensors" in str(error):
            raise InputError(
                f"{name!r}{at} has no safetensors weights, only pickles, which can run code when they are read; if you "
                "trust its source, allow_pickle=True (--allow-pickle) reads them with weights-only loading."
            ) from None
        if error.errno == errno.ENOSPC:
            raise MachineError(
                f"{name!r} does not fit on the disk: it is full; free some space and run again."
            ) from None
        raise _unreachable(name) from error
    except Exception as error:
        if type(error).__module__.startswith("httpx"):  # the hub's client lets its connection's own errors through
            raise _unreachable(name) from error
        raise


def _unreachable(name: str) -> MachineError:
    return MachineError(
        f"{name!r} is no folder here and not whole in the hub's cache, and the hub cannot be reached: check the "
        "network and run again (a download resumes), or give a folder."
    )
