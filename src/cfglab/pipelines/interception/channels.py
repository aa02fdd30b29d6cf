"""The channels or tokens of a prediction that are guided."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.wrapped_modules import core_of
from cfglab.pipelines.profiles.profile import Profile

_FRAMES_FIRST = ("CogVideoX", "ConsisID", "AnyFlow", "UNetSpatioTemporal")
"""How the names of networks begin whose samples are (rows, frames, channels, height, width): with as many frames as
channels the shape does not tell."""


def guided_channels(profile: Profile, call: DenoiserCall) -> Callable[[int], int] | None:
    """The number of leading channels (or tokens) that are guided.

    Args:
        profile: The layout of the pipeline.
        call: The first denoiser call.

    Returns:
        A function from the number of all channels to that of the guided ones; None if all are guided.
    """
    variance = profile.variance
    if profile.image_ids and profile.image_ids != "img_last":
        tokens = _generated_tokens(profile, call)
        return lambda width: min(width, tokens)
    if isinstance(variance, int):
        return lambda _: variance
    if variance in ("half", "last half"):
        return lambda width: width // 2
    if variance == "twice":
        channels = call.sample.shape[1]
        return lambda width: width // 2 if width == 2 * channels else width
    return None


def last_image(call: DenoiserCall, tokens: Tensor) -> Tensor:
    """The tokens of the image that is made, where it is the last in a sequence of text and images.

    Args:
        call: The denoiser call.
        tokens: The sample or a prediction, (rows, tokens, channels).

    Returns:
        (rows, tokens of the image, channels); `tokens` itself for other layouts.
    """
    if call.profile.image_ids != "img_last":
        return tokens
    return tokens[:, -math.prod(call.named["img_shapes"][0][-1]) :]


def _generated_tokens(profile: Profile, call: DenoiserCall) -> int:
    """How many of the leading tokens are the image that is made, and not one that is edited."""
    layers = profile.image_ids == "img_layers"
    ids = call.named.get("img_shapes" if layers else profile.image_ids)
    if isinstance(ids, Tensor):  # (tokens, 3) or (1, tokens, 4): the first number is the image's; the made one is first
        images = ids.reshape(-1, ids.shape[-1])[: ids.shape[-2], 0]
        return int((images == images[0]).sum())
    if not (isinstance(ids, list | tuple) and isinstance(ids[0], list | tuple)):
        return call.sample.shape[1]
    return sum(math.prod(size) for size in (ids[0][:-1] if layers else ids[0][:1]))


def channel_dim(module: nn.Module, sample: Any) -> int:
    """The dimension of the channels in a sample.

    Args:
        module: The denoiser.
        sample: Its input: a tensor, or a list of one for each row.

    Returns:
        What the configuration of the denoiser tells: -1 for packed tokens, (rows, tokens, channels), and for
        (rows, frames, height, width, channels); 2 for (rows, frames, channels, height, width) and for
        (rows, 1, channels, frames, height, width); else 1.
    """
    shape = tuple(sample.shape) if isinstance(sample, Tensor) else ()
    if len(shape) == 5:
        core = core_of(module)
        if _configured(module, "in_visual_dim") is not None:  # Kandinsky 5 and 6
            return -1
        if type(core).__name__.startswith(_FRAMES_FIRST):
            return 2
    candidates = {3: (-1, 1), 5: (1, 2), 6: (2,)}.get(len(shape), ())
    names = ("in_channels", "latent_channel", "latent_dim", "audio_acoustic_hidden_dim", "embedding_dim")
    channels = {_configured(module, name) for name in names}
    return next((dim for dim in candidates if shape[dim] in channels), 1)


def same_shape(module: nn.Module) -> bool:
    """Whether a prediction is known to have the shape of the sample.

    Args:
        module: The denoiser.

    Returns:
        True if its configuration has as many output channels as input channels.
    """
    inputs, outputs = (_configured(module, name) for name in ("in_channels", "out_channels"))
    return inputs is not None and outputs in (None, inputs)


def _configured(module: nn.Module, name: str) -> Any:
    return getattr(getattr(core_of(module), "config", None), name, None)
