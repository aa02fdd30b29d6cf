"""Further prompts: encoded by the pipeline, and inserted into the arguments of a denoiser."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cfglab.errors import InputError

_POOLED = ("text_embeds", "pooled_projections")


class Encodings:
    """The prompts of one run, each encoded once by the pipeline's own `encode_prompt`."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._compared: dict[str, tuple[Tensor, Tensor | None]] = {}

    def insert(self, prompt: str, conditioning: Mapping[str, Any]) -> dict[str, Any]:
        """A denoiser's arguments with the encoding of another prompt in every row.

        Args:
            prompt: The prompt.
            conditioning: The denoiser's arguments by name.

        Returns:
            The arguments.

        Raises:
            InputError: The pipeline's text is not one tensor `encoder_hidden_states`, with or without a pooled tensor.
        """
        encoding = conditioning.get("encoder_hidden_states")
        masked = [name for name, value in conditioning.items() if "mask" in name and value is not None]
        if not isinstance(encoding, Tensor) or masked or not hasattr(self._pipe, "encode_prompt"):
            raise self._cannot(prompt, f"its text has {masked[0]}" if masked else "its text is no single tensor")
        if prompt not in self._compared:
            self._compared[prompt] = self._encode(prompt)
        text, pooled = self._compared[prompt]
        if text.shape[1:] != encoding.shape[1:]:
            raise self._cannot(
                prompt, f"it encodes to {tuple(text.shape[1:])}, where the rows have {tuple(encoding.shape[1:])}"
            )
        return self._replaced(conditioning, text.to(encoding).expand(encoding.shape), pooled, prompt)

    def _replaced(
        self, conditioning: Mapping[str, Any], text: Tensor, pooled: Tensor | None, prompt: str
    ) -> dict[str, Any]:
        changed = (
            {**conditioning, "encoder_hidden_states": text}
            if "encoder_hidden_states" in conditioning
            else dict(conditioning)
        )
        for name, value in conditioning.items():
            if name in _POOLED and isinstance(value, Tensor):
                if pooled is None:
                    raise self._cannot(prompt, f"no {name} comes of it")
                changed[name] = pooled.to(value).expand(value.shape)
            elif isinstance(value, Mapping):
                changed[name] = self._replaced(value, text, pooled, prompt)
        return changed

    def _encode(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """What `encode_prompt` makes of one prompt: (1, tokens, width), and a pooled text (1, width) or None."""
        parameters = inspect.signature(self._pipe.encode_prompt).parameters
        arguments = {
            "prompt": prompt,
            "prompt_2": None,
            "prompt_3": None,
            "device": self._pipe._execution_device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": False,
            "clip_skip": getattr(self._pipe, "clip_skip", None),
        }
        result = self._pipe.encode_prompt(**{name: value for name, value in arguments.items() if name in parameters})
        tensors = [part if isinstance(part, Tensor) else None for part in result]
        if tensors[0] is None or len(tensors) not in (2, 4):
            raise self._cannot(prompt, "encode_prompt gives something else than texts")
        return tensors[0], tensors[2] if len(tensors) == 4 else None

    def _cannot(self, prompt: str, reason: str) -> InputError:
        prompt_text = prompt if len(prompt) <= 60 else f"{prompt[:60]}…"
        return InputError(
            f"prompt {prompt_text!r} cannot be put into a {type(self._pipe).__name__}: {reason}; a further prompt "
            "needs a pipeline that is conditioned on one text."
        )
