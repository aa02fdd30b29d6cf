"""The judge of `scenes`: a small network that reads objects, relation and background back from an image.

Two readers ship, of different architecture and training seed: numbers are reported with one, so that nothing is
tuned to the other's blind spots. Both were also shown spoiled images, whose spoiled part is read as None.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cfglab.errors import InputError
from cfglab.scenes.renderer import SIZE
from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS, RELATIONS

FEATURES = 64
CHUNK = 16  # images; more are no faster
PARTS: dict[str, tuple[str, ...]] = {
    "a": OBJECTS,
    "relation": RELATIONS,
    "b": OBJECTS,
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True, slots=True)
class SceneLabels:
    """What an image shows; None is "none of these".

    In `next to`, `a` is the object on the left. There is a relation only where both its objects were read.
    """

    a: str | None
    relation: str | None
    b: str | None
    background: str | None


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class GridNetwork(nn.Module):
    """Classifier 1: strided convolutions down to a coarse 4×4 map, whose cells are all seen by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, 24, 5, 2), _conv(24, 48, 3, 2), _conv(48, 80, 3, 2), _conv(80, 80), _conv(80, 128, 3, 2)
        )
        self.features = nn.Linear(128 * 16, FEATURES)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features(self.body(pixels).flatten(1))


class AttentionNetwork(nn.Module):
    """Classifier 2: patches with coordinates, a residual block, and eight learned queries that pool an 8×8 map."""

    def __init__(self, width: int = 72, questions: int = 8) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, SIZE)
        self.register_buffer("where", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None], persistent=False)
        self.stem = nn.Sequential(_conv(5, 40, 4, 4), _conv(40, 56), _conv(56, width, 3, 2))
        last = (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.block = nn.Sequential(_conv(width, width), *last)
        self.questions = nn.Conv2d(width, questions, 1)
        self.values = nn.Conv2d(width + 2, width, 1)
        self.features = nn.Linear(width * questions, FEATURES)

    def forward(self, pixels: Tensor) -> Tensor:
        where: Tensor = self.get_buffer("where").expand(len(pixels), -1, -1, -1)
        x = self.stem(torch.cat([pixels, where], 1))
        x = torch.relu(x + self.block(x))
        attention = self.questions(x).flatten(2).softmax(-1)
        coarse = nn.functional.avg_pool2d(where, SIZE // x.shape[-1])
        values = self.values(torch.cat([x, coarse], 1)).flatten(2)
        return self.features((attention @ values.transpose(1, 2)).flatten(1))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {"grid": GridNetwork, "attentive": AttentionNetwork}


class Network(nn.Module):
    """A body that gives 64 features, and one linear head for each part; class 0 of a head is "none of these"."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture = architecture
        self.body = ARCHITECTURES[architecture]()
        self.heads = nn.ModuleDict({part: nn.Linear(FEATURES, 1 + len(names)) for part, names in PARTS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.body(pixels)
        return {part: head(features) for part, head in self.heads.items()}


class SceneClassifier:
    """A trained network, for images of 64×64 in [-1, 1] (values outside are clamped, as when an image is saved)."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, which: Literal[1, 2] = 1) -> "SceneClassifier":
        """Classifier 1 or 2 of the package. Raises InputError when its weights are missing or damaged."""
        if which not in (1, 2):
            raise InputError(f"reader {which!r}: there are two readers; ask for 1 or 2")
        name = f"reader{which}.safetensors"
        try:
            with (
                as_file(files("cfglab.scenes") / "weights" / "readers" / name) as path,
                safe_open(path, framework="pt") as file,
            ):
                network = Network(json.loads(file.metadata()["config"])["architecture"])
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            network.load_state_dict(
                {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{name}: the reader's weights are not in this installation; reinstall cfglab, or train them with "
                f"`python -m training.reader --which {which}`"
            ) from error
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name}: the reader's weights are damaged ({_first_line(error)}); reinstall cfglab"
            ) from error
        return cls(network)

    def read(self, pixels: Tensor | np.ndarray) -> list[SceneLabels]:
        """Images float `(n, 3, 64, 64)` in [-1, 1] to n readings. One that holds NaN or infinity shows nothing."""
        readings = []
        for chunk, count in self._chunks(pixels):
            usable = chunk.isfinite().flatten(1).all(1)
            logits = self.network(chunk.nan_to_num())
            found = {part: logits[part].argmax(1) * usable for part in PARTS}
            found["relation"] *= (found["a"] > 0) & (found["b"] > 0)
            classes = torch.stack([found[part] for part in PARTS], 1).tolist()
            readings += [
                SceneLabels(*(_name(part, i) for part, i in zip(PARTS, row, strict=True))) for row in classes[:count]
            ]
        return readings

    def features(self, pixels: Tensor | np.ndarray) -> np.ndarray:
        """Images float `(n, 3, 64, 64)` in [-1, 1] to float32 `(n, 64)`: the layer before the heads."""
        rows = [self.network.body(chunk.nan_to_num()).numpy()[:count] for chunk, count in self._chunks(pixels)]
        return np.concatenate([np.empty((0, FEATURES), np.float32), *rows])

    @staticmethod
    def _chunks(pixels: Tensor | np.ndarray) -> Iterator[tuple[Tensor, int]]:
        """CHUNK images and how many of them count: a batch of always the same size, so that what is seen in an image
        does not depend, not in its last bit, on which others were looked at with it."""
        tensor = torch.as_tensor(pixels)
        if tensor.ndim != 4 or tensor.shape[1:] != (3, SIZE, SIZE) or not tensor.is_floating_point():
            raise InputError(
                f"images of shape {tuple(tensor.shape)}, {tensor.dtype}: the reader takes floats (n, 3, {SIZE}, "
                f"{SIZE}) in [-1, 1]; resize them or convert bytes with x / 127.5 - 1"
            )
        for start in range(0, len(tensor), CHUNK):
            chunk = tensor[start : start + CHUNK].detach().cpu().float().clamp(-1, 1)
            padding = torch.zeros(CHUNK - len(chunk), 3, SIZE, SIZE)
            yield torch.cat([chunk, padding]), len(chunk)


def _name(part: str, number: int) -> str | None:
    return PARTS[part][number - 1] if number else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
