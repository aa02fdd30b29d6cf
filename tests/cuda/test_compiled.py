"""A compiled denoiser under guide(): no graph is broken, and switching guidance off and on compiles nothing again.

Counted on the CPU with a compiler that only traces, so that no C++ compiler is needed.
"""

from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import cfglab as cl
from tests.cuda.models import SD_SCHEDULER

SWITCHES = "table([5, 1, 5, 1, 1, 5, 5, 1])"
"""w of each of eight steps: guidance is off and on by turns."""
STEPS = 8


CONFIG: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8,),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


class Small(diffusers.UNet2DConditionModel):  # type: ignore[misc]
    """A UNet of two layers, which torch traces in no time."""

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        """The first and the last convolution, and the text's mean."""
        text = encoder_hidden_states.mean(1)[:, :, None, None]
        return (self.conv_out(self.conv_in(sample) + text + timestep / 1000),)


@pytest.fixture(scope="module", params=[Small, pytest.param(diffusers.UNet2DConditionModel, marks=pytest.mark.slow)])
def network(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param(**CONFIG).eval()


@pytest.fixture
def pipe(network: Any) -> Iterator[Any]:
    """A pipeline whose denoiser can be compiled; not compiled afterwards."""
    pipe = diffusers.StableDiffusionPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=network,
        safety_checker=None,
        feature_extractor=None,
        scheduler=diffusers.DDIMScheduler(**SD_SCHEDULER),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    torch.compiler.reset()
    counters.clear()
    yield pipe
    network._compiled_call_impl = None
    torch.compiler.reset()


def call(pipe: Any, images: int = 1) -> Tensor:
    text = torch.randn(images, 5, 8, generator=torch.Generator().manual_seed(0))
    seeds = [torch.Generator().manual_seed(seed) for seed in range(images)]
    with torch.no_grad():
        result: Tensor = pipe(
            prompt_embeds=text,
            negative_prompt_embeds=text.flip(1),
            num_inference_steps=STEPS,
            generator=seeds,
            output_type="latent",
            height=64,
            width=64,
            return_dict=False,
        )[0]
    return result


def compiled_graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def test_one_graph_for_each_number_of_rows_and_none_again(pipe: Any) -> None:
    with cl.guide(pipe, SWITCHES, share_rows=True):
        expected = call(pipe)
    pipe.unet.compile(fullgraph=True, backend="eager")
    with cl.guide(pipe, SWITCHES, share_rows=True) as trace:
        result = call(pipe)
        graphs = compiled_graphs()
        call(pipe)
    assert [record.rows_run for record in trace.steps[:STEPS]] == [2, 1, 2, 1, 1, 2, 2, 1]
    assert graphs == 2  # torch gives a batch of one row a graph of its own
    assert compiled_graphs() == graphs
    assert not counters["graph_break"]
    torch.testing.assert_close(result, expected)


def test_a_dynamic_graph_serves_every_number_of_rows(pipe: Any) -> None:
    pipe.unet.compile(fullgraph=True, backend="eager", dynamic=True)
    with cl.guide(pipe, SWITCHES, share_rows=True) as trace:
        call(pipe, images=3)
    assert [record.rows_run for record in trace.steps] == [6, 3, 6, 3, 3, 6, 6, 3]
    assert compiled_graphs() == 1
    assert not counters["graph_break"]


def test_a_graph_that_runs_all_rows_is_compiled_once(pipe: Any) -> None:
    pipe.unet.compile(fullgraph=True, backend="aot_eager")
    with cl.guide(pipe, f"{SWITCHES} | apg(momentum=-0.5)", share_rows=False) as trace:
        call(pipe)
    assert {record.rows_run for record in trace.steps} == {2}
    assert compiled_graphs() == 1
    assert not counters["graph_break"]


def test_a_compiled_denoiser_without_guidance_has_the_same_graph(pipe: Any) -> None:
    pipe.unet.compile(fullgraph=True, backend="eager")
    call(pipe)
    untouched = compiled_graphs()
    with cl.guide(pipe, 5.0, share_rows=True):
        call(pipe)
    assert (untouched, compiled_graphs()) == (1, 1)
