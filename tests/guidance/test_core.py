"""The hooks in their order, memory, further predictions and a scale that reads them, with formulas for hooks."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS, Guidance, Perturbation, Space, StepContext, Transform
from cfglab.guidance.parameterization import convert
from cfglab.schedules import Constant
from cfglab.step import Step
from tests.guidance.examples import NEXT, STEP, batch, needs, passes


@dataclass(frozen=True)
class Blurred:
    """A Variation in name only."""

    amount: float = 1.0
    source: Literal["cond", "uncond"] = "cond"

    def applied(self, denoiser: Any) -> AbstractContextManager[Any]:
        return nullcontext(denoiser)

    def inputs(self, sample: Tensor, timestep: Any, conditioning: Mapping[str, Any]) -> Any:
        return sample, timestep, conditioning


class Own(Transform):
    """Not entered among the transforms: it has no kind of its own."""

    kind: str


class Each(Own):
    """Writes down what each hook sees, and changes it recognisably."""

    kind: str = "each"

    def conditional(self, cond: Tensor, context: StepContext) -> Tensor:
        context.memory.setdefault("hooks", []).append("conditional")
        assert torch.equal(cond, context.cond)
        return cond * 2

    def unconditional(self, uncond: Tensor, context: StepContext) -> Tensor:
        context.memory["hooks"].append("unconditional")
        assert torch.equal(uncond, context.uncond)
        return uncond * 3

    def update(self, update: Tensor, context: StepContext) -> Tensor:
        context.memory["hooks"].append("update")
        return update * 5

    def prediction(self, guided: Tensor, context: StepContext) -> Tensor:
        context.memory["hooks"].append("prediction")
        context.memory["steps"] = context.memory.get("steps", 0) + 1
        return guided + context.w * context.memory["steps"]


class Worse(Own):
    """c + s (c - worse), as the guidance by a weaker model does."""

    kind: str = "worse"
    weight: float = 2.0
    amount: float = 1.0
    source: Literal["cond", "uncond"] = "cond"
    reads_uncond: ClassVar[bool] = False

    def variation(self, step: Step) -> Perturbation | None:
        return Blurred(self.amount, self.source) if step.index != NEXT.index else None

    def prediction(self, guided: Tensor, context: StepContext) -> Tensor:
        return guided if context.extra is None else guided + self.weight * (context.cond - context.extra)


class Replaced(Own):
    """The further prediction stands for the unconditional one, as a random condition's does."""

    kind: str = "replaced"

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return Blurred()

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "uncond"

    def unconditional(self, uncond: Tensor, context: StepContext) -> Tensor:  # noqa: ARG002
        assert context.extra is not None
        return context.extra


class Ratio(Own):
    """w = |u| / |c|, image by image, on x0; it supplies u once it has seen two steps."""

    kind: str = "ratio"
    space: Space = "x0"
    per_image: ClassVar[bool] = True

    def scale(self, w: float | Tensor, context: StepContext) -> float | Tensor:
        context.memory["seen"] = context.memory.get("seen", 0) + 1
        ratio = context.uncond.flatten(1).norm(dim=1) / context.cond.flatten(1).norm(dim=1)
        return w * ratio.reshape(-1, 1, 1, 1)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "uncond" if memory.get("seen", 0) >= 2 else None


for name in ("each", "worse", "replaced", "ratio"):
    del TRANSFORMS[name]  # they are no part of the catalogue


def test_the_hooks_run_in_order_on_what_the_one_before_made() -> None:
    u, c, _ = (x.double() for x in batch())
    guide = Guidance(4, [Each()]).start()
    for count, step in ((1, STEP), (2, NEXT)):
        got = guide.combine(u, c, step)
        torch.testing.assert_close(got, 3 * u + 4 * 5 * (2 * c - 3 * u) + 4 * count, rtol=1e-12, atol=1e-12)
    fresh = Guidance(4, [Each()]).start()
    torch.testing.assert_close(fresh.combine(u, c, NEXT), 3 * u + 20 * (2 * c - 3 * u) + 4, rtol=1e-12, atol=1e-12)


def test_two_of_one_kind_have_a_memory_each() -> None:
    u, c, _ = (x.double() for x in batch())
    got = Guidance(1, [Each(), Each()]).start().combine(u, c, STEP)
    torch.testing.assert_close(got, 9 * u + 25 * (4 * c - 9 * u) + 2, rtol=1e-12, atol=1e-12)


def test_a_further_prediction_is_asked_for_and_arrives_in_the_transforms_space() -> None:
    u, c, x = (one.double() for one in batch())
    guide = Guidance(3, [Worse(amount=1), Worse(amount=4, space="x0")]).start("v")
    assert guide.plan(STEP).passes == (Blurred(1), Blurred(4))
    assert guide.plan(NEXT).passes == ()
    extras = [0.5 * c + 0.1 * u + 0.4 * x, u + 1.3 * (c - u)]
    got = guide.combine(u, c, STEP, x, passes(guide, STEP, *extras))
    torch.testing.assert_close(got, u + 3 * (c - u) + 2 * (c - extras[0]) + 2 * (c - extras[1]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(guide.combine(u, c, NEXT, x), u + 3 * (c - u))
    with pytest.raises(InputError, match=r"0 further predictions at step 4 of .*, which needs 2: run each"):
        guide.combine(u, c, STEP, x)
    with pytest.raises(InputError, match=r"2 further predictions at step 5 of .*, which needs 0"):
        guide.combine(u, c, NEXT, x, passes(guide, STEP, c, c))
    with pytest.raises(InputError, match=r"shape \(3, 4, 8, 8\) and \(3, 4, 8, 8\) and \(1, 4, 8, 8\) and"):
        guide.combine(u, c, STEP, x, passes(guide, STEP, c[:1], c))


def test_guidance_by_a_worse_model_without_cfg_needs_no_unconditional_row() -> None:
    guidance = Guidance(1, [Worse()])
    guide = guidance.start()
    u, c, _ = (x.double() for x in batch())
    assert needs(guide, STEP) == (False, True)
    torch.testing.assert_close(guide.combine(None, c, STEP, extras=passes(guide, STEP, u)), c + 2 * (c - u))
    off = Guidance(Constant(1).inside(steps=(0, 2)), [Worse()]).start()
    assert (needs(off, STEP), off.plan(STEP).passes) == ((False, True), ())
    assert off.combine(u, c, STEP) is c


def test_a_prediction_that_is_supplied_is_not_run_unless_it_is_blended() -> None:
    u, c, _ = (x.double() for x in batch())
    full, half = (Guidance(3, [Replaced(strength=s)]).start() for s in (1, 0.5))
    assert (needs(full, STEP), needs(half, STEP)) == ((False, True), (True, True))
    extra = 0.3 * u + 0.2 * c
    torch.testing.assert_close(full.combine(None, c, STEP, extras=passes(full, STEP, extra)), extra + 3 * (c - extra))
    torch.testing.assert_close(full.combine(u, c, STEP, extras=passes(full, STEP, extra)), extra + 3 * (c - extra))
    mixed = (u + extra) / 2
    torch.testing.assert_close(half.combine(u, c, STEP, extras=passes(half, STEP, extra)), mixed + 3 * (c - mixed))


def test_a_scale_that_reads_the_predictions() -> None:
    u, c, x = batch()
    guide = Guidance(2, [Ratio()]).start("x0")
    assert guide.per_image
    assert not Guidance(2, [Each(), Ratio(strength=0)]).start().per_image
    assert needs(guide, STEP) == (True, True)
    got = guide.combine(u, c, STEP, x)
    w = 2 * u.flatten(1).norm(dim=1) / c.flatten(1).norm(dim=1)
    torch.testing.assert_close(guide.w, w)
    torch.testing.assert_close(got, u + w.reshape(-1, 1, 1, 1) * (c - u))
    guide.combine(u, c, NEXT, x)
    assert needs(guide, NEXT) == (False, True)
    torch.testing.assert_close(guide.combine(None, c, NEXT, x), c)
    half = Guidance(2, [Ratio(strength=0.5)]).start("x0")
    half.combine(u, c, STEP, x)
    torch.testing.assert_close(half.w, (w + 2) / 2)


def test_a_scale_sees_its_own_space_and_the_hooks_see_its_w() -> None:
    u, c, x = (one.double() for one in batch())
    there = [convert(one, x, STEP, "v", "x0").flatten(1).norm(dim=1) for one in (u, c)]
    w = (there[0] / there[1]).reshape(-1, 1, 1, 1)
    got = Guidance(1, [Ratio(), Each(space="model")]).start("v").combine(u, c, STEP, x)
    torch.testing.assert_close(got, 3 * u + w * 5 * (2 * c - 3 * u) + w, rtol=1e-9, atol=1e-9)


def test_over_w_leaves_nothing_where_w_is_0() -> None:
    tensor = torch.ones(3, 2)
    context = StepContext(STEP, torch.tensor([[2.0], [0.0], [-4.0]]), tensor, tensor)
    assert context.over_w(tensor).tolist() == [[0.5, 0.5], [0, 0], [-0.25, -0.25]]
    assert StepContext(STEP, 0.0, tensor, tensor).over_w(tensor).tolist() == [[0, 0]] * 3
    assert StepContext(STEP, 4.0, tensor, tensor).over_w(tensor).tolist() == [[0.25, 0.25]] * 3


def test_space_model_is_that_of_the_network_where_a_host_converts_its_predictions() -> None:
    u, c, x = batch()
    guidance = Guidance(3, [Ratio(space="model")])
    direct = guidance.start("epsilon").combine(u, c, STEP, x)
    clean = [convert(tensor, x, STEP, "epsilon", "x0") for tensor in (u, c)]
    converted = guidance.start("x0", "epsilon").combine(*clean, STEP, x)
    torch.testing.assert_close(convert(converted, x, STEP, "x0", "epsilon"), direct)
    alone = guidance.start("x0").combine(*clean, STEP, x)
    assert not torch.allclose(convert(alone, x, STEP, "x0", "epsilon"), direct)
