"""The guidance transforms against cf-guidance 0.0.3 itself, and where it divides zero by zero."""

from typing import Any

import pytest
import torch

import cfglab
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import BaseNormGuidance, FullNormGuidance, GuidanceTfm, TNormGuidance
from cfglab.errors import InputError
from cfglab.step import Step
from tests.oracles import Published

NAMES = ["GuidanceTfm", "BaseNormGuidance", "TNormGuidance", "FullNormGuidance"]
NORMS = [BaseNormGuidance, TNormGuidance, FullNormGuidance]
SHAPES = [(1, 4, 16, 16), (3, 4, 8, 8), (2, 5)]


def predictions(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image of a batch has a norm of its own, so that a norm per image would be seen."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.arange(1, shape[0] + 1, dtype=torch.float32).reshape(-1, *[1] * (len(shape) - 1))
    u = torch.randn(shape, generator=generator) * sizes
    return u, u + 0.3 * torch.randn(shape, generator=generator) * sizes.flip(0)


def ours_and_theirs(published: Published, name: str, schedule: list[float]) -> tuple[Any, Any]:
    theirs = getattr(published.module("cf_guidance.transforms"), name)
    return globals()[name]({"g": schedule}), theirs({"g": schedule})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_published_numbers(published: Published, name: str, shape: tuple[int, ...]) -> None:
    schedule = get_cos_sched(num_steps=10, max_val=7.5, min_val=-1.0)
    ours, theirs = ours_and_theirs(published, name, schedule)
    for index in range(10):
        u, t = predictions(shape, seed=index)
        wanted = theirs(u, t, index)
        torch.testing.assert_close(ours(u, t, index), wanted, rtol=2e-5, atol=2e-5)
        torch.testing.assert_close(ours.encode(u, t, idx=index), wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_plain_guidance_is_bit_equal_in_half_precision(published: Published, dtype: torch.dtype) -> None:
    ours, theirs = ours_and_theirs(published, "GuidanceTfm", [7.3])
    u, t = (x.to(dtype) for x in predictions((2, 4, 8, 8), seed=1))
    assert torch.equal(ours(u, t, 0), theirs(u, t, 0))


@pytest.mark.parametrize("kind", NORMS)
def test_norms_in_half_precision_are_computed_in_float32(published: Published, kind: type[GuidanceTfm]) -> None:
    theirs = getattr(published.module("cf_guidance.transforms"), kind.__name__)({"g": [0.7]})
    u, t = (x.to(torch.bfloat16) for x in predictions((2, 4, 8, 8), seed=1))
    result = kind({"g": [0.7]})(u, t, 0)
    assert torch.equal(result, theirs(u.float(), t.float(), 0).to(torch.bfloat16))


@pytest.mark.parametrize("kind", NORMS)
def test_equal_predictions_never_give_nan(kind: type[GuidanceTfm]) -> None:
    u, _ = predictions((2, 4, 8, 8), seed=1)
    torch.testing.assert_close(kind({"g": [7.5]})(u, u, 0), u)
    zeros = torch.zeros_like(u)
    assert torch.equal(kind({"g": [7.5]})(zeros, zeros, 0), zeros)


def test_equal_predictions_do_give_nan_there(published: Published) -> None:
    u, _ = predictions((2, 4, 8, 8), seed=1)
    theirs = published.module("cf_guidance.transforms").TNormGuidance({"g": [7.5]})
    assert theirs(u, u, 0).isnan().all()


@pytest.mark.parametrize("kind", NORMS)
def test_the_norm_is_over_the_batch_here_and_over_each_image_in_cfglab(kind: type[GuidanceTfm]) -> None:
    u, t = predictions((3, 4, 8, 8), seed=1)
    tfm = kind({"g": [0.7]})
    alone = torch.cat([tfm(u[i : i + 1], t[i : i + 1], 0) for i in range(3)])
    per_image = cfglab.Guidance(0.7, kind.transforms).start().combine(u, t, Step(0, 1))
    torch.testing.assert_close(alone, per_image)
    assert not torch.allclose(tfm(u, t, 0), per_image, rtol=1e-3)


def test_a_transform_without_a_dict_of_schedules_is_one_line() -> None:
    with pytest.raises(InputError, match=r"schedules 7\.5: a dict with an entry g; write"):
        GuidanceTfm(7.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", [7.5, torch.full((3,), 7.5), (7.5, 7.5, 7.5)])
def test_a_number_or_any_sequence_is_a_schedule(schedule: Any) -> None:
    u, t = predictions((1, 4, 8, 8), seed=1)
    assert torch.equal(GuidanceTfm({"g": schedule})(u, t, 2), u + 7.5 * (t - u))


@pytest.mark.parametrize(
    ("schedules", "index", "words"),
    [
        ({"g": [1.0, 2.0]}, 2, "step 2 of the schedule 'g' with 2 values"),
        ({"g": [1.0, 2.0]}, None, "step None of the schedule 'g'"),
        ({"w": [1.0]}, 0, r"no schedule 'g' among \['w'\]"),
        ({"g": cfglab.Cosine()}, 0, r"pass its list, schedule.values\(steps\)"),
        ({"g": [float("nan")]}, 0, "a finite number is needed"),
    ],
)
def test_what_is_no_schedule_is_said_in_one_line(schedules: dict[str, Any], index: int | None, words: str) -> None:
    u, t = predictions((1, 4, 8, 8), seed=1)
    with pytest.raises(InputError, match=words) as caught:
        GuidanceTfm(schedules)(u, t, index)
    assert "\n" not in str(caught.value)


def test_the_family_is_the_published_one(published: Published) -> None:
    theirs = published.module("cf_guidance.transforms")
    for kind in (GuidanceTfm, *NORMS):
        published_kind = getattr(theirs, kind.__name__)
        assert kind.name == published_kind.name
        assert [base.__name__ for base in kind.__mro__] == [base.__name__ for base in published_kind.__mro__]
