"""Any schedule with any transforms, in order: random ones against the definition, written again without the Guide."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Guidance, Space, StepContext, Transform, parse_guidance
from cfglab.guidance.parameterization import convert
from cfglab.step import Step
from tests.guidance.examples import CHANGE_EQUAL, NEXT, ROUNDED, STEP, VALUES, batch, with_

SCHEDULES = (
    "7.5",
    "1",
    "0",
    "cosine(max=6, min=1, k=0.3).inverted()",
    "limited_interval(w=4, sigma=(1, 3))",
    "wang_lambda(w0=3).clip(low=2)",
    "beta(scale=3)",
    "linear(max=5, min=2).then(3, at=0.45)",
    "cfg_plus_plus(lam=0.6)",
    "cutoff(w=5, at=0.2)",
    "10x5",
)
EPS: Space = "epsilon"
HOOKS = ("scale", "conditional", "unconditional", "update", "prediction")
CHAINS = st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from((0.3, 1.0))), min_size=1, max_size=3).map(
    lambda chosen: [with_(one, strength=strength) for one, strength in chosen]
)


def meant(transforms: list[Transform]) -> bool:
    """No two take the place of the same prediction, and no two go up to the same largest scale."""
    taken = [one.replaces or one.kind for one in transforms if one.replaces or one.kind == "feedback"]
    taken += ["cond", "uncond"] if "both" in taken else []
    return len(set(taken)) == len(taken)


def has(one: Transform, hook: str) -> bool:
    return getattr(type(one), hook) is not getattr(Transform, hook)


def extra_of(u: Tensor, c: Tensor) -> Tensor:
    return torch.where(torch.arange(u.shape[-1]) % 2 == 0, u, c)


def defined(schedule: Any, transforms: list[Transform], steps: list[tuple[Step, Tensor, Tensor, Tensor]]) -> Tensor:
    """The last of consecutive steps: every tensor an epsilon; each hook's whole result is carried into the space of the
    transform and back by `convert`, and blended there."""
    memories: list[dict[str, Any]] = [{} for _ in transforms]
    guided = torch.empty(0)
    for step, u, c, x in steps:
        if not schedule.is_on(step):
            guided = c
            continue
        w: Any = schedule(step)
        uncond, cond, update = u, c, c - u
        for hook in HOOKS:
            guided = uncond + w * update
            for one, memory in zip(transforms, memories, strict=True):
                if not has(one, hook):
                    continue
                space: Space = EPS if one.space == "model" else one.space
                there = {"uncond": convert(uncond, x, step, "epsilon", space)}
                there["cond"] = convert(cond, x, step, "epsilon", space)
                for name, variation in (("extra", one.variation(step)), ("second", one.second_variation(step))):
                    if variation is not None:
                        there[name] = convert(extra_of(u, c), x, step, "epsilon", space)
                now = StepContext(step, w, space=space, latents=x, memory=memory, **there)
                if hook == "scale":
                    w = w + one.strength * (one.scale(w, now) - w)
                    continue
                if hook == "update":
                    a, b = (convert(z, x, step, "epsilon", space) for z in (uncond + update, uncond))
                    after = convert(b + one.update(a - b, now), x, step, space, "epsilon") - uncond
                    update = update + one.strength * (after - update)
                    continue
                before = {"conditional": cond, "unconditional": uncond, "prediction": guided}[hook]
                after = convert(
                    getattr(one, hook)(convert(before, x, step, "epsilon", space), now), x, step, space, EPS
                )
                after = before + one.strength * (after - before)
                if hook == "conditional":
                    cond = after
                elif hook == "unconditional":
                    uncond = after
                else:
                    guided = after
            if hook in ("conditional", "unconditional"):
                update = cond - uncond
    return guided


def run(guidance: Guidance, steps: list[tuple[Step, Tensor, Tensor, Tensor]]) -> Tensor:
    guide, got = guidance.start("epsilon"), torch.empty(0)
    for step, u, c, x in steps:
        got = guide.combine(u, c, step, x, dict.fromkeys(guide.plan(step).passes, extra_of(u, c)))
    return got


def two_steps(n: int = 3) -> list[tuple[Step, Tensor, Tensor, Tensor]]:
    return [(step, *(x.double() for x in batch(n, seed=seed))) for step, seed in ((STEP, 5), (NEXT, 6))]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(schedule=st.sampled_from(SCHEDULES), transforms=CHAINS.filter(meant))
def test_any_schedule_and_any_transforms_in_order(schedule: str, transforms: list[Transform]) -> None:
    guidance = Guidance(schedule, transforms)
    assert parse_guidance(str(guidance)) == guidance == Guidance.from_json(guidance.to_json())
    got = run(guidance, two_steps())
    assert torch.isfinite(got).all()
    if not any(one.kind in ("adaptive", "reuse") for one in transforms):  # they leave the row out that `defined` gives
        expected = defined(guidance.schedule, transforms, two_steps())
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
    for i in range(3):
        alone = [(step, *(x[i : i + 1] for x in seen)) for step, *seen in two_steps()]
        torch.testing.assert_close(run(guidance, alone), got[i : i + 1], rtol=1e-8, atol=1e-8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedule=st.sampled_from(SCHEDULES), transforms=CHAINS.filter(meant))
def test_equal_predictions_stay_through_a_chain(schedule: str, transforms: list[Transform]) -> None:
    if any(one.acts_when_equal or with_(one, strength=1) in CHANGE_EQUAL for one in transforms):
        return
    if schedule == "0" and any(one.kind == "mahiro" for one in transforms):
        return  # ComfyUI's formula halves the prediction at w = 0, where it has no direction to compare with
    _, _, c, x = two_steps()[0]
    got = run(Guidance(schedule, transforms), [(STEP, c.clone(), c, x)])
    if any(one.kind in ROUNDED for one in transforms):
        torch.testing.assert_close(got, c, rtol=1e-10, atol=1e-10)
    else:
        torch.testing.assert_close(got, c, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "3 | nag(s=2) | cads()",
            "nag(s=2) and cads(): each puts a prediction of its own in the place of",
        ),
        (
            "3 | icg() | icg(seed=1)",
            "in the place of the unconditional one, so the first",
        ),
        ("3 | cads() | apg() | cads(s=0.1)", "so the first would be lost; leave one of them out."),
    ],
)
def test_two_of_which_one_is_lost_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_one_without_strength_replaces_nothing() -> None:
    assert len(parse_guidance("3 | nag(s=2, strength=0) | cads() | icg()").transforms) == 3
