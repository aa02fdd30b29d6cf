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


def text_state(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights of a text encoder as the part `name`.

    Versions of transformers differ in whether the names begin with `text_model.`.
    """
    state = {key.removeprefix("text_model."): value for key, value in _read(folder).items()}
    return {
        f"{name}.{key}" if key.startswith("text_projection") else f"{name}.text_model.{key}": value
        for key, value in state.items()
    }


def _network(stage: str, folder: Path, text: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of a stage: its text encoders, and the network in `folder` as the part `name`."""
    return make(stage).state_dict() | text | {f"{name}.{key}": value for key, value in _read(folder).items()}


def states() -> dict[str, dict[str, Tensor]]:
    """Stage -> the weights that the packages have of it."""
    scenes, flow = WEIGHTS
    found: dict[str, dict[str, Tensor]] = {"autoencoder": _read(scenes / "scenes/vae")}
    text = text_state(scenes / "scenes/text_encoder", "text")
    found["denoiser"] = _network("denoiser", scenes / "scenes/unet", text, "unet")
    found["denoiser-twin"] = _network("denoiser-twin", scenes / "scenes-twin", text, "unet")
    texts = text_state(flow / "scenes-flow/text_encoder", "text") | text_state(
        flow / "scenes-flow/text_encoder_2", "text_2"
    )
    found["flow"] = _network("flow", flow / "scenes-flow/transformer", texts, "transformer")
    found["flow-twin"] = _network("flow-twin", flow / "scenes-flow-twin", texts, "transformer")
    for number in (1, 2):
        found[f"classifier{number}"] = _read(scenes / f"classifiers/classifier{number}.safetensors")
    return found


def main() -> None:
    steps: dict[str, int] = {}
    for weights in WEIGHTS:
        steps |= read_steps(weights / STEPS)
    found = states()
    files = {f"{stage}.pt": checkpoint(state, steps[stage], 0.0, True) for stage, state in found.items()}
    files["vae.pt"] = {"model": found["autoencoder"]}
    for name, content in files.items():
        if not (work() / name).exists():
            save(work() / name, content)
            log("build.log", unpacked=name)


if __name__ == "__main__":
    main()
