"""guide() on every tiny pipeline, against the same pipeline untouched."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families import Case
from tests.pipelines.reference_loop import a_last_bit_more, counted, moved
from tests.pipelines.results import ROUNDS, TIMES, cause
from tests.pipelines.test_builders import COUNTS, STEPS, every, shared, untouched

pytestmark = [
    pytest.mark.filterwarnings("ignore:every row is run at every step of this run. in controlnet Multihead"),
    pytest.mark.filterwarnings("ignore:every row is run at every step of this run. 'kv_cache'"),
]


@pytest.fixture(scope="module", params=every())
def made(request: pytest.FixtureRequest) -> Iterator[tuple[Case, Any]]:
    """A case and its pipeline."""
    case: Case = request.param
    pipe = shared(case)
    kinds = {name: type(part) for name, part in pipe.components.items()}
    yield case, pipe
    assert {name: type(part) for name, part in pipe.components.items()} == kinds


def near(a: Tensor, b: Tensor, far: float = 1e-5) -> bool:
    return bool((a - b).norm() <= far * b.norm())


def wide(case: Case) -> float:
    """What the pipeline is called with inside guide(): the scale that is not used."""
    return case.scales[1]


def half_off(case: Case) -> tuple[Any, list[float]]:
    """A schedule in our meaning of the word that is off at the second step, and the pipeline's own scales for it."""
    low, high = (scale + case.offset for scale in case.scales)

    def schedule(step: Step) -> float:
        return (low, 1.0, high)[step.index]

    return schedule, [w - case.offset for w in (low, 1.0, high)]


def test_the_same_scale_gives_the_same_picture(made: tuple[Case, Any]) -> None:
    case, pipe = made
    low = case.scales[0]
    plain = untouched(case, low)
    with guide(pipe, case.guidance(low + case.offset)) as trace:
        guided = case.call(pipe, wide(case), steps=STEPS)
    if cause(case):
        assert near(guided, plain, ROUNDS)
    else:
        assert torch.equal(guided, plain)
    assert trace.rows_saved == 0
    assert not near(guided, untouched(case, wide(case)), 0.01)  # the comparison can see
    assert torch.equal(case.call(pipe, low, steps=STEPS), plain)  # nothing is left behind


def test_another_rounding_grows_no_further_than_a_last_bit_of_the_pipelines_own(made: tuple[Case, Any]) -> None:
    case, pipe = made
    if not cause(case):
        pytest.skip("bit for bit")
    steps, scale = 8, 9.0
    plain = case.call(pipe, scale, steps=steps)
    with guide(pipe, case.guidance(scale + case.offset)):
        guided = case.call(pipe, wide(case), steps=steps)
    with a_last_bit_more(pipe, case.denoisers):
        nudged = case.call(pipe, scale, steps=steps)
    assert (guided - plain).norm() <= TIMES * (nudged - plain).norm()
    assert near(nudged, plain, 1e-2)  # a last bit, not another image


def test_a_schedule_that_skips_rows(made: tuple[Case, Any]) -> None:
    case, pipe = made
    schedule, scales = half_off(case)
    wanted = moved(pipe, case, scales, steps=STEPS)
    with (
        guide(pipe, case.guidance(schedule)) as trace,
        counted(pipe, case.denoisers) as rows,
        counted(pipe, case.helpers) as helped,
    ):
        guided = case.call(pipe, wide(case), steps=STEPS)
    assert near(guided, wanted)
    assert not near(wanted, untouched(case, scales[0]), 1e-4)  # the scale moved
    whole = {"three parts": 3, "embedded": 1}.get(case.style, 2)
    saves = whole == 2 and case.shares
    steps = len(trace.steps) // case.runs
    assert len(trace.steps) == steps * case.runs
    assert steps in (STEPS, STEPS - 1)  # one less with strength
    assert [record.step.index for record in trace.steps] == list(range(steps)) * case.runs
    assert {record.step.count for record in trace.steps} == {steps}
    assert [record.rows_run for record in trace.steps] == [whole, 1 if saves else whole, whole][:steps] * case.runs
    assert [record.rows_saved for record in trace.steps] == [0, int(saves), 0][:steps] * case.runs
    assert sum(rows) == trace.rows_run
    if case.helpers and case.style == "batched":
        assert helped == [2, 1 if saves else 2, 2][:steps]


def test_every_image_has_its_own_guidance(made: tuple[Case, Any]) -> None:
    case, pipe = made
    if case.single or not any(case.accepts(count) for count in COUNTS):
        pytest.skip("one image a call")
    scales = case.scales
    try:
        each = [case.call(pipe, scale, steps=2, images=2) for scale in scales]
    except ValueError as error:
        pytest.skip(f"one video a call: {error}")
    if case.accepts("num_videos_per_prompt") and len(each[0]) == len(case.call(pipe, scales[0], steps=2)):
        pytest.skip("one video a call, whatever is asked")
    with guide(pipe, [case.guidance(scale + case.offset) for scale in scales]):
        guided = case.call(pipe, wide(case), steps=2, images=2)
    for image, alone in enumerate(each):
        parts = guided.chunk(2)[image], alone.chunk(2)[image]
        assert near(*parts)
    assert not near(guided, each[0], 1e-3)


def test_every_case_is_asked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(every()) >= 100
