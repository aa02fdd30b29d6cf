"""Draw an image again from what is recorded in it: the same batch, and so the same pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfglab.errors import CfglabError, DownloadNeeded, InputError, MachineError, is_memory_error
from cfglab.experiments.backends.mixture import Laboratory, is_mixture
from cfglab.experiments.execution.versions import versions
from cfglab.experiments.spec.cell import model_facts
from cfglab.experiments.storage.files import check_target, write_whole
from cfglab.experiments.storage.png import add_infotext, encode, has_infotext, read_picture, to_bytes
from cfglab.experiments.storage.record import Record, check_model
from cfglab.terminal import inline

if TYPE_CHECKING:
    from cfglab.experiments.backends.pipeline import BatchResult


@dataclass(frozen=True)
class Reproduction:
    """The copy, and the largest difference of any of its bytes from the image: 0 where it is the same.

    `torch_seed` is the plain seed of its starting noise, `torch.Generator("cpu").manual_seed(torch_seed)`.
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
    record, before = read_picture(image)
    out = Path(out)
    _check_target(out, Path(image))
    pixels = to_bytes(replay(image, record, device, allow_pickle=allow_pickle, allow_download=allow_download).pixels)
    now = versions()
    file = encode(pixels, record.batch, now)[record.index]
    write_whole(out, add_infotext(file, record.cell) if has_infotext(image) else file)
    after = pixels[record.index].astype(np.int16)
    notes = tuple(
        f"{name}: {then} then, {now.get(name, 'none')} now"
        for name, then in record.versions.items()
        if now.get(name) != then
    )
    return Reproduction(out, int(np.abs(after - before).max()), notes, record.cell.seed)


def replay(
    image: Path | str,
    record: Record,
    device: str = "auto",
    *,
    allow_pickle: bool = False,
    allow_download: bool = False,
) -> "BatchResult":
    """Draw the batch of an image's record again. Raises InputError where the model here is not the recorded one."""
    from cfglab.pipelines import check_prompt, load

    cell = record.cell
    hub: dict[str, Any] = {"allow_pickle": allow_pickle, "allow_download": allow_download}
    if "/" in cell.model and len(cell.weights) == 40 and not Path(cell.model).expanduser().exists():
        hub["revision"] = cell.weights  # what identifies the weights of a hub model is its commit
    try:
        model = model_facts(cell.model, **hub)
    except InputError as error:
        kind = DownloadNeeded if isinstance(error, DownloadNeeded) else InputError
        raise kind(f"{image}: {error}") from error
    check_model(image, record, model)
    if is_mixture(cell.model):
        mixture = Laboratory(cell.model)
        for text in {text for one in record.batch for text in (one.prompt, one.negative or one.prompt)}:
            mixture.label(text)
        return _drawn(image, mixture, record)
    pipe = load(cell.model, device=device, dtype=cell.dtype, sampler=cell.sampler, compiled=cell.compile, **hub)
    pipe.set_progress_bar_config(disable=True)
    for prompt in {one.prompt for one in record.batch}:
        check_prompt(pipe, prompt)
    check_prompt(pipe, cell.negative, "negative prompt")
    return _drawn(image, pipe, record)


def _drawn(image: Path | str, model: Any, record: Record) -> "BatchResult":
    """What the model draws, where it is of the recorded shape and finite. Raises InputError, and MachineError where the
    model fails, of which a run would say that the image failed."""
    from cfglab.experiments.backends.pipeline import draw

    try:
        drawn = draw(model, record.batch)
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
    if drawn.pixels.shape != shape:
        raise InputError(
            f"{image}: the model here draws {drawn.pixels.shape}, not the recorded {shape}; bring the model that drew "
            "it."
        )
    if not np.isfinite(drawn.pixels[record.index]).all():
        raise InputError(f"{image}: is not finite when it is drawn here; use another --device.")
    return drawn


def _check_target(out: Path, image: Path) -> None:
    """Raise InputError where a copy cannot stand at `out`: said before anything is drawn."""
    if out.exists() and out.samefile(image):
        raise InputError(f"{out}: is the image itself, which stays as it is; choose another --out.")
    check_target(out)
