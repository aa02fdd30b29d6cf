"""Votes on pairs of images: one JSON object a line, in a file of the user's choice or in the user's data folder."""

import json
import os
import threading
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.analysis.bradley_terry import BradleyTerry, Outcome, bradley_terry
from cfglab.experiments.storage.files import refuse
from cfglab.file_input import read_text

_LOCK = threading.Lock()


class StoredVote(BaseModel):
    """One vote and what it was about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: str
    right: str
    outcome: Outcome
    blind: bool
    prompt: str
    seed: int
    steps: int
    sampler: str
    model: str
    kind: Literal["vote"] = "vote"


def default_file() -> Path:
    """votes.jsonl in the user's data folder."""
    from platformdirs import user_data_path

    return user_data_path("cfglab") / "votes.jsonl"


def add_vote(path: Path, vote: StoredVote) -> None:
    """Append one vote; the line is written in one piece.

    Raises:
        InputError: the path is a folder.
        MachineError: the file cannot be written.
    """
    line = (json.dumps(vote.model_dump(exclude={"kind"})) + "\n").encode()
    try:
        with _LOCK:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
    except OSError as error:
        raise refuse(path, error) from error


def read_votes(path: Path) -> list[StoredVote]:
    """All votes of a file; none if it does not exist.

    Raises:
        InputError: the file cannot be read, or a line is no vote.
    """
    if not path.is_file():
        return []
    try:
        lines = read_text(path, limits.DOCUMENT_BYTES).splitlines()
    except OSError as error:
        raise InputError(f"{path}: the votes cannot be read ({error.strerror}); give another --votes.") from error
    votes = []
    for number, line in enumerate(lines, start=1):
        try:
            votes.append(StoredVote.model_validate_json(line))
        except ValidationError:
            raise InputError(f"{path}: line {number} is no vote; remove it, or give another --votes.") from None
    return votes


def table(path: Path) -> BradleyTerry:
    """The Bradley-Terry table of a file of votes."""
    return bradley_terry((vote.left, vote.right, vote.outcome) for vote in read_votes(path))
