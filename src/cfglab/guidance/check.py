"""The contracts of a transform in numbers, for the tests of whoever writes one."""

import math
from typing import TYPE_CHECKING

from cfglab.errors import InputError
from cfglab.guidance.guidance import Guidance
from cfglab.guidance.transform import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


def check_transform(transform: Transform) -> None:
    """Refuse a transform whose numbers break a contract: for the tests of your own package.

    Three images of different sizes are guided for two steps at w = 7.5. The contracts of the class itself, such as
    those of its text, are checked when it is defined.

    Args:
        transform: A Transform.

    Raises:
        InputError: A contract is broken; the message names it.

    Examples:
        >>> from cfglab.guidance import Rescale, check_transform
        >>> check_transform(Rescale(strength=0.5))
    """
    import torch

    generator = torch.Generator().manual_seed(5)
    size = torch.tensor([1.0, 0.1, 7.0]).reshape(3, 1, 1, 1)
    uncond, change, latents = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(3))
    uncond, cond = uncond * size, (uncond + 0.4 * change) * size
    guided = _guided(transform, uncond, cond, latents)
    contracts = {
        "strength 0 is plain CFG": torch.equal(
            _guided(_weakened(transform), uncond, cond, latents), uncond + 7.5 * (cond - uncond)
        ),
        "the prediction is finite and keeps its shape": guided.shape == cond.shape and bool(guided.isfinite().all()),
        "cond == uncond gives cond": transform.acts_when_equal
        or torch.allclose(_guided(transform, cond.clone(), cond, latents), cond, rtol=1e-4, atol=1e-4),
        "a batch gives the same as its images one by one": all(
            torch.allclose(
                _guided(transform, *(x[index : index + 1] for x in (uncond, cond, latents)))[0],
                guided[index],
                rtol=1e-4,
                atol=1e-4,
            )
            for index in range(3)
        ),
    }
    for contract, holds in contracts.items():
        if not holds:
            raise InputError(
                f"{transform} breaks the contract that {contract}; see docs/tutorials/own-method.md, and mend it."
            )


def _weakened(transform: Transform) -> Transform:
    fields = {name: getattr(transform, name) for name in type(transform).model_fields if name != "kind"}
    return type(transform)(**fields | {"strength": 0})


def _guided(transform: Transform, uncond: "Tensor", cond: "Tensor", latents: "Tensor") -> "Tensor":
    """Two steps of a run, so that what a transform remembers counts, too. A perturbed pass mixes the predictions."""
    import torch

    guide, guided = Guidance(7.5, [transform]).start(), cond
    mixed = torch.where(torch.arange(cond.shape[-1]) % 2 == 0, uncond, cond)
    for index, sigma in ((4, 1.7), (5, 1.2)):
        step = Step(index, 10, 1000 - 100 * index, sigma, sigma * 0.7, 1 / math.hypot(1, sigma))
        guided = guide.combine(uncond, cond, step, latents, dict.fromkeys(guide.plan(step).passes, mixed))
    return guided
