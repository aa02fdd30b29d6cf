"""Further prompts: encoded by the pipeline, and inserted into the arguments of a denoiser."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError

_POOLED = ("text_embeds", "pooled_projections")
_TEXTS = ("encoder_hidden_states", "cap_feats")
_MASK = "encoder_hidden_states_mask"
"""Of Qwen-Image, whose texts have as many tokens as they need."""
_MASK_OF_BOTH = "attention_mask"
"""Of Chroma: one number for each token of the text, and of the packed image behind it."""


@dataclass(frozen=True, eq=False)
class _Encoding:
    """One prompt: (1, tokens, width), with a pooled text (1, width) and a mask (1, tokens), or None."""

    text: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None


class Encodings:
    """The prompts of one run, each encoded once by the pipeline's own `encode_prompt`.

    Args:
        pipe: The pipeline.
        arguments: The arguments of its call by name.
    """

    def __init__(self, pipe: Any, arguments: Mapping[str, Any] | None = None) -> None:
        self._pipe, self._arguments = pipe, arguments or {}
        self._compared: dict[tuple[str, bool], _Encoding] = {}

    def insert(self, prompt: str, conditioning: Mapping[str, Any], padded: bool = True) -> dict[str, Any]:
        """A denoiser's arguments with the encoding of another prompt in every row.

        Args:
            prompt: The prompt.
            conditioning: The denoiser's arguments by name.
            padded: False to encode it without the tokens that fill it up; it then has as many as it needs.

        Returns:
            The arguments.

        Raises:
            InputError: The pipeline's text is not one tensor `encoder_hidden_states`, with or without a pooled tensor,
                or one tensor a row, `cap_feats`.
        """
        name = next((name for name in _TEXTS if name in conditioning), "")
        own = conditioning.get(name)
        first = own[0] if isinstance(own, list) and own else own
        known = (_MASK, _MASK_OF_BOTH) if "img_ids" in conditioning else (_MASK,)
        masked = [
            key for key, value in conditioning.items() if "mask" in key and key not in known and value is not None
        ]
        if not isinstance(first, Tensor) or masked or not hasattr(self._pipe, "encode_prompt"):
            raise self._cannot(prompt, f"its text has {masked[0]}" if masked else "its text is no single tensor")
        if (prompt, padded) not in self._compared:
            with nullcontext() if padded else _without_padding(self._pipe):
                encoding = self._encode(prompt, conditioning)
            self._compared[prompt, padded] = encoding if padded else _trimmed(encoding)
        encoding = self._compared[prompt, padded]
        if isinstance(own, list):
            return {**conditioning, name: [encoding.text[0].to(first)] * len(own)}
        text, free = encoding.text, int(_MASK in conditioning or not padded)
        if text.shape[1 + free :] != first.shape[1 + free :]:
            raise self._cannot(
                prompt, f"it encodes to {tuple(text.shape[1:])}, where the rows have {tuple(first.shape[1:])}"
            )
        return self._replaced(conditioning, len(first), encoding, prompt)

    def _replaced(self, conditioning: Mapping[str, Any], rows: int, encoding: _Encoding, prompt: str) -> dict[str, Any]:
        changed = dict(conditioning)
        for name, value in conditioning.items():
            if name == "encoder_hidden_states":
                changed[name] = encoding.text.to(value).expand(rows, -1, -1)
            elif name == _MASK:
                changed[name] = None if encoding.mask is None else encoding.mask.expand(rows, -1)
            elif name == _MASK_OF_BOTH and isinstance(value, Tensor) and encoding.mask is not None:
                image = value[:, conditioning["encoder_hidden_states"].shape[1] :]
                changed[name] = torch.cat([encoding.mask.to(value).expand(rows, -1), image], 1)
            elif name in _POOLED and isinstance(value, Tensor):
                if encoding.pooled is None:
                    raise self._cannot(prompt, f"no {name} comes of it")
                changed[name] = encoding.pooled.to(value).expand(value.shape)
            elif isinstance(value, Mapping):
                changed[name] = self._replaced(value, rows, encoding, prompt)
        return changed

    def _encode(self, prompt: str, conditioning: Mapping[str, Any]) -> _Encoding:
        """What `encode_prompt` makes of one prompt."""
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
        if (length := self._arguments.get("max_sequence_length")) is not None:
            arguments["max_sequence_length"] = length
        result = self._pipe.encode_prompt(**{name: value for name, value in arguments.items() if name in parameters})
        if isinstance(result[0], list) and "cap_feats" in conditioning:
            return _Encoding(result[0][0][None])
        tensors = [part if isinstance(part, Tensor) else None for part in result]
        match tensors:
            case [Tensor() as text, mask] if _MASK in conditioning:
                return _Encoding(text, mask=mask)
            case [Tensor() as text, pooled, _] if "pooled_projections" in conditioning:  # and the positions of the text
                return _Encoding(text, pooled)
            case [Tensor() as text, _, Tensor() as mask, None, None, None] if _MASK_OF_BOTH in conditioning:
                return _Encoding(text, mask=mask)
            case [Tensor() as text, _] | [Tensor() as text, _, None, _]:
                return _Encoding(text)
            case [Tensor() as text, _, pooled, _]:
                return _Encoding(text, pooled)
        raise self._cannot(prompt, "encode_prompt gives something else than texts")

    def _cannot(self, prompt: str, reason: str) -> InputError:
        prompt_text = prompt if len(prompt) <= 60 else f"{prompt[:60]}…"
        return InputError(
            f"prompt {prompt_text!r} cannot be put into a {type(self._pipe).__name__}: {reason}; a further prompt "
            "needs a pipeline that is conditioned on one text."
        )


class _Unpadded:
    """A tokenizer that fills nothing up."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tokenizer(*args, **{**kwargs, "padding": False})


@contextmanager
def _without_padding(pipe: Any) -> Iterator[None]:
    """A context in which the tokenizers of a pipeline fill nothing up."""
    attributes = vars(pipe)
    own = {name: value for name, value in attributes.items() if name.startswith("tokenizer") and callable(value)}
    attributes.update({name: _Unpadded(value) for name, value in own.items()})
    try:
        yield
    finally:
        attributes.update(own)


def _trimmed(encoding: _Encoding) -> _Encoding:
    """The encoding without the zeros by which Wan fills it up."""
    used = encoding.text[0].any(-1).nonzero()
    tokens = int(used[-1]) + 1 if len(used) else 1
    return replace(encoding, text=encoding.text[:, :tokens])
