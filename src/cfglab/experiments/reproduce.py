"""Draw a picture again from what is recorded in it: the same batch, and so the same pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.cell import model_facts
from cfglab.experiments.files import write_whole
from cfglab.experiments.laboratory import Laboratory, is_mixture
from cfglab.experiments.picture import Record, encode, read_pixels, read_record, to_bytes
from cfglab.experiments.versions import versions

if TYPE_CHECKING:
    from cfglab.experiments.draw import Drawn


@dataclass(frozen=True)
class Reproduction:
    """The copy, and the largest difference of any of its bytes from the picture: 0 where it is the same.

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
        return "\n".join(
            (f"{self.path}: {same}, torch seed {self.torch_seed}", *(f"note: {note}" for note in self.notes))
        )


def reproduce(image: Path | str, out: Path | str, device: str = "auto", *, allow_pickle: bool = False) -> Reproduction:
    """Replay the batch recorded in a picture of a run and write its picture to `out`.

    `notes` says which versions differ from the recorded ones, in which case pixels may differ too. Raises InputError
    for a picture without a record and for a model whose weights are not the recorded ones, MachineError when `out`
    cannot be written.
    """
    record, before = read_record(image), read_pixels(image)
    pixels = to_bytes(replay(image, record, device, allow_pickle=allow_pickle).pixels)
    now = versions()
    write_whole(Path(out), encode(pixels, record.batch, now)[record.index])
    after = pixels[record.index].astype(np.int16)
    notes = tuple(
        f"{name}: {then} then, {now.get(name, 'none')} now"
        for name, then in record.versions.items()
        if now.get(name) != then
    )
    return Reproduction(Path(out), int(np.abs(after - before).max()), notes, record.cell.seed)


def replay(image: Path | str, record: Record, device: str = "auto", *, allow_pickle: bool = False) -> "Drawn":
    """Draw the batch of a picture's record again. Raises InputError where the model here is not the recorded one."""
    from cfglab.experiments.draw import draw
    from cfglab.pipelines import load

    cell = record.cell
    hub: dict[str, Any] = {"allow_pickle": allow_pickle}
    if "/" in cell.model and len(cell.weights) == 40 and not Path(cell.model).exists():
        hub["revision"] = cell.weights  # what identifies the weights of a hub model is its commit
    model = model_facts(cell.model, **hub)
    if model.weights != cell.weights:
        raise InputError(
            f"{image}: was drawn with weights {cell.weights[:12]} of {cell.model}, but the ones here are "
            f"{model.weights[:12]}; install the version that drew it ({_listed(record.versions)})."
        )
    if is_mixture(cell.model):
        return draw(Laboratory(cell.model), record.batch)
    pipe = load(cell.model, device=device, dtype=cell.dtype, sampler=cell.sampler, compiled=cell.compile, **hub)
    pipe.set_progress_bar_config(disable=True)
    return draw(pipe, record.batch)


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
