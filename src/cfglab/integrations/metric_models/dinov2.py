"""Features of DINOv2 (2304.07193), in which distances to real images agree best with people (2306.04675)."""

from typing import Any

import numpy as np

from cfglab.integrations.metric_models.weights import identity, load_weights


class DinoV2:
    """The class token of the last layer, normalised by the network's own final layer norm."""

    metrics = ("kid_dinov2", "fd_dinov2")
    model_id = "facebook/dinov2-large"

    def __init__(self, weights: str | None, device: str) -> None:
        from transformers import AutoImageProcessor, Dinov2Model

        model_id = weights or self.model_id

        def load() -> tuple[Any, Any]:
            return Dinov2Model.from_pretrained(model_id), AutoImageProcessor.from_pretrained(model_id)

        self._model, self._image = load_weights(self.metrics[0], model_id, load)
        self._model.eval().to(device)
        self.key = identity("dinov2", model_id, self._model)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """The features of images.

        Args:
            pixels: (n, h, w, 3), uint8.

        Returns:
            (n, d), float32; d is 1024 for the large model.
        """
        import torch

        images = self._image(images=list(pixels), return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(pixel_values=images["pixel_values"].to(self._model.device))
        return outputs.last_hidden_state[:, 0].float().cpu().numpy()
