"""Every method in float16, with latents up to an eighth of its largest number and with zeros.

float16 ends at 65,504. Methods compute in float32 and return float16, so what can overflow is the result itself:
`OVERFLOWS` lists the methods that make a prediction larger than those that they get, and at which step.
"""

import pytest
import torch
from torch import Tensor

from cfglab.guidance import Guidance, Transform
from cfglab.step import Step, steps
from tests.guidance.examples import VALUES

LARGEST = 65504 / 8
SIGMAS = [14.6, 4.0, 0.7, 0.03]
W = 3.0
OVERFLOWS: dict[str, tuple[set[int], str]] = {
    "apg": ({3}, "an update remembered from a noisier step, on x0, is divided by sigma"),
    "cfg_zero_star": ({3}, "as ComfyUI has it, on x0: the change is divided by sigma"),
    "dng": ({1, 2, 3}, "the negative update times s p / (1 - p), up to 20 at the default s and max"),
    "imagen_threshold": ({3}, "x0 is clamped to its range, and the difference divided by sigma"),
    "momentum": ({2}, "alpha 1.5 adds to itself"),
}
"""The steps at which a result is above 65,504, and why. The last step has sigma 0.03."""


def run() -> list[Step]:
    """Four steps of a variance-preserving model, the last one with almost no noise."""
    return [
        Step(
            step.index, step.count, 1000.0 - 250 * step.index, step.sigma, step.next_sigma, (1 + step.sigma**2) ** -0.5
        )
        for step in steps(4, [*SIGMAS, 0.0])
        if step.sigma is not None
    ]


def predictions(case: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """latents, uncond, cond and a further prediction, (2, 4, 16, 16), float16."""
    generator = torch.Generator().manual_seed(0)
    latents, uncond, change, noise = (torch.randn(2, 4, 16, 16, generator=generator) for _ in range(4))
    if case == "zeros":
        return tuple(torch.zeros(2, 4, 16, 16, dtype=torch.float16) for _ in range(4))  # type: ignore[return-value]
    size = LARGEST if case == "largest" else 1.0
    clamped = [x.clamp(-1, 1) * size for x in (latents, uncond)]
    cond, further = (clamped[1] * 0.8 + 0.2 * size * x.clamp(-1, 1) for x in (change, noise))
    if case == "zero update":
        cond = clamped[1]
    return clamped[0].half(), clamped[1].half(), cond.half(), further.half()


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_method_is_finite_in_half_precision(value: Transform) -> None:
    for case in ("zeros", "zero update", "ordinary"):
        assert infinite_steps(value, case) == [], case
    located = OVERFLOWS[value.kind][0] if value.kind in OVERFLOWS else set()
    assert set(infinite_steps(value, "largest")) <= located


def test_each_overflow_that_is_documented_is_one() -> None:
    located = {(value.kind, index) for value in VALUES for index in infinite_steps(value, "largest")}
    assert located == {(kind, index) for kind, (indices, _) in OVERFLOWS.items() for index in indices}


def infinite_steps(value: Transform, case: str) -> list[int]:
    """The steps at which a method's result is infinite. NaN fails the test."""
    latents, uncond, cond, further = predictions(case)
    guide = Guidance(1.0 if value.kind == "feedback" else W, [value]).start()
    infinite = []
    for step in run():
        plan = guide.plan(step)
        guided = guide.combine(
            uncond if plan.uncond else None,
            cond if plan.cond else None,
            step,
            latents,
            dict.fromkeys(plan.passes, further),
        )
        assert guided.dtype == torch.float16
        assert not guided.isnan().any()
        if not guided.isfinite().all():
            infinite.append(step.index)
    return infinite
