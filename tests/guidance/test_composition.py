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
from tests.guidance.examples import NEXT, ROUNDED, STEP, VALUES, batch, with_

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
    """None would be lost, and no two go up to the same largest scale."""
    try:
        Guidance(3, transforms)
    except InputError:
        return False
    return sum(one.kind == "feedback" for one in transforms) < 2


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
    if any(one.acts_when_equal for one in transforms):
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
        ("3 | audio_guidance(w=2) | audio_guidance(w=7)", "the sound has one scale, so the first would be lost; leave"),
        ("3 | adg() | nrs()", "in the place of the guided one, so the first would be lost; leave one of them out."),
        ("3 | pag() | adg()", "what pag does before it would be lost; write pag behind adg, or leave one of them out."),
        ("3 | dng(prompt=b) | tag() | nrs()", "what dng does before it would be lost; write dng behind nrs"),
        ("3 | apg() | adg()", "what apg does to it would be lost; leave one of them out."),
        ("3 | adg() | apg()", "what apg does to it would be lost; leave one of them out."),
        ("3 | nrs() | composed(prompt=b)", "what composed does to it would be lost"),
        ("3 | nrs() | full_norm()", "what full_norm does to it would be lost"),
        ("3 | nrs() | per_position(map='0 1')", "nrs reads no scale, so that of per_position would be lost"),
        ("3 | magnitude_aware(alpha=1) | nrs()", "nrs reads no scale, so that of magnitude_aware would be lost"),
        ("3 | tcfg() | icg()", "what tcfg does before it would be lost; write tcfg behind icg"),
        ("3 | skimmed() | pladis()", "what skimmed does before it would be lost; write skimmed behind pladis"),
        ("3 | cfg_zero_star(strength=0.5) | adg()", "what cfg_zero_star does before it would be lost"),
    ],
)
def test_two_of_which_one_is_lost_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("3 | adg() | pag()", "3 | adg()"),
        ("3 | pag() | adg(strength=0.5)", "3 | adg(strength=0.5)"),
        ("3 | apg(eta=0.2) | nrs(strength=0.5)", "3 | nrs(strength=0.5)"),
        ("3 | tcfg() | adg()", "3 | adg()"),
        ("3 | icg() | tcfg()", "3 | icg()"),
        ("3 | cfg_zero_star() | nrs()", "3 | nrs()"),
        ("3 | per_position(map='0 1') | adg()", "3 | adg()"),
        ("3 | adg() | rescale()", "3 | adg()"),
    ],
)
def test_what_is_not_lost_acts(text: str, same: str) -> None:
    assert not torch.allclose(run(parse_guidance(text), two_steps()), run(parse_guidance(same), two_steps()))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_what_reads_no_earlier_prediction_says_so(value: Transform) -> None:
    """A hook that gives the same whatever the ones before it made is one that `replaces`; another is none."""
    named = {"conditional": "cond", "unconditional": "uncond", "prediction": "guided"}
    ignored = {named.get(hook, hook) for hook in HOOKS if has(value, hook) and not reads(value, hook)}
    assert ignored == ({"cond", "uncond"} if value.replaces == "both" else {value.replaces} - {None})
    assert value.reads_w == (value.kind != "nrs")
    if "guided" in ignored:
        assert value.reads_w == reads(value, "prediction", w=1.0)


def reads(value: Transform, hook: str, w: float = 0.0) -> bool:
    """Whether a hook's result changes with its input, or with w."""
    u, c, x = (tensor.double() for tensor in batch())
    extra, second = torch.randn(2, *u.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    results = []
    for change in (0.0, 1.0):
        memory: dict[str, Any] = {}
        for step in (STEP, NEXT):
            given = {"scale": 3.0, "conditional": c, "unconditional": u, "update": c - u, "prediction": 3 * c - 2 * u}
            changed = given[hook] if w else given[hook] + change * (1 if hook == "scale" else x)  # type: ignore[operator]
            fields = {"conditional": {"cond": changed}, "unconditional": {"uncond": changed}}.get(hook, {})
            fields = {"uncond": u, "cond": c, "extra": extra, "second": second} | fields
            now = StepContext(step, 1.1 + w * change, space="epsilon", latents=x, memory=memory, **fields)
            results.append(torch.as_tensor(getattr(value, hook)(changed, now)))
    return not torch.allclose(results[1], results[3], rtol=1e-9, atol=1e-9)


def test_one_without_strength_replaces_nothing() -> None:
    assert len(parse_guidance("3 | nag(s=2, strength=0) | cads() | icg()").transforms) == 3
    assert len(parse_guidance("3 | pag() | adg(strength=0)").transforms) == 2
