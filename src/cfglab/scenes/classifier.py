"""The classifiers of `scenes`: small networks that predict the objects, relation and background of an image.

Two classifiers ship, with different architectures and training seeds. Results are reported with classifier 2; choices
are made with classifier 1, so that nothing is tuned to the errors of the one that reports. Both were also trained on
defective images, whose defective part is labelled None.
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
    """The predicted content of an image; None means "none of these".

    Attributes:
        a: The first object, one of OBJECTS; the left one for the relation `next to`.
        relation: One of RELATIONS; None unless both objects are recognized.
        b: The second object, one of OBJECTS.
        background: One of BACKGROUNDS.
    """

    a: str | None
    relation: str | None
    b: str | None
    background: str | None


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class GridNetwork(nn.Module):
    """Classifier 1: strided convolutions down to a coarse 4×4 map, whose cells go into one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(3, 24, 5, 2),
            _convolution(24, 48, 3, 2),
            _convolution(48, 80, 3, 2),
            _convolution(80, 80),
            _convolution(80, 128, 3, 2),
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
        self.stem = nn.Sequential(_convolution(5, 40, 4, 4), _convolution(40, 56), _convolution(56, width, 3, 2))
        second_convolution = (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.block = nn.Sequential(_convolution(width, width), *second_convolution)
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
    """A body with 64 features, and one linear head for each part; class 0 of a head is "none of these"."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture = architecture
        self.body = ARCHITECTURES[architecture]()
        self.heads = nn.ModuleDict({part: nn.Linear(FEATURES, 1 + len(names)) for part, names in PARTS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.body(pixels)
        return {part: head(features) for part, head in self.heads.items()}


class SceneClassifier:
    """A trained classifier of scenes.

    Args:
        network: The network; it is switched to evaluation mode.

    Examples:
        >>> import torch
        >>> from cfglab.scenes.classifier import SceneClassifier
        >>> SceneClassifier.load(1).classify(torch.zeros(1, 3, 64, 64))
        [SceneLabels(a=None, relation=None, b=None, background=None)]
    """

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, number: Literal[1, 2] = 1) -> "SceneClassifier":
        """Load a classifier of the package.

        Args:
            number: 1 or 2.

        Returns:
            The classifier.

        Raises:
            InputError: There is no such classifier, or its weights are missing or damaged.
        """
        if number not in (1, 2):
            raise InputError(f"classifier {number!r}: there are two classifiers; give 1 or 2.")
        name = f"reader{number}.safetensors"
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
                f"{name}: the classifier's weights are not in this installation; reinstall cfglab, or train them with "
                f"`python -m training.reader --which {number}`"
            ) from error
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name}: the classifier's weights are damaged ({_first_line(error)}); reinstall cfglab"
            ) from error
        return cls(network)

    def classify(self, pixels: Tensor | np.ndarray) -> list[SceneLabels]:
        """Predict the content of images.

        Args:
            pixels: (n, 3, 64, 64), floating, in [-1, 1]; values outside are clamped, as when an image is saved.

        Returns:
            The labels of each image; all None for an image that holds NaN or infinity.

        Raises:
            InputError: `pixels` has another shape or dtype.
        """
        labels = []
        for chunk, count in self._chunks(pixels):
            usable = chunk.isfinite().flatten(1).all(1)
            logits = self.network(chunk.nan_to_num())
            classes_of = {part: logits[part].argmax(1) * usable for part in PARTS}
            classes_of["relation"] *= (classes_of["a"] > 0) & (classes_of["b"] > 0)
            classes = torch.stack([classes_of[part] for part in PARTS], 1).tolist()
            labels += [
                SceneLabels(*(_name(part, i) for part, i in zip(PARTS, row, strict=True))) for row in classes[:count]
            ]
        return labels

    def features(self, pixels: Tensor | np.ndarray) -> np.ndarray:
        """The features of images: the layer before the heads.

        Args:
            pixels: (n, 3, 64, 64), floating, in [-1, 1].

        Returns:
            (n, 64), float32.

        Raises:
            InputError: `pixels` has another shape or dtype.
        """
        rows = [self.network.body(chunk.nan_to_num()).numpy()[:count] for chunk, count in self._chunks(pixels)]
        return np.concatenate([np.empty((0, FEATURES), np.float32), *rows])

    @staticmethod
    def _chunks(pixels: Tensor | np.ndarray) -> Iterator[tuple[Tensor, int]]:
        """Batches of CHUNK images, the last one padded, and the number of images in each.

        All batches have one size, so that the result for an image does not depend on the batch, bit for bit.
        """
        tensor = torch.as_tensor(pixels)
        if tensor.ndim != 4 or tensor.shape[1:] != (3, SIZE, SIZE) or not tensor.is_floating_point():
            raise InputError(
                f"images of shape {tuple(tensor.shape)}, {tensor.dtype}: the classifier takes floats (n, 3, {SIZE}, "
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
