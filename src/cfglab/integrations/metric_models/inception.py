"""Features of the Inception network of the original FID (1706.08500), as torch-fidelity has ported it."""

from typing import Any

import numpy as np

from cfglab.errors import InputError
from cfglab.integrations.metric_models.weights import load_weights, tensors_only

LAYER = "2048"  # the last pooling


class Inception:
    """torch-fidelity's extractor; its weights are a file that it downloads once."""

    metrics = ("kid_inception", "fid_inception")

    def __init__(self, weights: str | None, device: str) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise InputError(
                f"{self.metrics[1]} needs torch-fidelity, which cannot be imported ({error}); "
                "pip install 'cfglab[metrics]'"
            ) from error

        def load() -> Any:
            with tensors_only():
                return FeatureExtractorInceptionV3("inception", [LAYER], feature_extractor_weights_path=weights)

        self._model = load_weights(self.metrics[1], weights or "of torch-fidelity", load).eval().to(device)
        self._device = device
        self.key = f"inception|{weights or 'torch-fidelity'}"

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """The features of images.

        Args:
            pixels: (n, h, w, 3), uint8.

        Returns:
            (n, 2048), float32.
        """
        import torch

        with torch.inference_mode():
            outputs = self._model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).to(self._device))
        return outputs[0].float().cpu().numpy()
