"""Rows are left out and shared only where the network is known to keep them apart; else every row is run, and said."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfglab.guidance import Guidance
from cfglab.guidance.methods.pag import PAG
from cfglab.guidance.perturbations.weak_models import register_weak_model
from cfglab.pipelines import attach, detach, guide
from cfglab.pipelines.interception.row_mixing import Watched
from cfglab.step import Step
from tests.pipelines.families import Case, case
from tests.pipelines.mixers import MIXERS, Shared, Undo, hook
from tests.pipelines.reference_loop import moved

SCALES = (3.0, 1.0, 5.0)
SAID = "every row is run at every step"


def schedule(step: Step) -> float:
    return SCALES[step.index]


@cache
def pipe_of(name: str) -> Any:
    pipe = case(name).build()
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval()
    return pipe


@contextmanager
def put(mixer: Callable[[Any], Undo], network: Any) -> Iterator[None]:
    undo = mixer(network)
    try:
        yield
    finally:
        undo()


def alike() -> list[torch.Generator]:
    """Two images from one start: rows that are equal."""
    return [torch.Generator().manual_seed(7) for _ in range(2)]


def drawn(made: Case, pipe: Any, scale: float, **more: Any) -> Tensor:
    return made.call(pipe, scale, steps=3, images=2, generator=alike(), **more)


@cache
def plain() -> Tensor:
    return drawn(case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline"), 3.0)


@pytest.mark.parametrize("name", MIXERS)
def test_a_network_that_may_mix_rows_runs_all_of_them(name: str) -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    with put(MIXERS[name], pipe.unet):
        untouched = drawn(made, pipe, 3.0)
    with put(MIXERS[name], pipe.unet):
        wanted = moved(pipe, made, SCALES, images=2, generator=alike(), steps=3)
    assert not torch.equal(untouched, plain())  # it does something
    with put(MIXERS[name], pipe.unet), pytest.warns(UserWarning, match=SAID) as said, guide(pipe, 3.0) as trace:
        assert torch.equal(drawn(made, pipe, 5.0), untouched)
    assert (trace.rows_run, trace.rows_saved) == (12, 0)
    assert len(said) == 1
    assert "share_rows=True" in str(said[0].message)
    assert "\n" not in str(said[0].message)
    with put(MIXERS[name], pipe.unet), pytest.warns(UserWarning, match=SAID), guide(pipe, schedule) as trace:
        guided = drawn(made, pipe, 5.0)
    assert [record.rows_run for record in trace.steps] == [4] * 3
    assert (guided - wanted).norm() <= 1e-6 * wanted.norm()
    with guide(pipe, schedule) as trace:  # taken back, and nothing is left of it
        drawn(made, pipe, 5.0)
    assert [record.rows_run for record in trace.steps] == [2, 1, 2]


@pytest.mark.parametrize("what", ["a hook", "processors"])
def test_what_comes_during_a_run_is_seen_at_the_next_step(what: str) -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    before = pipe.unet.attn_processors

    def callback(pipe: Any, index: int, _time: Any, values: Any) -> Any:
        if index == 0:
            put_in.append(hook(pipe.unet) if what == "a hook" else pipe.unet.set_attn_processor(Shared()))
        return values

    def taken_back() -> None:
        _ = [undo() for undo in put_in if undo]
        put_in.clear()
        pipe.unet.set_attn_processor(dict(before))

    put_in: list[Any] = []
    wanted = moved(pipe, made, SCALES, images=2, generator=alike(), steps=3, callback=callback)
    taken_back()
    with pytest.warns(UserWarning, match=SAID), guide(pipe, schedule) as trace:
        guided = drawn(made, pipe, 5.0, callback=callback)
    taken_back()
    assert [record.rows_run for record in trace.steps] == [2, 4, 4]
    assert (guided - wanted).norm() <= 1e-6 * wanted.norm()


def test_a_further_prediction_runs_all_rows_too() -> None:
    """Perturbed attention at the third of three steps only: its pass is the pipeline's batch, as the plain one is."""
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    rows: list[int] = []

    def counted(network: Any) -> Undo:
        return network.register_forward_hook(lambda _m, _args, output: rows.append(len(output[0]))).remove

    perturbed = Guidance(schedule, [PAG(layers=("mid",))])
    with put(counted, pipe.unet), pytest.warns(UserWarning, match=SAID), guide(pipe, perturbed) as trace:
        drawn(made, pipe, 5.0)
    assert set(rows) == {4}
    assert trace.rows_run == sum(rows) > 12
    assert trace.rows_saved == 0
    for record in trace.steps:
        assert sum(run for run, _ in record.shares) == record.rows_run
        assert sum(saved for _, saved in record.shares) == record.rows_saved


def test_a_weak_model_that_mixes_rows_is_given_all_of_them() -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    weak = case("StableDiffusionPipeline").build().unet.eval()
    rows: list[int] = []
    weak.register_forward_hook(lambda _m, _args, output: rows.append(len(output[0])))
    register_weak_model("counted", weak)
    with pytest.warns(UserWarning, match="weak model counted"), guide(pipe, "1 | autoguidance(w=2, model=counted)"):
        drawn(made, pipe, 5.0)
    assert set(rows) == {4}


def test_a_control_network_that_mixes_rows() -> None:
    name = "StableDiffusionControlNetPipeline"
    made, pipe = case(name), pipe_of(name)
    with put(hook, pipe.controlnet):
        untouched = drawn(made, pipe, 3.0)
        wanted = moved(pipe, made, SCALES, images=2, generator=alike(), steps=3)
        with pytest.warns(UserWarning, match="in controlnet the hook"), guide(pipe, 3.0):
            assert torch.equal(drawn(made, pipe, 5.0), untouched)
        with pytest.warns(UserWarning, match=SAID), guide(pipe, schedule) as trace:
            guided = drawn(made, pipe, 5.0)
    assert trace.rows_saved == 0
    assert (guided - wanted).norm() <= 1e-6 * wanted.norm()


def test_two_calls_a_step_run_every_row_of_each() -> None:
    made, pipe = case("FluxPipeline"), pipe_of("FluxPipeline")

    def mixing(network: Any) -> Undo:
        """Keeps the sum of all calls, and mixes the rows of one."""
        seen = []

        def add(_module: Any, _args: Any, output: Any) -> Any:
            seen.append(output.mean(0, keepdim=True))
            return output + 0.3 * sum(seen)

        return network.x_embedder.register_forward_hook(add).remove

    with put(mixing, pipe.transformer):
        untouched = drawn(made, pipe, 3.0)
    with put(mixing, pipe.transformer):
        wanted = moved(pipe, made, SCALES, images=2, generator=alike(), steps=3)
    with put(mixing, pipe.transformer), pytest.warns(UserWarning, match=SAID), guide(pipe, 3.0):
        assert torch.equal(drawn(made, pipe, 5.0), untouched)
    with put(mixing, pipe.transformer), pytest.warns(UserWarning, match=SAID), guide(pipe, schedule) as trace:
        guided = drawn(made, pipe, 5.0)
    assert [(record.rows_run, record.rows_saved) for record in trace.steps] == [(4, 0)] * 3
    assert (guided - wanted).norm() <= 1e-6 * wanted.norm()


# -- the user's word --------------------------------------------------------------------------------------------------


def test_share_rows_is_followed_without_a_word() -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    handle = pipe.unet.register_forward_hook(lambda _m, _i, output: (output[0] * 1.01,))
    try:
        with guide(pipe, schedule, share_rows=True) as trace:
            shared = drawn(made, pipe, 5.0)
        assert [record.rows_run for record in trace.steps] == [2, 1, 2]
        with guide(pipe, schedule, share_rows=False) as trace:
            full = drawn(made, pipe, 5.0)
        assert [record.rows_run for record in trace.steps] == [4] * 3
        assert (shared - full).norm() <= 1e-5 * full.norm()
        trace = attach(pipe, schedule, share_rows=True)
        drawn(made, pipe, 5.0)
        detach(pipe)
        assert [record.rows_run for record in trace.steps] == [2, 1, 2]
    finally:
        handle.remove()


def test_a_hook_may_say_itself_that_it_keeps_rows_apart() -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")

    def louder(_module: Any, _args: Any, output: Any) -> Any:
        return (output[0] * 1.01,)

    louder.row_independent = True  # type: ignore[attr-defined]
    with put(lambda unet: unet.register_forward_hook(louder).remove, pipe.unet), guide(pipe, schedule) as trace:
        drawn(made, pipe, 5.0)
    assert [record.rows_run for record in trace.steps] == [2, 1, 2]


# -- what keeps rows apart still saves them ---------------------------------------------------------------------------


def in_eval(network: Any) -> Undo:
    undo = MIXERS["dropout"](network)
    network.eval()
    return undo


def trained_without_dropout(network: Any) -> Undo:
    network.train()
    return network.eval


def with_processors(name: str) -> Callable[[Any], Undo]:
    def change(network: Any) -> Undo:
        import diffusers.models.attention_processor as stock

        before = network.attn_processors
        network.set_attn_processor(getattr(stock, name)())
        return lambda: network.set_attn_processor(dict(before))

    return change


def free_u(network: Any) -> Undo:
    network.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    return network.disable_freeu


def weight_normed(network: Any) -> Undo:
    nn.utils.parametrizations.weight_norm(network.conv_out)
    return lambda: nn.utils.parametrize.remove_parametrizations(network.conv_out, "weight")


APART: dict[str, Callable[[Any], Undo]] = {
    "nothing": lambda _: lambda: None,
    "LoRA in eval, with dropout": in_eval,
    "training mode without dropout": trained_without_dropout,
    "the older attention": with_processors("AttnProcessor"),
    "fused attention": with_processors("FusedAttnProcessor2_0"),
    "FreeU": free_u,
    "a parametrised layer": weight_normed,
}


@pytest.mark.parametrize("name", APART)
def test_what_keeps_rows_apart_still_saves_them(name: str) -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    if name == "fused attention":
        pipe = case("StableDiffusionPipeline").build()
        pipe.unet.fuse_qkv_projections()
    with put(APART[name], pipe.unet), guide(pipe, schedule) as trace:
        drawn(made, pipe, 5.0)
    assert [(record.rows_run, record.rows_saved) for record in trace.steps] == [(2, 2), (1, 3), (2, 2)]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_forward_that_was_compiled_is_read_as_what_was_compiled() -> None:
    unet = case("StableDiffusionPipeline").build().unet.eval()
    own = unet.forward
    assert Watched(torch.compile(unet)).reason() == ""
    unet.forward = torch.compile(own)
    assert Watched(unet).reason() == ""
    unet.forward = torch.compile(lambda *args, **kwargs: own(*args, **kwargs))
    assert "forward of UNet2DConditionModel" in Watched(unet).reason()
    unet.forward = functools.partial(own)
    assert Watched(unet).reason() == ""
