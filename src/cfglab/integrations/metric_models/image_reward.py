"""ImageReward (2304.05977): what people preferred, predicted by its authors' package."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cfglab.errors import InputError
from cfglab.integrations.metric_models.weights import load_weights, tensors_only

PINNED = "pip install image-reward 'git+https://github.com/openai/CLIP.git' 'transformers<4.56'"
"""Its release 1.5 imports CLIP without asking for it, and names that transformers 4.56 no longer has."""


class ImageReward:
    """The reward of the package, standardised by its authors: about 0 on average, higher is preferred."""

    metrics = ("image_reward",)
    model_id = "ImageReward-v1.0"

    def __init__(self, weights: str | None, device: str) -> None:
        try:
            import ImageReward as package
        except ImportError as error:
            raise InputError(f"image_reward: its package cannot be imported ({error}); {PINNED}") from error
        model_id = weights or self.model_id

        def load() -> Any:
            with tensors_only():
                return package.load(model_id, device=device)

        self._model = load_weights("image_reward", model_id, load)
        self.key = f"image_reward|{model_id}"

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> list[float]:
        """The reward of images.

        Args:
            pixels: (n, h, w, 3), uint8.
            prompts: One per image; long ones are cut at 35 tokens.

        Returns:
            One number per image.
        """
        import torch

        with torch.inference_mode():
            return [
                float(self._model.score(prompt, Image.fromarray(image)))
                for prompt, image in zip(prompts, pixels, strict=True)
            ]
