"""guide() beside all else that may be done to a pipeline: offload, casting, adapters, compiling, caches, hooks."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families import Case, case
from tests.pipelines.reference_loop import moved

CPU = torch.device("cpu")
SCALES = (3.0, 1.0, 5.0)


def schedule(step: Step) -> float:
    return SCALES[step.index]


def same_as_untouched(made: Case, pipe: Any) -> None:
    """Twice in one context and once more, at one scale and on a schedule; and untouched afterwards."""
    before = made.call(pipe, 3.0, steps=3)
    wanted = moved(pipe, made, SCALES, steps=3)
    kinds = {name: type(part) for name, part in pipe.components.items()}
    with guide(pipe, 3.0):
        for _ in range(2):
            assert torch.equal(made.call(pipe, 5.0, steps=3), before)
    with guide(pipe, schedule) as trace:
        first, second = (made.call(pipe, 5.0, steps=3) for _ in range(2))
    assert torch.equal(first, second)
    assert (first - wanted).norm() <= 1e-5 * wanted.norm()
    assert trace.rows_saved == 2  # one a run
    assert torch.equal(made.call(pipe, 3.0, steps=3), before)
    assert {name: type(part) for name, part in pipe.components.items()} == kinds
    assert not torch.equal(made.call(pipe, 5.0, steps=3), before)


def layers(pipe: Any) -> None:
    from peft import LoraConfig

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    getattr(pipe, "unet", getattr(pipe, "transformer", None)).add_adapter(config)


def denoiser(pipe: Any) -> Any:
    return getattr(pipe, "unet", getattr(pipe, "transformer", None))


def sequential(pipe: Any) -> None:
    from accelerate import cpu_offload

    cpu_offload(denoiser(pipe), CPU)


def louder(_module: Any, _args: Any, output: Any) -> Any:
    return (output[0] * 1.01,)


louder.row_independent = True  # type: ignore[attr-defined]


WAYS: dict[str, Callable[[Any], Any]] = {
    "model offload": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "sequential offload": sequential,
    "group offload of the pipeline": lambda pipe: pipe.enable_group_offload(
        onload_device=CPU, offload_type="leaf_level"
    ),
    "group offload of the denoiser": lambda pipe: denoiser(pipe).enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type="block_level", num_blocks_per_group=1
    ),
    "layerwise casting": lambda pipe: denoiser(pipe).enable_layerwise_casting(torch.float16, torch.float32),
    "attention slicing": lambda pipe: pipe.enable_attention_slicing(1),
    "LoRA": layers,
    "hooks of one's own": lambda pipe: denoiser(pipe).register_forward_hook(louder),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_beside(way: str, name: str) -> None:
    if way == "LoRA":
        pytest.importorskip("peft")
    if name == "FluxPipeline" and way == "attention slicing":
        pytest.skip("Flux has none")
    made = case(name)
    pipe = made.build()
    WAYS[way](pipe)
    same_as_untouched(made, pipe)


def test_offload_that_is_enabled_inside() -> None:
    made = case("StableDiffusionPipeline")
    pipe = made.build()
    before = made.call(pipe, 3.0, steps=3)
    with guide(pipe, 3.0):
        pipe.enable_model_cpu_offload(device="cpu")
        for _ in range(2):
            assert torch.equal(made.call(pipe, 5.0, steps=3), before)
    assert torch.equal(made.call(pipe, 3.0, steps=3), before)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_copied_and_saved_while_it_is_guided(name: str, tmp_path: Path) -> None:
    """A copy, and what is loaded again, are of the classes they were of, and follow nothing."""
    made = case(name)
    pipe = made.build()
    before = made.call(pipe, 3.0, steps=2)
    kinds = {part: type(value) for part, value in pipe.components.items()}
    with guide(pipe, 7.0) as trace:
        copied = copy.deepcopy(pipe)
        pipe.save_pretrained(tmp_path)
        assert torch.equal(made.call(copied, 3.0, steps=2), before)
        assert not trace.steps
        assert not torch.equal(made.call(pipe, 3.0, steps=2), before)  # and it is itself guided still
    assert {part: type(value) for part, value in copied.components.items()} == kinds
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == made.cls
    loaded = type(pipe).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    # weights that were read from a file may lie at another alignment, at which some kernels round otherwise
    torch.testing.assert_close(made.call(loaded, 3.0, steps=2), before, rtol=1e-5, atol=1e-5)


COMPILED: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, int, int]]] = {
    # graphs: untouched, then guided (the same ones), then for rows that are left out
    "whole": (lambda pipe, backend: wrap(pipe, fullgraph=True, backend=backend), (1, 1, 2)),
    "whole, dynamic": (lambda pipe, backend: wrap(pipe, fullgraph=True, dynamic=True, backend=backend), (1, 1, 2)),
    "in place": (lambda pipe, backend: denoiser(pipe).compile(fullgraph=True, backend=backend), (1, 1, 2)),
    "repeated blocks": (
        lambda pipe, backend: denoiser(pipe).compile_repeated_blocks(fullgraph=True, backend=backend),
        (2, 2, 4),
    ),
}
LARGE = "StableDiffusionPipeline"  # its UNet takes dynamo half a minute


def wrap(pipe: Any, **options: Any) -> None:
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    setattr(pipe, name, torch.compile(denoiser(pipe), **options))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(("StableDiffusion3Pipeline", way) for way in COMPILED if way != "repeated blocks"),  # of which it has none
        *(pytest.param(LARGE, way, marks=[] if way == "repeated blocks" else [pytest.mark.slow]) for way in COMPILED),
    ],
)
def test_compiled(name: str, way: str) -> None:
    made = case(name)
    compiled, graphs = COMPILED[way]
    made_graphs: list[int] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        made_graphs.append(1)
        return graph.forward

    torch._dynamo.reset()
    pipe = made.build()
    compiled(pipe, backend)
    counts = []
    before = made.call(pipe, 3.0, steps=3)
    counts.append(len(made_graphs))
    with guide(pipe, 3.0):
        assert torch.equal(made.call(pipe, 5.0, steps=3), before)
    counts.append(len(made_graphs))
    for _ in range(2):  # the second context makes no graph again
        with guide(pipe, schedule):
            made.call(pipe, 5.0, steps=3)
    counts.append(len(made_graphs))
    assert tuple(counts) == graphs
    assert torch.equal(made.call(pipe, 3.0, steps=3), before)
    torch._dynamo.reset()


def first_block(_pipe: Any) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig(threshold=0.3)


def broadcast(pipe: Any) -> Any:
    from diffusers import PyramidAttentionBroadcastConfig

    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        spatial_attention_block_identifiers=["transformer_blocks"],
        current_timestep_callback=lambda: pipe._current_timestep,
    )


def faster(pipe: Any) -> Any:
    from diffusers import FasterCacheConfig

    return FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        unconditional_batch_skip_range=2,
        unconditional_batch_timestep_skip_range=(-1, 1001),
        spatial_attention_block_identifiers=["transformer_blocks"],
        tensor_format="BCFHW",
        current_timestep_callback=lambda: pipe._current_timestep,
    )


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FluxPipeline", first_block),
        ("WanPipeline", first_block),
        ("LTXPipeline", broadcast),
        ("CogVideoXPipeline", faster),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:every row is run at every step")
def test_caches_keep_every_row(name: str, config: Callable[[Any], Any]) -> None:
    """What a cache kept at one step must have the rows of the next, so none is left out: right, and nothing saved."""
    made = case(name)
    pipe = made.build()
    plain = made.call(pipe, 3.0, steps=3)
    denoiser(pipe).enable_cache(config(pipe))
    cached = made.call(pipe, 3.0, steps=3)
    assert not torch.equal(cached, plain)  # it does something
    with guide(pipe, 3.0):
        assert torch.equal(made.call(pipe, 5.0, steps=3), cached)
    wanted: Tensor = moved(pipe, made, SCALES, steps=3)
    with guide(pipe, schedule) as trace:
        guided = made.call(pipe, 5.0, steps=3)
    assert (guided - wanted).norm() <= 1e-5 * wanted.norm()
    assert (trace.rows_run, trace.rows_saved) == (6, 0)
    denoiser(pipe).disable_cache()
    with guide(pipe, schedule) as trace:
        made.call(pipe, 5.0, steps=3)
    assert trace.rows_saved == 1
