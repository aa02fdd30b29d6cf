"""Further prompts: encoded by the pipeline, and inserted into the arguments of a denoiser."""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import MASKS

_POOLED = ("text_embeds", "pooled_projections")
_TEXTS = ("encoder_hidden_states", "cap_feats")
_MASK_IF_NEEDED = "encoder_hidden_states_mask"
"""Of Qwen-Image, whose texts have as many tokens as they need: None where all are read."""
_ATTENTION_MASK = "attention_mask"
"""Of PRX: which tokens of the text are read. Of Chroma: that, and of the packed image behind it."""
_OF_THE_LENGTH = ("position_ids", "global_hidden_states")
"""Beside these a text keeps its length: they hold its positions (Krea 2), or stand behind it as well (Stable Audio)."""
_IMAGE_MASKS = ("padding_mask", "condition_mask")
"""Of Cosmos: which places of the image are filled up, or are given."""

_ALONE: Mapping[str, Any] = {
    "num_images_per_prompt": 1,
    "num_videos_per_prompt": 1,
    "num_waveforms_per_prompt": 1,
    "batch_size": 1,
    "do_classifier_free_guidance": False,
    "guidance_scale": 1.0,
}
"""The arguments of `encode_prompt` for one prompt without a negative one."""
_OF_PROMPT = re.compile(r"prompt|prompt_\d|negative_.*|.*prompt_embeds.*|.*prompt_attention_mask.*")
"""The arguments of `encode_prompt` that are the prompts, or were made of them."""
_ENCODER = re.compile(r"(text_encoder|tokenizer)(_\d)?")
"""The components of a pipeline that read a prompt."""
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, eq=False)
class _Encoding:
    """One prompt: (1, tokens, width), with a pooled text (1, width) and a mask (1, tokens), or None."""

    text: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None


class Encodings:
    """The prompts of one run, each encoded once by the pipeline's own `encode_prompt`, as it encodes its own prompt.

    Args:
        pipe: The pipeline.
        arguments: The arguments of its call by name.
    """

    def __init__(self, pipe: Any, arguments: Mapping[str, Any] | None = None) -> None:
        self._pipe, self._arguments = pipe, arguments or {}
        self._own_call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._compared: dict[tuple[str, bool], _Encoding] = {}

    def note(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call of `encode_prompt`; the first one of the run is that of the pipeline's own prompt.

        Args:
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        self._own_call = self._own_call or (args, kwargs)

    def insert(self, prompt: str, conditioning: Mapping[str, Any], padded: bool = True) -> dict[str, Any]:
        """A denoiser's arguments with the encoding of another prompt in every row.

        Args:
            prompt: The prompt.
            conditioning: The denoiser's arguments by name.
            padded: False to encode it without the tokens that fill it up; it then has as many as it needs.

        Returns:
            The arguments.

        Raises:
            InputError: The pipeline's text is not one tensor `encoder_hidden_states`, with or without a pooled tensor
                and a mask of its tokens, or one tensor a row, `cap_feats`; or it cannot encode the prompt as it encodes
                its own.
        """
        name = next((name for name in _TEXTS if name in conditioning), "")
        own = conditioning.get(name)
        first = own[0] if isinstance(own, list) and own else own
        mask = _mask_of_text(conditioning)
        known = (mask, *_IMAGE_MASKS, *((_ATTENTION_MASK,) if _masks_both(conditioning) else ()))
        masked = [
            key for key, value in conditioning.items() if "mask" in key and key not in known and value is not None
        ]
        if not isinstance(first, Tensor) or masked or not hasattr(self._pipe, "encode_prompt"):
            raise self._cannot(prompt, f"its text has {masked[0]}" if masked else "its text is no single tensor")
        padded = padded or mask is not None
        if (prompt, padded) not in self._compared:
            with nullcontext() if padded else _without_padding(self._pipe):
                encoding = self._encode(prompt, conditioning)
            self._compared[prompt, padded] = encoding if padded else _trimmed(encoding)
        encoding = self._compared[prompt, padded]
        if isinstance(own, list):
            return {**conditioning, name: [encoding.text[0].to(first)] * len(own)}
        if first.ndim == encoding.text.ndim + 1 and first.shape[1] == 1:  # of Allegro
            encoding = replace(encoding, text=encoding.text[:, None])
        text = encoding.text
        free = not padded or (mask is not None and not any(name in conditioning for name in _OF_THE_LENGTH))
        if text.shape[1 + free :] != first.shape[1 + free :]:
            raise self._cannot(
                prompt, f"it encodes to {tuple(text.shape[1:])}, where the rows have {tuple(first.shape[1:])}"
            )
        return self._replaced(conditioning, len(first), encoding, prompt)

    def _replaced(self, conditioning: Mapping[str, Any], rows: int, encoding: _Encoding, prompt: str) -> dict[str, Any]:
        changed, mask = dict(conditioning), _mask_of_text(conditioning)
        for name, value in conditioning.items():
            if name == "encoder_hidden_states":
                changed[name] = encoding.text.to(value).expand(rows, *encoding.text.shape[1:])
            elif name == mask:
                changed[name] = None if encoding.mask is None else _like(encoding.mask, value).expand(rows, -1)
            elif name == _ATTENTION_MASK and isinstance(value, Tensor) and encoding.mask is not None:
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
        self._check_encoders(prompt)
        call = self._call_for(prompt)
        result = self._pipe.encode_prompt(*call.args, **call.kwargs)
        if isinstance(result, Tensor):  # of Blip-Diffusion, the text alone
            return _Encoding(result)
        if isinstance(result[0], list) and "cap_feats" in conditioning:
            return _Encoding(result[0][0][None])
        tensors = [part if isinstance(part, Tensor) else None for part in result]
        if (name := _mask_of_text(conditioning)) is not None:
            return self._masked(tensors, name, conditioning, prompt)
        match tensors:
            case [Tensor() as text, pooled, _] if "pooled_projections" in conditioning:  # and the positions of the text
                return _Encoding(text, pooled)
            case [Tensor() as text, _, Tensor() as mask, None, None, None] if _masks_both(conditioning):
                return _Encoding(text, mask=mask)
            case [Tensor() as text, _] | [Tensor() as text, _, None, _]:
                return _Encoding(text)
            case [Tensor() as text, _, pooled, _] if _has_pooled(conditioning):
                return _Encoding(text, pooled)
        raise self._cannot(prompt, "encode_prompt gives something else than texts")

    def _masked(
        self, tensors: list[Tensor | None], name: str, conditioning: Mapping[str, Any], prompt: str
    ) -> _Encoding:
        """The encoding of a prompt for a network that is told which tokens of its text are read."""
        encoding = None
        match tensors:
            case [Tensor() as text, Tensor() as pooled, mask] if _has_pooled(conditioning):  # of HunyuanVideo
                encoding = _Encoding(text, pooled, mask)
            case [Tensor() as text, None, Tensor() as mask, None]:  # of Kandinsky 3
                encoding = _Encoding(text, mask=mask)
            case [Tensor() as text, mask] | [Tensor() as text, mask, None, None]:
                encoding = _Encoding(text, mask=mask)
        if encoding is not None and encoding.mask is None and name == _MASK_IF_NEEDED:
            return encoding
        if encoding is None or encoding.mask is None or encoding.mask.shape != encoding.text.shape[:2]:
            raise self._cannot(prompt, f"encode_prompt gives something else than a text and its {name}")
        return encoding

    def _check_encoders(self, prompt: str) -> None:
        """Refuse a pipeline that was given embeddings in place of its own prompt, and has not every text encoder."""
        if self._arguments.get("prompt") is not None:
            return
        parts = {name: part for name, part in vars(self._pipe).items() if _ENCODER.fullmatch(name)}
        if none := [name for name, part in parts.items() if part is None]:
            raise self._cannot(
                prompt,
                f"its own prompt was given as embeddings, and its {none[0]} is None",
                "keep the text encoders in the pipeline, or use a method without a prompt of its own",
            )

    def _call_for(self, prompt: str) -> inspect.BoundArguments:
        """The arguments with which the pipeline encodes its own prompt, for another one."""
        signature = inspect.signature(self._pipe.encode_prompt)
        given = self._own_arguments(signature, prompt)
        prompts = given.get("prompt_embeds") if given.get("prompt") is None else given["prompt"]
        count = len(prompts) if isinstance(prompts, list | tuple | Tensor) else 1
        changed = {name: value for name, value in _ALONE.items() if name in signature.parameters}
        for name, value in given.items():
            if name in changed or _OF_PROMPT.fullmatch(name):
                continue
            if _is_one_each(value, count):
                raise self._cannot(
                    prompt,
                    f"each of its {count} prompts has {name} of its own",
                    "generate them one call each",
                )
            changed[name] = value
        changed["prompt"] = prompt
        for name, parameter in signature.parameters.items():
            if name not in changed and parameter.default is parameter.empty and parameter.kind in _NAMED:
                changed[name] = None
        bound = signature.bind_partial()
        bound.arguments.update({name: changed[name] for name in signature.parameters if name in changed})
        return bound

    def _own_arguments(self, signature: inspect.Signature, prompt: str) -> dict[str, Any]:
        """The arguments of the pipeline's own call of `encode_prompt`; those of its call where it makes none."""
        if "prompt" not in signature.parameters:
            raise self._cannot(prompt, "its encode_prompt takes no prompt")
        if self._own_call is not None:
            args, kwargs = self._own_call
            return dict(signature.bind(*args, **kwargs).arguments)
        if self._arguments.get("prompt") is not None and "encode_prompt" not in vars(self._pipe):
            raise self._cannot(prompt, "it does not encode its own prompt by its encode_prompt")
        given = {"device": self._pipe._execution_device, "clip_skip": getattr(self._pipe, "clip_skip", None)}
        given |= {name: value for name, value in self._arguments.items() if not _OF_PROMPT.fullmatch(name)}
        given = {name: value for name, value in given.items() if name in signature.parameters and value is not None}
        unknown = [name for name, value in given.items() if not (name == "device" or _is_plain(value))]
        if unknown:
            raise self._cannot(
                prompt,
                f"its own prompt was given as embeddings, and how it reads {unknown[0]} for one is not known",
                "give it the prompt as a text",
            )
        return given

    def _cannot(self, prompt: str, reason: str, way: str = "") -> InputError:
        prompt_text = prompt if len(prompt) <= 60 else f"{prompt[:60]}…"
        way = way or "a further prompt needs a pipeline that is conditioned on one text"
        return InputError(f"prompt {prompt_text!r} cannot be put into a {type(self._pipe).__name__}: {reason}; {way}.")


def _masks_both(conditioning: Mapping[str, Any]) -> bool:
    """Whether `attention_mask` is that of the text and of the packed image."""
    return _ATTENTION_MASK in conditioning and "img_ids" in conditioning


def _mask_of_text(conditioning: Mapping[str, Any]) -> str | None:
    """The argument that says which tokens of the text alone are read."""
    text = conditioning.get("encoder_hidden_states")
    for name in (*MASKS, _ATTENTION_MASK):
        mask = conditioning.get(name)
        if isinstance(mask, Tensor) and isinstance(text, Tensor) and mask.shape in _sizes(text):
            return name
    return _MASK_IF_NEEDED if _MASK_IF_NEEDED in conditioning else None


def _sizes(text: Tensor) -> tuple[tuple[int, ...], ...]:
    """The shape of a mask of a text, (n, tokens): of (n, tokens, …, width), or of Allegro's (n, 1, tokens, width)."""
    return (tuple(text.shape[:2]), (len(text), text.shape[-2]))


def _like(mask: Tensor, own: Tensor | None) -> Tensor:
    """A mask with the dtype of another one, where there is one."""
    return mask if own is None else mask.to(own)


def _is_one_each(value: Any, count: int) -> bool:
    """Whether an argument has one thing for each of several prompts; a tuple of numbers has not."""
    if count == 1 or not isinstance(value, Tensor | list | tuple):
        return False
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == count
    return len(value) == count and not all(isinstance(item, int | float) for item in value)


def _is_plain(value: Any) -> bool:
    """Whether an argument is a number, a text or a list of them, which a pipeline passes on as it is."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    return isinstance(value, bool | int | float | str)


def _has_pooled(conditioning: Mapping[str, Any]) -> bool:
    """Whether the arguments of a network hold a pooled text."""
    return any(
        name in _POOLED or (isinstance(value, Mapping) and _has_pooled(value)) for name, value in conditioning.items()
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
