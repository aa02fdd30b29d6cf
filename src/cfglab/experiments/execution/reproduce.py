"""Generate an image again from the record in its file: the same batch, and so the same pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfglab.errors import CfglabError, DownloadNeeded, InputError, MachineError, is_memory_error
from cfglab.experiments.backends.base import Backend, BatchResult
from cfglab.experiments.backends.load import load_backend
from cfglab.experiments.execution.versions import versions
from cfglab.experiments.spec.models import model_facts
from cfglab.experiments.spec.starting_noise import candidate_seed
from cfglab.experiments.storage.database import DATABASE
from cfglab.experiments.storage.files import check_target, write_whole
from cfglab.experiments.storage.png import add_infotext, encode, has_infotext, read_picture, read_record, to_bytes
from cfglab.experiments.storage.record import Record, check_model
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import CellTrace, stored_traces
from cfglab.file_input import given_path
from cfglab.terminal import inline


@dataclass(frozen=True)
class Reproduction:
    """A copy of an image that was generated again.

    Attributes:
        path: the path of the copy.
        largest_difference: the largest difference of a byte from the image, 0 to 255; 0 if all pixels are the same.
        notes: the versions that differ from the recorded ones, one line each.
        torch_seed: the seed n of `torch.Generator("cpu").manual_seed(n)` for the starting noise.
    """

    path: Path
    largest_difference: int
    notes: tuple[str, ...]
    torch_seed: int

    @property
    def identical(self) -> bool:
        """Whether every pixel is the same."""
        return self.largest_difference == 0

    def __str__(self) -> str:
        same = "the same pixels" if self.identical else f"pixels that differ by up to {self.largest_difference} of 255"
        lines = (f"{self.path}: {same}, torch seed {self.torch_seed}", *(f"note: {note}" for note in self.notes))
        return "\n".join(map(inline, lines))


def reproduce(
    image: Path | str,
    out: Path | str,
    device: str = "auto",
    *,
    allow_pickle: bool = False,
    allow_download: bool = False,
) -> Reproduction:
    """Generate an image of a run again from the record in its file, and write it to `out`.

    The whole recorded batch is generated. This starts only after the record, the image and the model agree; the file
    is written only after the batch is complete.

    Args:
        image: the path of an image of a run.
        out: the path of the new image.
        device: a torch device, or "auto".
        allow_pickle: accept pickled weights.
        allow_download: allow the download of a hub model.

    Returns:
        A Reproduction. Its `notes` list the versions that differ from the recorded ones; pixels may differ then.

    Raises:
        InputError: if the image has no record or an invalid one, the weights differ from the recorded ones, the hub
            model is not on this machine, or `out` cannot hold the file.
        MachineError: if `out` cannot be written or the model fails.

    Examples:
        result = reproduce(image_path, "again.png", device="cpu")
        print(result.notes)
    """
    image, out = given_path(image), given_path(out)
    record, before = read_picture(image)
    _check_target(out, image)
    result = replay(image, record, device, allow_pickle=allow_pickle, allow_download=allow_download)
    pixels = to_bytes(result.pixels)
    seed = candidate_seed(record.cell.seed, result.candidates[record.index] if result.candidates else 0)
    present = versions()
    file = encode(pixels, record.batch, present)[record.index]
    write_whole(out, add_infotext(file, record.cell, seed) if has_infotext(image) else file)
    after = pixels[record.index].astype(np.int16)
    notes = tuple(
        f"{name}: {recorded} then, {present.get(name, 'none')} now"
        for name, recorded in record.versions.items()
        if present.get(name) != recorded
    )
    return Reproduction(out, int(np.abs(after - before).max()), notes, seed)


def trace_of(
    image: Path | str, device: str = "auto", *, allow_pickle: bool = False, allow_download: bool = False
) -> CellTrace:
    """Return the trace of an image of a run: the stored one, or else that of its batch generated again.

    Args:
        image: the path of an image of a run.
        device: a torch device, or "auto".
        allow_pickle: accept pickled weights.
        allow_download: allow the download of a hub model.

    Returns:
        The CellTrace.

    Raises:
        InputError: if the image has no record or an invalid one, or as `reproduce` if the batch is generated again.
        MachineError: if the model fails.
    """
    record = read_record(image)
    for folder in Path(image).resolve().parents[1:2]:
        if (folder / DATABASE).is_file():
            with Store.open(folder) as store:
                stored = stored_traces(store, [record.cell.id]).get(record.cell.id)
            if stored:
                return CellTrace.decode(stored)
    result = replay(image, record, device, allow_pickle=allow_pickle, allow_download=allow_download)
    return CellTrace.decode(result.traces[record.index])


def replay(
    image: Path | str,
    record: Record,
    device: str = "auto",
    *,
    allow_pickle: bool = False,
    allow_download: bool = False,
) -> BatchResult:
    """Generate the batch of an image's record again.

    Args:
        image: the path of the image, for errors.
        record: the record of the image.
        device: a torch device, or "auto".
        allow_pickle: accept pickled weights.
        allow_download: allow the download of a hub model.

    Returns:
        The images of the batch, in the order of the record.

    Raises:
        InputError: if the model on this machine is not the recorded one, or the image is not finite.
        MachineError: if the model fails.
    """
    cell = record.cell
    hub: dict[str, Any] = {"allow_pickle": allow_pickle, "allow_download": allow_download}
    if "/" in cell.model and len(cell.weights) == 40 and not Path(cell.model).expanduser().exists():
        hub["revision"] = cell.weights  # the weights of a hub model are identified by its commit
    try:
        model = model_facts(cell.model, **hub)
    except InputError as error:
        kind = DownloadNeeded if isinstance(error, DownloadNeeded) else InputError
        raise kind(f"{image}: {error}") from error
    check_model(image, record, model)
    backend = load_backend(
        cell.model, device=device, dtype=cell.dtype, sampler=cell.sampler, compiled=cell.compile, **hub
    )
    backend.check_prompts(dict.fromkeys(batch_cell.prompt for batch_cell in record.batch), cell.negative)
    return _generated(image, backend, record)


def _generated(image: Path | str, backend: Backend, record: Record) -> BatchResult:
    """The recorded batch, checked to be of the recorded shape and finite. A failure of the model is an error here, not
    an outcome as in a run."""
    try:
        result = backend.generate(record.batch)
    except CfglabError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise MachineError(f"{image}: memory is too small to draw its batch; free some and run again.") from error
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
        raise MachineError(
            f"{image}: the model fails when it is drawn here ({reason:.200}); bring the model and the "
            "versions that drew it."
        ) from error
    shape = (len(record.batch), 3, record.cell.height, record.cell.width)
    if result.pixels.shape != shape:
        raise InputError(
            f"{image}: the model here draws {result.pixels.shape}, not the recorded {shape}; bring the model that drew "
            "it."
        )
    if not np.isfinite(result.pixels[record.index]).all():
        raise InputError(f"{image}: is not finite when it is drawn here; use another --device.")
    return result


def _check_target(out: Path, image: Path) -> None:
    """Raise InputError if no copy can be written at `out`, before anything is generated."""
    if out.exists() and out.samefile(image):
        raise InputError(f"{out}: is the image itself, which stays as it is; choose another --out.")
    check_target(out)
