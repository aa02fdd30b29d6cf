"""The operations of pipelines on the guided prediction after their combine, done here instead, bit for bit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfglab.pipelines.profiles.profile import Profile

PostCombine = Callable[[Tensor, Tensor], Tensor]
"""(guided, cond) -> guided, both (n, ...)."""


def post_combine_of(profile: Profile, arguments: dict[str, Any]) -> PostCombine | None:
    """The pipeline's operation on the guided prediction, done here instead.

    Args:
        profile: The layout of the pipeline.
        arguments: The arguments of the pipeline call.

    Returns:
        (guided, cond) -> guided; None if this call has none.
    """
    if profile.post_combine == "rescale":
        share = float(arguments.get("guidance_rescale") or 0.0)
        return (lambda guided, cond: rescaled(guided, cond, share)) if share > 0 else None
    if profile.post_combine == "token norm":
        return last_norm
    if profile.post_combine == "row norm":
        return last_norm if any(arguments.get(switch) for switch, _ in profile.fixed) else None
    if profile.post_combine == "item norm":
        return item_norm
    if profile.post_combine == "token ceiling":
        smallest = float(arguments.get("cfg_renorm_min") or 0.0)
        return (lambda guided, cond: shortened(guided, cond, smallest)) if arguments.get("enable_cfg_renorm") else None
    if profile.post_combine == "ceiling":
        times = float(arguments.get("cfg_normalization") or 0.0)
        return (lambda guided, cond: under_ceiling(guided, cond, times)) if times > 0 else None
    return None


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """diffusers' `rescale_noise_cfg`: `share * guided * std(cond) / std(guided) + (1 - share) * guided`.

    Args:
        guided: (n, ...).
        cond: (n, ...).
        share: The share phi, 0 to 1.

    Returns:
        (n, ...).

    Reference:
        arXiv:2305.08891, section 3.4.
    """
    dims = list(range(1, cond.ndim))
    factor = cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return share * (guided * factor) + (1 - share) * guided


def last_norm(guided: Tensor, cond: Tensor) -> Tensor:
    """`guided * |cond| / |guided|` along the last dimension: Qwen-Image's tokens, Lumina 2's rows of a latent.

    Args:
        guided: (n, ...).
        cond: (n, ...).

    Returns:
        (n, ...).
    """
    length = torch.norm(guided, dim=-1, keepdim=True)
    return guided * torch.where(length > 0, torch.norm(cond, dim=-1, keepdim=True) / length, 1.0)


def item_norm(guided: Tensor, cond: Tensor) -> Tensor:
    """`guided * |cond| / |guided|` along dimension 2: the channels of JoyImage's items and the patches of its tokens.

    Args:
        guided: (n, items or tokens, channels, ...).
        cond: The same shape.

    Returns:
        A tensor of the same shape.
    """
    length = torch.norm(guided, dim=2, keepdim=True)
    return guided * (torch.norm(cond, dim=2, keepdim=True) / length.clamp_min(1e-6))


def shortened(guided: Tensor, cond: Tensor, smallest: float) -> Tensor:
    """Each token shortened to at most the length of `cond`'s, by no factor below `smallest`, as in LongCat-Image.

    Args:
        guided: (n, tokens, channels).
        cond: The same shape.
        smallest: The smallest factor, 0 to 1.

    Returns:
        A tensor of the same shape.
    """
    length = torch.norm(guided, dim=-1, keepdim=True)
    factor = torch.norm(cond, dim=-1, keepdim=True) / (length + 1e-8)
    return guided * factor.clamp(min=smallest, max=1.0)


def under_ceiling(guided: Tensor, cond: Tensor, times: float) -> Tensor:
    """Each image shortened to at most `times * |cond|`, as in Z-Image.

    Args:
        guided: (n, ...).
        cond: (n, ...).
        times: The factor, above 0.

    Returns:
        (n, ...).
    """
    images = []
    for image, reference in zip(guided, cond, strict=True):
        largest, length = torch.linalg.vector_norm(reference) * times, torch.linalg.vector_norm(image)
        images.append(torch.where(length > largest, image * (largest / length), image))
    return torch.stack(images)
