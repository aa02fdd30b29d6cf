"""What binds every registered transform, whoever wrote it: contracts (a), (b), (c) and (e), and the life of a value."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import cfglab.guidance as g
from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS, Guidance, Space, Transform, parse_guidance
from cfglab.guidance.parameterization import convert
from cfglab.method_card import Card
from cfglab.step import Step
from tests.guidance.examples import (
    NEXT,
    OF_SOUND,
    ROUNDED,
    STEP,
    VALUES,
    VIDEO,
    as_predictions,
    batch,
    needs,
    spaces_of,
    with_,
)

EVERY = pytest.mark.parametrize("value", [*VALUES, *VIDEO], ids=str)
BY_POSITION = {"fdg", "fresca", "higs", "snf", "swg", "per_position", "per_channel"}
"""They refuse packed tokens, or name dimensions themselves."""
PREDICTIONS: tuple[Space, ...] = ("epsilon", "v", "flow")


def run(value: Transform, prediction: Space, w: float, *seen: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """The guided predictions of consecutive steps with one Guide. A further prediction, where one is asked for, has
    every second column of uncond and the others of cond."""
    guide, guided = Guidance(w, [value]).start(prediction), []
    for step, tensors in zip((STEP, NEXT), seen, strict=False):
        u, c, x = (as_predictions(value, tensor) for tensor in tensors)
        extra = torch.where(torch.arange(u.shape[-1]) % 2 == 0, u, c)
        combined = guide.combine(u, c, step, x, dict.fromkeys(guide.plan(step).passes, extra))
        guided.append(combined.reshape(tensors[0].shape))
    return guided


def test_every_registered_transform_has_an_example() -> None:
    assert {value.kind for value in (*VALUES, *VIDEO)} == set(TRANSFORMS)


@EVERY
def test_strength_0_is_plain_cfg(value: Transform) -> None:
    uncond, cond, latents = batch()
    for space in spaces_of(value):
        for prediction in PREDICTIONS:
            (got,) = run(with_(value, strength=0, space=space), prediction, 7.5, (uncond, cond, latents))
            assert torch.equal(got, uncond + 7.5 * (cond - uncond))
    assert needs(Guidance(1, [with_(value, strength=0)]).start(), STEP) == (False, True)


@EVERY
def test_equal_predictions_give_cond(value: Transform) -> None:
    _, cond, latents = batch()
    cond[1] = 0  # an image of zeros has no direction
    for space in spaces_of(value):
        for prediction in PREDICTIONS:
            for strength in (0.3, 1.0):
                one = with_(value, strength=strength, space=space)
                (got,) = run(one, prediction, 7.5, (cond.clone(), cond, latents))
                assert torch.isfinite(got).all()
                if value.acts_when_equal:
                    continue
                if value.kind in ROUNDED:
                    torch.testing.assert_close(got, cond, rtol=1e-5, atol=1e-5)
                else:
                    assert torch.equal(got, cond), (space, prediction, strength)


@EVERY
def test_a_batch_is_its_images(value: Transform) -> None:
    first, second = batch(), batch(seed=6)
    for space in spaces_of(value):
        for prediction in PREDICTIONS:
            one = with_(value, space=space)
            together = run(one, prediction, 3, first, second)
            for i in range(3):
                alone = run(one, prediction, 3, *[tuple(x[i : i + 1] for x in seen) for seen in (first, second)])  # type: ignore[misc]
                for a, b in zip(together, alone, strict=True):
                    torch.testing.assert_close(a[i : i + 1], b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("value", [value for value in VALUES if value.kind not in BY_POSITION], ids=str)
def test_packed_tokens_and_frames_in_front_are_another_order_of_the_same_numbers(value: Transform) -> None:
    if getattr(value, "axis", "") == "last":
        pytest.skip("it names a dimension, whatever that is")
    pairs = [tuple(x.double() for x in batch(seed=seed)) for seed in (5, 6)]
    images = _guided(value, [tuple(x.flatten(2) for x in tensors) for tensors in pairs], 1)
    tokens = _guided(value, [tuple(x.flatten(2).mT for x in tensors) for tensors in pairs], -1)
    torch.testing.assert_close(tokens.mT, images, rtol=1e-9, atol=1e-9)
    videos = _guided(value, [tuple(x.unflatten(2, (2, 4)) for x in tensors) for tensors in pairs], 1)
    frames = _guided(value, [tuple(x.unflatten(2, (2, 4)).transpose(1, 2) for x in tensors) for tensors in pairs], 2)
    torch.testing.assert_close(frames.transpose(1, 2), videos, rtol=1e-9, atol=1e-9)


@EVERY
def test_channels_that_are_last_are_another_order_of_the_same_numbers(value: Transform) -> None:
    """Images (n, h, w, channels) and videos (n, frames, h, w, channels), also for maps and frequencies."""
    if value.kind == "per_frame":
        pytest.skip("its map is for other numbers of frames; test_scale_maps.py has it")
    pairs = [tuple(x.double() for x in batch(seed=seed)) for seed in (5, 6)]
    last = _guided(value, [tuple(x.movedim(1, -1) for x in tensors) for tensors in pairs], -1)
    torch.testing.assert_close(last.movedim(-1, 1), _guided(value, pairs, 1), rtol=0, atol=0)
    videos = [tuple(torch.stack([x, x.flip(0)], 2) for x in tensors) for tensors in pairs]
    last = _guided(value, [tuple(x.movedim(1, -1) for x in tensors) for tensors in videos], -1)
    torch.testing.assert_close(last.movedim(-1, 1), _guided(value, videos, 1), rtol=1e-12, atol=1e-12)


def _guided(value: Transform, seen: list[tuple[Tensor, ...]], channel_dim: int) -> Tensor:
    """The guided prediction of the last of some steps; the further prediction is the mean of both."""
    guide = Guidance(3, [value]).start("flow")
    guide.channel_dim = channel_dim
    guided = seen[0][0]
    for step, (u, c, x) in zip((STEP, NEXT), seen, strict=True):
        guided = guide.combine(u, c, step, x, dict.fromkeys(guide.plan(step).passes, (u + c) / 2))
    return guided


@EVERY
def test_a_transform_that_acts_says_so_and_its_strength_is_a_blend(value: Transform) -> None:
    seen = [tuple(x.double() for x in batch(seed=seed)) for seed in (5, 6)]
    hooks = [name for name in ("conditional", "unconditional", "update", "prediction") if _has(value, name)]
    for space in spaces_of(value):
        none, some, full = (run(with_(value, strength=s, space=space), "v", 3, *seen)[-1] for s in (0, 0.25, 1))  # type: ignore[arg-type]
        if value.kind in OF_SOUND:
            assert torch.equal(none, full)
            continue
        assert not torch.allclose(none, full)
        if len(hooks) == 1 and "momentum" not in value.kind:  # several hooks are blended each on its own
            torch.testing.assert_close(some, 0.75 * none + 0.25 * full, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@EVERY
def test_half_precision_is_computed_in_float32(value: Transform, dtype: torch.dtype) -> None:
    uncond, cond, latents = batch(dtype=dtype)
    uncond, cond = uncond * 40, cond * 40  # the sum of squares of the last image is far above float16's 65504
    for space in spaces_of(value):
        one = with_(value, space=space)
        (got,) = run(one, "flow", 0.5, (uncond, cond, latents))
        (exact,) = run(one, "flow", 0.5, (uncond.double(), cond.double(), latents.double()))
        assert got.dtype == dtype
        torch.testing.assert_close(got, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=4e-3)


@EVERY
def test_the_space_does_not_depend_on_what_the_model_predicts(value: Transform) -> None:
    uncond, cond, latents = (x.double() for x in batch())
    if value.space == "model":
        value = with_(value, space="x0")
    for prediction in PREDICTIONS:
        (exact,) = run(value, "epsilon", 2, (uncond, cond, latents))
        there = [convert(x, latents, STEP, "epsilon", prediction) for x in (uncond, cond)]
        (got,) = run(value, prediction, 2, (there[0], there[1], latents))
        back = convert(got, latents, STEP, prediction, "epsilon")
        torch.testing.assert_close(back, exact, rtol=1e-8, atol=1e-8)


@EVERY
def test_never_nan_for_tiny_huge_and_zero_predictions(value: Transform) -> None:
    _, cond, latents = batch()
    for size in (0.0, 1e-30, 1e-20, 1.0, 1e15):
        for uncond in (torch.zeros_like(cond), cond * (1 + 1e-7), -cond):
            for w in (0.0, 1.0, 7.5):
                for got in run(value, "flow", w, *[(uncond * size, cond * size, latents)] * 2):
                    assert torch.isfinite(got).all(), (size, w)


@EVERY
def test_memory_dies_with_the_guide_and_off_steps_are_not_transformed(value: Transform) -> None:
    first, second = batch(), batch(seed=6)
    again = [run(value, "v", 3, first, second) for _ in range(2)]
    for a, b in zip(*again, strict=True):
        assert torch.equal(a, b)
    off = Guidance("constant(3).inside(progress=(0.9, 1))", [value]).start("v")
    assert needs(off, STEP) == (False, True)
    assert off.combine(None, first[1], STEP) is first[1]


@EVERY
def test_at_w_1_only_what_is_read_is_needed(value: Transform) -> None:
    uncond, cond, latents = (as_predictions(value, tensor) for tensor in batch())
    guide = Guidance(1, [value]).start("v")
    supplied = value.supplies(STEP, {})
    reads = value.reads_uncond or _has(value, "update") or _has(value, "unconditional")
    reads = reads or value.known_scale(1.0, STEP) != 1
    needed = (reads and supplied not in ("uncond", "both"), supplied not in ("cond", "both"))
    assert needs(guide, STEP) == needed
    extras = dict.fromkeys(guide.plan(STEP).passes, cond)
    got = guide.combine(uncond if needed[0] else None, cond if needed[1] else None, STEP, latents, extras)
    assert torch.equal(got, Guidance(1, [value]).start("v").combine(uncond, cond, STEP, latents, extras))


@EVERY
def test_text_repr_and_json_come_back(value: Transform) -> None:
    guidance = Guidance(7.5, [value])
    assert parse_guidance(str(guidance)) == guidance
    assert eval(repr(value), vars(g)) == value
    assert Guidance.model_validate_json(guidance.model_dump_json()) == guidance
    assert hash(parse_guidance(str(guidance))) == hash(guidance)


@pytest.mark.parametrize("kind", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_card_is_whole(kind: type[Transform]) -> None:
    card = kind.card
    assert isinstance(card, Card)
    assert hash(replace(card)) == hash(card)
    assert card.title
    assert card.says.endswith(".")
    assert card.formula
    assert card.defaults
    assert card.paper or card.source
    if card.paper:
        assert card.paper in (kind.__doc__ or "")
    for line in (card.title, card.says, card.formula, card.source, card.defaults, *(h.differs for h in card.hosts)):
        assert "\n" not in line


def _has(value: Transform, hook: str) -> bool:
    return getattr(type(value), hook) is not getattr(Transform, hook)


FLOW = [Step(i, 4, 1000 * t, t / (1 - t) if t < 1 else math.inf, None, 1 - t) for i, t in enumerate((1, 0.8, 0.5, 0.2))]
"""A flow begins at pure noise: sigma is infinite and alpha 0."""


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_from_pure_noise_on_it_is_finite_or_says_which_parameterization_helps(value: Transform) -> None:
    messages = []
    try:
        guided = _through_a_flow(value)
    except InputError as error:
        messages.append(str(error))
        guided = _through_a_flow(with_(value, space="model"))
    assert all('use space="model"' in message and "step 0" in message for message in messages)
    assert all(torch.isfinite(prediction).all() for prediction in guided)


def _through_a_flow(value: Transform) -> list[Tensor]:
    """The guided predictions of a run that begins at pure noise."""
    guide, guided = Guidance(3, [value]).start("flow"), []
    for number, step in enumerate(FLOW):
        u, c, x = (as_predictions(value, tensor) for tensor in batch(seed=number))
        guided.append(guide.combine(u, c, step, x, dict.fromkeys(guide.plan(step).passes, (u + c) / 2)))
    return guided
