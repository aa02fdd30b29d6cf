"""The record in an image: each part is checked against the others, before anything is generated or written.

An image can come from anywhere, and its record states what is generated again: a model, sizes, steps, seeds. So no part
is trusted because another part was right.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import InputError
from cfglab.experiments.spec.batching import MOST, largest
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.models import IN_MEMORY, ModelFacts, is_mixture, largest_seed, sampler_names
from cfglab.limits import (
    NAME_CHARACTERS,
    PIXELS,
    PROMPT_CHARACTERS,
    RECORD_VERSIONS,
    STEPS,
)
from cfglab.pipelines.candidates import MOST as MOST_CANDIDATES
from cfglab.step import steps
from cfglab.terminal import inline

DTYPES = ("float32", "float16", "bfloat16")
OWN = frozenset({"prompt", "seed", "guidance", "best_of", "early"})
"""The fields that differ within a batch."""
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_TRIED = 50_000
"""Values of schedules that are computed to check whether a record's guidance can run, at most."""
_RUN = "give an image from a run's images folder."


class Record(BaseModel):
    """The record in an image.

    Attributes:
        cell: the cell of the image.
        batch: the cells that were generated together.
        index: the position of the cell in the batch.
        versions: package -> version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    batch: tuple[Cell, ...]
    index: int
    versions: dict[str, str] = {}


def record_of(path: Path | str, text: str, width: int, height: int) -> Record:
    """Read a record.

    Args:
        path: the path of the image, for errors.
        text: the record as JSON.
        width: the width of the image in pixels.
        height: the height of the image in pixels.

    Raises:
        InputError: if it cannot be read, or a part of it contradicts another part or the image.
    """
    try:
        record = Record.model_validate_json(text)
    except (ValidationError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{path}: the cell in it cannot be read; {_RUN}") from error
    if fault := _fault(record, width, height):
        raise InputError(f"{path}: its record cannot be true: {fault}; {_RUN}")
    return record


def check_model(path: Path | str, record: Record, model: ModelFacts) -> None:
    """Check that the model on this machine is the one of a record, and can have generated its batch.

    Args:
        path: the path of the image, for errors.
        record: the record of the image.
        model: facts about the model on this machine.

    Raises:
        InputError: if it is another model, or cannot have generated the batch.
    """
    cell = record.cell
    if model.weights != cell.weights:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items()) or "not recorded"
        raise InputError(
            f"{path}: was drawn with weights {cell.weights[:12]} of {cell.model}, but the ones here are "
            f"{model.weights[:12]}; install the version that drew it ({versions})."
        )
    different = [
        key
        for key in sorted({*cell.sampler_config, *model.sampler_config})
        if cell.sampler_config.get(key) != model.sampler_config.get(key)
    ]
    if different:
        raise InputError(
            f"{path}: was drawn with another scheduler configuration of {cell.model}, {different[0]} "
            f"{cell.sampler_config.get(different[0])!r:.60}, not {model.sampler_config.get(different[0])!r:.60}; bring "
            "the model's scheduler_config.json of then."
        )
    for name, size in (("width", cell.width), ("height", cell.height)):
        if size % model.factor:
            raise InputError(f"{path}: {name} {size} is no multiple of {model.factor}, as {cell.model} draws; {_RUN}")
    most = largest(cell, model.factor)
    if len(record.batch) > most:
        raise InputError(
            f"{path}: its batch has {len(record.batch)} images of {cell.width} x {cell.height}, and a batch has at "
            f"most {most}; {_RUN}"
        )


def _fault(record: Record, width: int, height: int) -> str | None:
    """What contradicts itself in a record, in words; None where everything fits."""
    cell, batch = record.cell, record.batch
    if not 1 <= len(batch) <= MOST:
        return f"a batch has 1 to {MOST} images, and this one has {len(batch)}"
    if not 0 <= record.index < len(batch):
        return f"index {record.index} in a batch of {len(batch)}"
    if batch[record.index] != cell:
        return f"its cell is not number {record.index} of its batch"
    if (cell.width, cell.height) != (width, height):
        return f"its cell has {cell.width} x {cell.height} pixels, and the image {width} x {height}"
    for field in Cell.model_fields:
        if field not in OWN and any(getattr(mate, field) != getattr(cell, field) for mate in batch):
            return f"the images of its batch differ in {field}"
    if len({mate.id for mate in batch}) < len(batch):
        return "its batch has an image twice"
    if len(record.versions) > RECORD_VERSIONS or any(
        len(text) > NAME_CHARACTERS for pair in record.versions.items() for text in pair
    ):
        return f"at most {RECORD_VERSIONS} versions are noted, each in {NAME_CHARACTERS} characters"
    return _shared_fault(cell) or next(filter(None, map(_own_fault, batch)), None) or _guidance_fault(batch)


def _shared_fault(cell: Cell) -> str | None:
    """What cannot be in the fields that a batch shares."""
    samplers = sampler_names(cell.model)
    if not cell.model or len(cell.model) > 4096 or inline(cell.model) != cell.model:
        return f"the model's name {cell.model[:60]!r}"
    if cell.model.startswith(("\\\\", "//")):
        return f"the model {cell.model[:60]!r} is on another machine"
    if not _HASH.fullmatch(cell.weights):
        return f"weights {cell.weights[:60]!r} are no hash"
    if not 1 <= cell.steps <= STEPS:
        return f"steps {cell.steps}, and a run has 1 to {STEPS:,}"
    for name, size in (("width", cell.width), ("height", cell.height)):
        if not 8 <= size <= PIXELS or size % 8:
            return f"{name} {size}, and a size is a multiple of 8 from 8 to {PIXELS:,}"
    if is_mixture(cell.model) and cell.width != cell.height:
        return f"{cell.width} x {cell.height} pixels, and a mixture's image is square"
    if cell.sampler not in samplers and not cell.model.startswith(IN_MEMORY):
        return f"sampler {cell.sampler[:60]!r}, and there are {', '.join(samplers)}"
    if cell.dtype not in DTYPES:
        return f"dtype {cell.dtype[:60]!r}, and there are {', '.join(DTYPES)}"
    if len(cell.negative) > PROMPT_CHARACTERS:
        return f"a negative prompt of {len(cell.negative):,} characters, and it has at most {PROMPT_CHARACTERS:,}"
    return None


def _own_fault(cell: Cell) -> str | None:
    """What cannot be in a cell's own fields."""
    most = largest_seed(cell.model)
    if not 0 <= cell.seed <= most:
        return f"seed {cell.seed}, and a seed is 0 to {most}"
    if not 1 <= cell.best_of <= MOST_CANDIDATES or cell.early < 1 or (cell.best_of > 1 and is_mixture(cell.model)):
        return f"best of {cell.best_of} by {cell.early} steps, and there are 1 to {MOST_CANDIDATES} candidates"
    if len(cell.prompt) > PROMPT_CHARACTERS:
        return f"a prompt of {len(cell.prompt):,} characters, and it has at most {PROMPT_CHARACTERS:,}"
    return None


def _guidance_fault(batch: Sequence[Cell]) -> str | None:
    """Whether a guidance of the batch cannot run so many steps: all are tried, or evenly through them where they are
    very many."""
    count = batch[0].steps
    run = steps(count, [14.6 * (0.03 / 14.6) ** (index / max(1, count - 1)) for index in range(count)])
    guidances = list(dict.fromkeys(cell.guidance for cell in batch))
    tried = run[:: -(-count * len(guidances) // _TRIED)]
    for guidance in guidances:
        try:
            for step in tried:
                guidance.schedule(step)
        except (InputError, ArithmeticError) as error:
            return f"its guidance cannot run {count} steps ({str(error).rstrip('.')})"
    return None
