"""Make checkpoints of the package's weights, so that training goes on from them where no checkpoint is left.

python -m training.unpack
python -m training denoiser --steps 12000      # for example

Nothing that exists is written over. The heads that name cells did not ship; they begin anew.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from cfglab.scenes.classifier_network import Network
from training.__main__ import make
from training.common import PowerAverages, log, save, work
from training.export import STEPS, WEIGHTS, read_steps


def _read(folder: Path) -> dict[str, Tensor]:
    (file,) = sorted(folder.glob("*.safetensors"))
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
        found[f"classifier{number}"] = Network(number).state_dict() | load_file(file)
    return found


def main(weights: Path = WEIGHTS) -> None:
    steps = read_steps(weights / STEPS)
    for stage, state in states(weights).items():
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        averages = [{key: value.clone() for key, value in state.items()} for _ in PowerAverages.SIGMAS]
        checkpoint: dict[str, Any] = {"model": state, "averages": averages, "first": 0, "minutes": 0.0, "done": True}
        for path, content in (
            (work() / f"{stage}.pt", checkpoint | {"step": steps[stage]}),
            *([(work() / "vae.pt", {"model": state})] if stage == "autoencoder" else []),
        ):
            if not path.exists():
                save(path, content)
                log("build.log", unpacked=path.name, step=steps[stage])


if __name__ == "__main__":
    main()
