"""Methods that put their own prediction in the place of the conditional one: its row is not run, at any step."""

from typing import Any

import pytest
import torch

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.table import profiles
from tests.pipelines.families import Case, case
from tests.pipelines.reference_loop import counted
from tests.pipelines.test_builders import every, shared

pytestmark = pytest.mark.filterwarnings("ignore:every row is run at every step of this run")

METHODS = ("cads()", "nag(s=5, prompt=b)", "vsf(prompt=b)", "pladis(layers=0)")
OFF = {"QwenImageLayeredPipeline"}  # a norm that is off by default
REFUSED = {"Cosmos3OmniPipeline"}  # its text is no single argument


def drawn(made: Case, pipe: Any, text: str, **how: Any) -> tuple[torch.Tensor, Any]:
    with guide(pipe, text, **how) as trace:
        return made.call(pipe, made.scales[1], steps=2), trace


@pytest.mark.parametrize("made", every("two calls"))
def test_a_replaced_row_is_run_where_the_pipeline_reads_it_alone(made: Case) -> None:
    pipe = shared(made)
    reads_cond = bool(profiles()[made.cls].post_combine) and made.cls not in OFF
    tried = 0
    for method in METHODS:
        for w in (4, 1):
            text = f"{w} | {method}"
            try:
                image, trace = drawn(made, pipe, text)
            except InputError:
                continue  # of networks that a method does not fit, whose refusals have tests of their own
            tried += 1
            if made.shares:
                guidance = Guidance(text).start("flow")
                plans = [guidance.plan(record.step) for record in trace.steps]
                wanted = [plan.evaluations + (reads_cond and not plan.cond) for plan in plans]
                assert [record.rows_run for record in trace.steps] == wanted, text
            assert torch.equal(image, drawn(made, pipe, text, share_rows=False)[0]), text
    assert bool(tried) == (made.cls not in REFUSED)


@pytest.mark.parametrize("made", every("two calls"))
def test_the_rows_that_are_counted_are_those_that_the_networks_ran(made: Case) -> None:
    if made.cls in REFUSED:
        pytest.skip("refused")
    pipe = shared(made)
    with counted(pipe, made.denoisers) as rows:
        trace = drawn(made, pipe, "1 | cads()")[1]
    assert sum(rows) == trace.rows_run
    assert sum(run for record in trace.steps for run, _ in record.shares) == trace.rows_run


@pytest.mark.parametrize("name", ["FluxPipeline", "FluxKontextPipeline", "ChromaPipeline", "QwenImagePipeline"])
def test_each_image_of_a_batch_has_the_rows_of_its_own_guidance(name: str) -> None:
    made = case(name)
    pipe = shared(made)
    texts = ["4 | nag(s=5, prompt=b)", "1 | vsf(prompt=b)", "1 | pladis(layers=0)"]
    each = []
    for text in texts:
        with guide(pipe, text):
            each.append(made.call(pipe, made.scales[1], steps=2, images=3))
    with guide(pipe, texts) as trace:
        together = made.call(pipe, made.scales[1], steps=2, images=3)
    for image, alone in enumerate(each):
        torch.testing.assert_close(together[image], alone[image], rtol=0, atol=1e-4)
    read = 3 if name == "QwenImagePipeline" else 0
    assert [record.rows_run for record in trace.steps] == [4 + read] * 2


def test_the_first_step_shows_the_shape_where_nothing_else_does() -> None:
    made = case("FluxPipeline")
    pipe = shared(made)
    assert [record.rows_run for record in drawn(made, pipe, "0")[1].steps] == [2, 1]
    assert [record.rows_run for record in drawn(made, pipe, "5 | cfg_zero_star()")[1].steps] == [1, 2]


@pytest.mark.parametrize("name", ["FluxKontextPipeline", "LongCatImageEditPipeline", "BriaFiboEditPipeline"])
def test_no_row_is_run_for_the_tokens_of_the_image_to_edit(name: str) -> None:
    made = case(name)
    trace = drawn(made, shared(made), "[1, 0]")[1]
    assert [record.rows_run for record in trace.steps] == [1, 1]
