"""Make checkpoints of the package's weights, so that training goes on from them where no checkpoint is left.

python -m training.unpack
python -m training denoiser --steps 12000      # for example

Nothing that exists is written over. The heads that name cells did not ship; they begin anew.
"""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from training.__main__ import make
from training.common import checkpoint, log, save, work
from training.export import STEPS, WEIGHTS, read_steps


def _read(place: Path) -> dict[str, Tensor]:
    """The weights of a file, or of a folder with one file, in float32."""
    (file,) = place.glob("*.safetensors") if place.is_dir() else (place,)
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(file).items()}


def text_state(folder: Path) -> dict[str, Tensor]:
    """Versions of transformers differ in whether the names begin with `text_model.`."""
    return {f"text.text_model.{key.removeprefix('text_model.')}": value for key, value in _read(folder).items()}


def states(weights: Path) -> dict[str, dict[str, Tensor]]:
    """Stage -> the weights that the package has of it."""
    text = text_state(weights / "scenes/text_encoder")
    found: dict[str, dict[str, Tensor]] = {"autoencoder": _read(weights / "scenes/vae")}
    for stage, folder in (("denoiser", weights / "scenes/unet"), ("denoiser-twin", weights / "twin")):
        unet = {f"unet.{key}": value for key, value in _read(folder).items()}
        found[stage] = make(stage).state_dict() | text | unet
    for number in (1, 2):
        file = weights / f"classifiers/classifier{number}.safetensors"
        found[f"classifier{number}"] = _read(file)
    return found


def main(weights: Path = WEIGHTS) -> None:
    steps, found = read_steps(weights / STEPS), states(weights)
    files = {f"{stage}.pt": checkpoint(state, steps[stage], 0.0, True) for stage, state in found.items()}
    files["vae.pt"] = {"model": found["autoencoder"]}
    for name, content in files.items():
        if not (work() / name).exists():
            save(work() / name, content)
            log("build.log", unpacked=name)


if __name__ == "__main__":
    main()
