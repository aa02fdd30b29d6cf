"""A model's folder on disk: where it is, whether it is whole, what its weights are. Loads no torch."""

import errno
import hashlib
import re
from contextlib import suppress
from functools import lru_cache, partial
from math import prod
from pathlib import Path

from cfglab import scenes
from cfglab.errors import DownloadNeeded, InputError, MachineError, is_memory_error
from cfglab.file_input import given_path, open_regular, user_path
from cfglab.limits import CONFIG_BYTES, FOLDER_ENTRIES, TOKENIZER_BYTES, WEIGHTS_BYTES
from cfglab.pipelines.loading.configuration import pipeline_class, read_configuration, read_parts
from cfglab.pipelines.loading.configuration import read_json as read_json
from cfglab.pipelines.loading.text_to_image import STABLE_DIFFUSION
from cfglab.schedules.fields import nearest

PARTS = ("unet", "vae", "text_encoder")
"""The folders of Stable Diffusion 1.x whose weights make the image."""
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
_SHARDS = ("diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json")
_PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(
    name: str | Path, revision: str | None = None, allow_pickle: bool = False, allow_download: bool = True
) -> Path:
    """Return the model folder of a name, after checking it.

    The check covers the pipeline class (one of `SIDE`), that every weights file is complete, and that every
    configuration is within bounds. A copy in the hub's cache is used without an update.

    Args:
        name: "scenes", "scenes-flow", the path of a model folder, or a hub id. A hub id is downloaded if the cache does
            not hold it.
        revision: the revision of the hub model.
        allow_pickle: accept pickled weights.
        allow_download: False for a name that was read from a file: the network is then not used.

    Returns:
        The path of the folder.

    Raises:
        InputError: if the folder is faulty or the name is unknown.
        DownloadNeeded: if only the permission to download is missing.
        MachineError: if the hub cannot be reached or the disk is full.
    """
    try:
        path = user_path(name)
        exists = path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file's name"
        raise InputError(f"no model {str(name)[:200]!r}: {reason}; give scenes, a folder or a hub id.") from error
    known = str(name) in scenes.MODELS
    if revision is not None and (known or exists):
        what = f"model {name}" if known else f"folder {path}"
        raise InputError(f"revision {revision!r} with the {what}: only hub models have revisions; leave it out.")
    if known:
        path = scenes.folder(str(name))
    elif not exists:
        if not _HUB_ID.fullmatch(str(name)) or str(name).startswith("."):
            hint = (
                nearest(str(name), scenes.MODELS)
                or " give one of them, a folder, or a hub id such as prompthero/openjourney."
            )
            raise InputError(
                f"no model {str(name)[:200]!r}: it is no folder here; known by name: {', '.join(scenes.MODELS)};{hint}"
            )
        path = _from_hub(str(name), revision, allow_pickle, allow_download)
    check_folder(path, allow_pickle)
    return path


def check_folder(folder: Path, allow_pickle: bool = False) -> None:
    """Raise InputError unless `folder` is a text-to-image pipeline whose weights can be read safely."""
    index = folder / "model_index.json"
    if not index.is_file():
        description = "a single file, not a folder" if folder.is_file() else "a folder without model_index.json"
        raise InputError(
            f"{folder} is no pipeline: it is {description}; give the folder that save_pretrained wrote "
            "(model_index.json with unet, vae, text_encoder, tokenizer, scheduler)."
        )
    _check_entries(folder)
    parts = read_parts(folder)
    for part in parts:
        if not (folder / part).is_dir():
            raise InputError(f"{folder} has no {part} folder: its model_index.json names {', '.join(parts)}.")
        _check_entries(folder / part, TOKENIZER_BYTES if part.startswith("tokenizer") else CONFIG_BYTES)
    for part in network_parts(folder):
        _check_weights(folder / part, allow_pickle)
    for tokenizer in (folder / part for part in parts if part.startswith("tokenizer")):
        if not any((tokenizer / name).is_file() for name in _VOCABULARIES):
            raise InputError(
                f"{tokenizer} holds no vocabulary: it has {' or '.join(_VOCABULARIES)}; copy the model's folder again."
            )
    read_configuration(folder)


def network_parts(folder: Path) -> tuple[str, ...]:
    """The parts of a pipeline that have weights.

    Args:
        folder: The folder of a pipeline.

    Returns:
        The names of their folders.

    Raises:
        InputError: Its model_index.json cannot be read.
    """
    if pipeline_class(folder) == STABLE_DIFFUSION:
        return PARTS
    return tuple(sorted(part for part in read_parts(folder) if (folder / part / "config.json").is_file()))


def _check_entries(folder: Path, most_bytes: int = CONFIG_BYTES) -> None:
    """Raise InputError where a folder of a model holds what is no file (a pipe would be waited for), a JSON file that
    is too large, or too many files. Nothing is opened."""
    count = 0
    try:
        for entry in folder.iterdir():
            count += 1
            if count > FOLDER_ENTRIES:
                raise InputError(f"{folder}: holds more than {FOLDER_ENTRIES:,} files; give a model's folder alone.")
            if not entry.exists() or entry.is_dir():
                continue
            if not entry.is_file():
                raise InputError(f"{entry}: is a pipe, a socket or a device, and a model has files; remove it.")
            size = entry.stat().st_size
            if entry.suffix in (".json", ".txt") and entry.name not in _SHARDS and size > most_bytes:
                raise InputError(
                    f"{entry}: has {size:,} bytes, and at most {most_bytes:,} are read; copy the model's folder again."
                )
    except OSError as error:
        raise InputError(f"{folder}: cannot be looked into ({error.strerror}); look after its permissions.") from error


def weights_hash(folder: str | Path) -> str:
    """Return an identifier of the weights in a pipeline folder.

    The result is computed once per process while the files stay the same.

    Args:
        folder: the folder of a pipeline.

    Returns:
        Hexadecimal text: the commit for a folder in the hub's cache, else the SHA-256 of the names and contents of the
        weights files of its networks.

    Raises:
        InputError: if the folder holds no weights.
    """
    path = given_path(folder).absolute()
    if path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name):
        return path.name
    parts = network_parts(path) if (path / "model_index.json").is_file() else ()
    files = [file for part in parts for file in _weights(path / part)]
    if not files:
        raise InputError(f"{path} holds no weights: there is nothing to identify; give a pipeline's folder.")
    return _digest(path, tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


def weights_count(part: Path) -> int:
    """The number of weights in a folder.

    Args:
        part: A folder of a model, such as `unet`.

    Returns:
        The number of values in its weights files.
    """
    from safetensors import safe_open

    count = 0
    for file in _weights(part):
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np") as tensors:
                count += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        else:
            count += file.stat().st_size
    return count


@lru_cache(maxsize=64)
def _digest(root: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(f"{Path(name).relative_to(root).as_posix()}\0{size}\0".encode())
        with open_regular(name) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _weights(part: Path) -> list[Path]:
    return sorted(part.glob("*.safetensors")) or sorted(file for kind in _PICKLED for file in part.glob(kind))


def _check_weights(part: Path, allow_pickle: bool) -> None:
    files = _weights(part)
    if not files:
        raise InputError(f"{part} holds no weights: there is no *.safetensors file; copy the model's folder again.")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: is no file; copy the model's folder again.")
        if (size := file.stat().st_size) > WEIGHTS_BYTES:
            raise InputError(f"{file}: has {size:,} bytes, and at most {WEIGHTS_BYTES:,} are read; give another model.")
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
    except Exception as error:
        if is_memory_error(error):
            raise MachineError(f"{file}: memory is too small to open it; free some and run again.") from error
        if not isinstance(error, SafetensorError | OSError):
            raise
        raise InputError(
            f"{file} is corrupt or cut off ({str(error).splitlines()[0]}); copy or download that file again."
        ) from None


def _from_hub(name: str, revision: str | None, allow_pickle: bool, allow_download: bool) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "model_index.json", revision=revision)
    except HFValidationError as error:
        raise InputError(
            f"no model {name!r}: it is no folder here and no name of the hub; check the spelling."
        ) from error
    if isinstance(cached, str):
        try:
            check_folder(Path(cached).parent, allow_pickle)
        except InputError:
            pass  # an interrupted download: go on with it
        else:
            return Path(cached).parent
    if not allow_download:
        raise DownloadNeeded(
            f"the hub model {name!r} is named by a file, and it is not whole in the hub's cache: it is downloaded "
            "where you allow it, --allow-download (allow_download=True)."
        )
    return _download(name, revision, allow_pickle)


def _download(name: str, revision: str | None, allow_pickle: bool) -> Path:
    import diffusers
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from cfglab.pipelines.loading.quiet import quiet

    at = f" at revision {revision!r}" if revision else ""
    try:
        with quiet():  # the hub shows its own progress; the safety checker stays there
            # says what is missing; diffusers would not
            index = hf_hub_download(name, "model_index.json", revision=revision)
            kind = pipeline_class(Path(index).parent)
            absent = dict.fromkeys(("safety_checker", "feature_extractor") if kind == STABLE_DIFFUSION else ())
            safe = None if allow_pickle else True
            download = partial(getattr(diffusers, kind).download, name, revision=revision, **absent)
            try:
                return Path(download(use_safetensors=safe))
            except OSError as error:
                if "safetensors" not in str(error):
                    raise
                with suppress(OSError):  # there may be weights in half precision alone
                    return Path(download(use_safetensors=safe, variant="fp16"))
                raise
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
