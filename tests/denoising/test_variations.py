"""Further predictions: which rows run again under a change, equal ones once, and that each image gets its own."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.trace import StepRecord, Trace
from cfglab.guidance import TRANSFORMS, CFGZeroStar, Guidance, Perturbation, StepContext, Transform
from cfglab.step import Step, steps


@dataclass(frozen=True)
class WeakPrediction:
    """Half of what the rows would give, plus an amount."""

    amount: float = 0.0
    source: Literal["cond", "uncond"] = "cond"

    def applied(self, denoiser: Any) -> AbstractContextManager[Any]:
        return nullcontext(denoiser)

    def inputs(self, sample: Tensor, timestep: Any, conditioning: Mapping[str, Any]) -> Any:
        return sample, timestep, conditioning


class Away(Transform):
    """g + (row - worse row)."""

    kind: Literal["away_in_a_test"] = "away_in_a_test"
    reads_uncond: ClassVar[bool] = False
    amount: float = 0.0
    source: Literal["cond", "uncond"] = "cond"

    def variation(self, step: Step) -> Perturbation | None:
        return WeakPrediction(self.amount, self.source) if step.index < 2 else None

    def prediction(self, guided: Tensor, context: StepContext) -> Tensor:
        return guided if context.extra is None else guided + getattr(context, self.source) - context.extra


class Once(Transform):
    """Needs no unconditional row from the second step on for an image whose first value was positive."""

    kind: Literal["once_in_a_test"] = "once_in_a_test"
    per_image: ClassVar[bool] = True

    def unconditional(self, uncond: Tensor, context: StepContext) -> Tensor:
        context.memory.setdefault("positive", bool((context.cond.flatten(1)[:, 0] > 0).all()))
        return uncond

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "uncond" if memory.get("positive") else None


for name in ("away_in_a_test", "once_in_a_test"):
    del TRANSFORMS[name]


def inputs(seeds: list[int], prompts: list[int]) -> tuple[Tensor, Tensor]:
    """The doubled latents (2 B, 4, 6, 6) and the texts (2 B, 4)."""
    latents = torch.cat([torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(s)) for s in seeds])
    texts = torch.cat([torch.randn(1, 4, generator=torch.Generator().manual_seed(100 + p)) for p in prompts])
    return torch.cat([latents, latents]), torch.cat([torch.zeros_like(texts), texts])


def formula(sample: Tensor, text: Tensor, variation: WeakPrediction | None = None) -> Tensor:
    out = sample * 0.9 + text.reshape(-1, 4, 1, 1)
    return out if variation is None else out / 2 + variation.amount


def call(rows: GuidedRows, step: Step, sample: Tensor, text: Tensor) -> tuple[Tensor, StepRecord, list[Any]]:
    calls: list[Any] = []

    def denoise(wanted: list[int] | None, variation: Perturbation | None) -> Tensor:
        assert variation is None or isinstance(variation, WeakPrediction)
        x, y = (one if wanted is None else take(one, wanted) for one in (sample, text))
        calls.append((variation, wanted))
        return formula(x, y, variation)

    guided, record = rows.predict(step, sample, [text], denoise)
    return guided, record, calls


def test_a_variation_runs_the_rows_of_its_source_again() -> None:
    sample, text = inputs([1, 2, 3], [1, 2, 3])
    specs = [Guidance(3, [Away()]), Guidance(3), Guidance(3, [Away(source="uncond"), Away(amount=0.5)])]
    guided, record, calls = call(GuidedRows(specs), Step(0, 5), sample, text)
    assert calls == [
        (None, None),
        (WeakPrediction(), [3]),
        (WeakPrediction(source="uncond"), [2]),
        (WeakPrediction(0.5), [5]),
    ]
    u, c = formula(sample, text).chunk(2)
    cfg = u + 3 * (c - u)
    torch.testing.assert_close(guided[0], cfg[0] + c[0] / 2)
    torch.testing.assert_close(guided[1], cfg[1])
    torch.testing.assert_close(guided[2], cfg[2] + u[2] / 2 + c[2] / 2 - 0.5)
    assert (record.rows_run, record.rows_varied, record.rows_saved) == (9, 3, 0)


def test_equal_rows_under_equal_variations_run_once() -> None:
    sample, text = inputs([1, 1, 1, 2], [1, 1, 2, 1])
    rows = GuidedRows([Guidance(w, [Away()]) for w in (3, 5, 3, 3)])
    guided, record, calls = call(rows, Step(0, 5), sample, text)
    # one unconditional row of the first three, conditional rows of two prompts, and a pair of the last
    assert calls == [(None, [0, 3, 4, 6, 7]), (WeakPrediction(), [4, 6, 7])]
    assert (record.rows_run, record.rows_varied, record.rows_saved) == (8, 3, 4)
    for image, w in enumerate((3, 5, 3, 3)):
        u, c = formula(sample, text).chunk(2)
        torch.testing.assert_close(guided[image], u[image] + w * (c - u)[image] + c[image] / 2)


def test_a_worse_model_without_cfg_costs_two_rows_and_none_where_it_rests() -> None:
    sample, text = inputs([1, 2], [1, 2])
    rows, trace = GuidedRows([Guidance(1, [Away()])] * 2), Trace()
    seen = []
    for step in steps(3):
        _, record, calls = call(rows, step, sample, text)
        trace.steps.append(record)
        seen.append(calls)
    assert seen[0] == seen[1] == [(None, [2, 3]), (WeakPrediction(), [2, 3])]
    assert seen[2] == [(None, [2, 3])]
    assert (trace.rows_run, trace.rows_saved) == (10, 6)


def test_a_batch_gives_each_image_what_it_gets_alone() -> None:
    specs = [Guidance(1, [Away()]), Guidance(4, [Away(amount=0.3), Once()]), Guidance(2), Guidance(4, [Once()])]
    sample, text = inputs([1, 2, 1, 4], [1, 2, 1, 3])
    rows = GuidedRows(specs)
    alone = [GuidedRows([spec]) for spec in specs]
    for step in steps(4):
        together = call(rows, step, sample, text)[0]
        for image, one in enumerate(alone):
            own = [image, 4 + image]
            torch.testing.assert_close(together[image : image + 1], call(one, step, sample[own], text[own])[0])


def test_where_nothing_is_needed_the_denoiser_is_not_called() -> None:
    sample, text = inputs([1, 2], [1, 2])
    zero = Guidance(5, [CFGZeroStar()])
    rows = GuidedRows([zero] * 2, prediction="flow")
    guided, record, calls = call(rows, Step(0, 5, sigma=9.0, alpha=0.1), sample, text)
    assert calls == []
    assert torch.equal(guided, torch.zeros_like(sample[:2]))
    assert (record.rows_run, record.rows_saved, record.difference) == (0, 4, (None, None))
    mixed = GuidedRows([zero, Guidance(5)], prediction="flow")
    guided, record, calls = call(mixed, Step(0, 5, sigma=9.0, alpha=0.1), sample, text)
    assert calls == [(None, [1, 3])]
    assert not guided[0].any()
    assert guided[1].any()
    assert record.rows_saved == 2


def test_a_guide_whose_rows_depend_on_its_history_is_one_images_own() -> None:
    sample, text = inputs([1, 2, 3, 4], [1, 2, 3, 4])
    first = formula(sample, text)[4:].flatten(1)[:, 0] > 0
    assert 0 < first.sum() < 4
    rows = GuidedRows([Guidance(3, [Once()])] * 4)
    assert call(rows, Step(0, 3), sample, text)[1].rows_run == 8
    _, record, calls = call(rows, Step(1, 3), sample, text)
    assert calls == [(None, [i for i in range(4) if not first[i]] + [4, 5, 6, 7])]
    assert record.rows_saved == int(first.sum())


def test_the_trace_reads_a_scale_of_each_image_when_it_is_asked() -> None:
    class Scaled(Transform):
        """w times the first value of the image."""

        kind: Literal["scaled_in_a_test"] = "scaled_in_a_test"

        def scale(self, w: float | Tensor, context: StepContext) -> float | Tensor:
            return w * context.cond.flatten(1)[:, :1].reshape(-1, 1, 1, 1)

    del TRANSFORMS["scaled_in_a_test"]
    sample, text = inputs([1, 2, 3], [1, 2, 3])
    _, record, _ = call(
        GuidedRows([Guidance(2, [Scaled()]), Guidance(7), Guidance(2, [Scaled()])]), Step(0, 1), sample, text
    )
    first = formula(sample, text)[3:].flatten(1)[:, 0].tolist()
    assert record.w == pytest.approx((2 * first[0], 7, 2 * first[2]))
