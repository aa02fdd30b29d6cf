"""Guidances on the Hugging Face hub, by name: the file `guidance/NAME.json` of a repository. Nothing is pickled."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cfglab.errors import InputError, MachineError
from cfglab.file_input import read_text
from cfglab.limits import DOCUMENT_BYTES
from cfglab.schedules.fields import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def push(text: str, repository: str, name: str, *, private: bool | None, message: str) -> str:
    """Write the JSON of a guidance to a repository of the hub, which is made if it does not exist.

    Args:
        text: The JSON.
        repository: The hub id, owner/name.
        name: The name of the guidance.
        private: Whether a new repository is private; None is the owner's setting.
        message: The commit message.

    Returns:
        The address of the commit.

    Raises:
        InputError: A name is not valid, or the hub refuses.
        MachineError: The hub cannot be reached.
    """
    path = _path(repository, name)
    with _hub_errors(f"guidance {name!r} to {repository!r}"):
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_file(
            path_or_fileobj=text.encode(), path_in_repo=path, repo_id=repository, commit_message=message
        )
    return str(commit.commit_url)


def fetch(repository: str, name: str, revision: str | None) -> str:
    """The JSON of a guidance of a repository of the hub.

    Args:
        repository: The hub id, owner/name.
        name: The name of the guidance.
        revision: A branch, tag or commit; None is the main branch.

    Returns:
        The JSON, at most `limits.DOCUMENT_BYTES` long.

    Raises:
        InputError: There is no such guidance, or its file cannot be read.
        MachineError: The hub cannot be reached.
    """
    path = _path(repository, name)
    with _hub_errors(f"guidance {name!r} of {repository!r}"):
        from huggingface_hub import hf_hub_download

        file = hf_hub_download(repository, path, revision=revision)
    try:
        return read_text(file, DOCUMENT_BYTES)
    except OSError as error:
        raise InputError(f"guidance {name!r} of {repository!r}: cannot be read ({error.strerror}).") from error


def _path(repository: str, name: str) -> str:
    if not isinstance(repository, str) or not _REPOSITORY.fullmatch(repository):
        raise InputError(f"repository {shown(repository)}: a hub id is owner/name; write someone/guidances.")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"name {shown(name)}: a guidance's name has up to 64 letters, digits, '_', '.' and '-'; write k-decay."
        )
    return f"guidance/{name}.json"


@contextmanager
def _hub_errors(subject: str) -> Iterator[None]:
    """What the hub says, in one line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, LocalTokenNotFoundError

    try:
        yield
    except LocalEntryNotFoundError as error:
        raise MachineError(f"{subject}: not in the cache, and the hub cannot be reached; check the network.") from error
    except LocalTokenNotFoundError as error:
        raise InputError(f"{subject}: nobody is signed in to the hub; run hf auth login.") from error
    except HfHubHTTPError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(
            f"{subject}: the hub refuses ({reason:.200}); check the names, or sign in: hf auth login."
        ) from error
    except OSError as error:
        raise MachineError(f"{subject}: the hub cannot be reached ({error}); check the network.") from error
    except Exception as error:
        if type(error).__module__.startswith("httpx"):
            raise MachineError(f"{subject}: the hub cannot be reached ({error}); check the network.") from error
        raise
