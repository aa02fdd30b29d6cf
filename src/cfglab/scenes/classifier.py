"""The classifiers of `scenes`: small networks that predict what an image shows, and whether every object is whole.

Two classifiers ship, with different architectures and training seeds. Results are reported with classifier 2; choices
are made with classifier 1, so that nothing is tuned to the errors of the one that reports. Both were also trained on
damaged scenes, where a part of an object is missing, doubled or melted.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cfglab.errors import InputError
from cfglab.scenes import classifier_file
from cfglab.scenes.classifier_network import FEATURES, PARTS, Network, labels_of
from cfglab.scenes.vocabulary import SIZE, SceneLabels

CHUNK = 16  # images; more are no faster


class SceneClassifier:
    """A trained classifier of scenes.

    Args:
        network: The network; it is switched to evaluation mode.

    Examples:
        >>> import torch
        >>> from cfglab.scenes.classifier import SceneClassifier
        >>> SceneClassifier.load(1).classify(torch.zeros(1, 3, 128, 128))[0].a is None
        True
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
        path, network = classifier_file(number), Network(number)
        try:
            state = load_file(path)
            network.load_state_dict({key: v.float() if v.is_floating_point() else v for key, v in state.items()})
        except FileNotFoundError as error:
            raise InputError(
                f"{path.name}: the classifier's weights are not in this installation; reinstall cfglab, or train them "
                f"with `python -m training classifier{number}`"
            ) from error
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path.name}: the classifier's weights are damaged ({_first_line(error)}); reinstall cfglab"
            ) from error
        return cls(network)

    def classify(self, pixels: Tensor | np.ndarray) -> list[SceneLabels]:
        """Predict the content of images.

        Args:
            pixels: (n, 3, 128, 128), floating, in [-1, 1]; values outside are clamped, as when an image is saved.

        Returns:
            The labels of each image; those of nothing for an image that holds NaN or infinity.

        Raises:
            InputError: `pixels` has another shape or dtype.
        """
        return self.read(pixels)[1]

    def features(self, pixels: Tensor | np.ndarray) -> np.ndarray:
        """The features of images: the layer before the heads.

        Args:
            pixels: (n, 3, 128, 128), floating, in [-1, 1].

        Returns:
            (n, 128), float32.

        Raises:
            InputError: `pixels` has another shape or dtype.
        """
        return self.read(pixels)[0]

    def read(self, pixels: Tensor | np.ndarray) -> tuple[np.ndarray, list[SceneLabels]]:
        """Features and labels of images, in one pass of the network.

        Args:
            pixels: (n, 3, 128, 128), floating, in [-1, 1].

        Returns:
            What `features` and `classify` return.

        Raises:
            InputError: `pixels` has another shape or dtype.
        """
        rows = [np.empty((0, FEATURES), np.float32)]
        labels: list[SceneLabels] = []
        for chunk, count in self._chunks(pixels):
            usable = chunk.isfinite().flatten(1).all(1)
            features, logits, _ = self.network.read(chunk.nan_to_num())
            rows.append(features.numpy()[:count])
            columns = {part: (logits[part].argmax(1) * usable).tolist() for part in PARTS}
            labels += [labels_of({part: columns[part][i] for part in PARTS}) for i in range(count)]
        return np.concatenate(rows), labels

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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
