"""What a pipeline makes of the first prediction of a step is made again from the guided one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.pipelines.interception.deferred import deferred, settle


def latents(seed: int) -> Tensor:
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))


def in_place(prediction: Tensor) -> Tensor:
    changed = prediction.clone()
    changed *= 2
    return changed.add_(1.0)


CONVERSIONS: list[Callable[[Tensor], Tensor]] = [
    lambda prediction: prediction,
    lambda prediction: prediction[:, :2],
    lambda prediction: (0.7 * latents(9) - 0.3 * prediction.float()).to(torch.bfloat16),
    lambda prediction: latents(9) + prediction * (1 - latents(8).gt(0).float()),
    lambda prediction: torch.cat([latents(9), prediction], dim=1).chunk(2, dim=1)[1],
    lambda prediction: torch.where(latents(8) > 0, prediction, latents(9)),
    in_place,
]


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_a_conversion_is_made_again(convert: Callable[[Tensor], Tensor]) -> None:
    prediction = deferred(latents(0))
    converted = convert(prediction)
    assert not torch.equal(converted + 0, convert(latents(1)))
    prediction = deferred(latents(0))
    converted = convert(prediction)
    settle(prediction, latents(1))
    assert torch.equal(converted + 0, convert(latents(1)))
    assert type(converted + 0) is Tensor  # as any other from here on


def test_a_shape_may_be_asked_and_a_number_may_not() -> None:
    prediction = deferred(latents(0))
    assert prediction.shape == (2, 4, 3)
    assert prediction.dtype is torch.float32
    total = torch.zeros(2, 4, 3)
    for ask in (lambda: prediction.sum().item(), lambda: bool(prediction.any()), lambda: total.add_(prediction)):
        with pytest.raises(InputError, match="a value that guidance has not decided yet"):
            ask()
    settle(prediction, latents(1))
    assert prediction.sum().item() == latents(1).sum().item()


class Distributed(Tensor):
    """A tensor of a class of its own."""


def test_a_tensor_of_a_class_of_its_own_keeps_it() -> None:
    prediction = latents(0).as_subclass(Distributed)
    assert deferred(prediction) is prediction
    settle(prediction, latents(1))
    assert torch.equal(prediction.as_subclass(Tensor), latents(1))
