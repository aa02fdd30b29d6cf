"""Carry trained weights from one machine to another in small files: averaged, float16, at most 15 MiB each.

python -m training.pack FOLDER autoencoder denoiser      # there
python -m training.pack FOLDER --unpack                  # here: checkpoints that every later stage takes
"""

import argparse
import io
from pathlib import Path
from typing import Any

import torch

from training.common import checkpoint, load, need, save, work
from training.posthoc import average

PIECE = 15 * 2**20
SIGMA = 0.08


def packed(name: str) -> dict[str, Any]:
    """The averaged weights of a run and how far it went; with the autoencoder its frozen form, if there is one."""
    state = need(f"{name}.pt", name)
    weights = {key: value.half().cpu() for key, value in average(name, SIGMA).items()}
    small = {"weights": weights, "step": state["step"], "minutes": state["minutes"], "done": state["done"]}
    frozen = load(work() / "vae.pt") if name == "autoencoder" else None
    return small | ({"vae": {key: value.half() for key, value in frozen["model"].items()}} if frozen else {})


def pack(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        buffer = io.BytesIO()
        torch.save(packed(name), buffer)
        data = buffer.getvalue()
        for i, start in enumerate(range(0, len(data), PIECE)):
            (folder / f"{name}.{i:02d}").write_bytes(data[start : start + PIECE])


def unpack(folder: Path) -> None:
    """Write checkpoints without the optimizer's state; a run that goes on from one starts its optimizer anew."""
    for first in sorted(folder.glob("*.00")):
        pieces = sorted(folder.glob(f"{first.stem}.[0-9][0-9]"))
        data = b"".join(piece.read_bytes() for piece in pieces)
        small = torch.load(io.BytesIO(data), weights_only=True)
        weights = {key: value.float() for key, value in small["weights"].items()}
        save(work() / f"{first.stem}.pt", checkpoint(weights, small["step"], small["minutes"], small["done"]))
        if "vae" in small:
            save(work() / "vae.pt", {"model": {key: value.float() for key, value in small["vae"].items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="runs, such as `denoiser`")
    parser.add_argument("--unpack", action="store_true")
    chosen = parser.parse_args()
    if chosen.unpack:
        unpack(chosen.folder)
    else:
        pack(chosen.folder, chosen.names)


if __name__ == "__main__":
    main()
