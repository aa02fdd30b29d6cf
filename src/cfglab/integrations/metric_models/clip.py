"""CLIPScore (2104.08718) and PickScore (2305.01569): how well an image fits its prompt, as CLIP models see it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from cfglab.integrations.metric_models.weights import identity, load_weights


class _Clip:
    """A CLIP model of transformers, and how its cosine is made a score."""

    metrics: ClassVar[tuple[str, ...]]
    model_id: ClassVar[str]
    processor_id: ClassVar[str]

    def __init__(self, weights: str | None, device: str) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        model_id = weights or self.model_id
        processor_id = weights or self.processor_id
        (metric,) = self.metrics

        def load() -> tuple[Any, Any, Any]:
            model = CLIPModel.from_pretrained(model_id)
            return model, AutoImageProcessor.from_pretrained(processor_id), AutoTokenizer.from_pretrained(processor_id)

        self._model, self._image, self._text = load_weights(metric, model_id, load)
        self._model.eval().to(device)
        self.key = identity(metric, model_id, self._model)

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> list[float]:
        """The score of images.

        Args:
            pixels: (n, h, w, 3), uint8.
            prompts: One per image; long ones are cut at 77 tokens.

        Returns:
            One number per image.
        """
        import torch

        device = self._model.device
        text = self._text(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        images = self._image(images=list(pixels), return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(
                input_ids=text["input_ids"].to(device),
                attention_mask=text["attention_mask"].to(device),
                pixel_values=images["pixel_values"].to(device),
            )
            cosine = torch.nn.functional.cosine_similarity(outputs.image_embeds.float(), outputs.text_embeds.float())
        return [self._score(value) for value in cosine.tolist()]

    def _score(self, cosine: float) -> float:
        raise NotImplementedError


class ClipScore(_Clip):
    """100 max(cos, 0), the scale of torchmetrics; the paper's own has 2.5 for 100."""

    metrics = ("clip_score",)
    model_id = "openai/clip-vit-base-patch16"
    processor_id = "openai/clip-vit-base-patch16"

    def _score(self, cosine: float) -> float:
        return 100 * max(cosine, 0.0)


class PickScore(_Clip):
    """The learned scale times the cosine, before the softmax over several images of one prompt."""

    metrics = ("pick_score",)
    model_id = "yuvalkirstain/PickScore_v1"
    processor_id = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    def _score(self, cosine: float) -> float:
        return self._model.logit_scale.detach().exp().item() * cosine
