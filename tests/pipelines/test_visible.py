"""What others see of a pipeline that is guided: objects of their own classes, and networks that may be exchanged."""

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Iterator
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from cfglab.denoising.intercepted import NAME, Interception
from cfglab.errors import InputError
from cfglab.pipelines import Profile, attach, detach, guide
from tests.pipelines.families import case


@cache
def made() -> Any:
    return case("StableDiffusionPipeline").build()


@cache
def other_network() -> Any:
    """Another network of the same class."""
    network = copy.deepcopy(made().unet)
    with torch.no_grad():
        for parameter in network.conv_out.parameters():
            parameter.mul_(0.9)
    return network


@pytest.fixture
def pipe() -> Iterator[Any]:
    """Fails the test if the pipeline, its network or its class are not as they were."""
    pipe = made()
    unet, keys, members = pipe.unet, set(vars(pipe.unet)), members_of(pipe)
    yield pipe
    pipe.unet = unet
    assert set(vars(unet)) == keys
    assert members_of(pipe) == members


def members_of(pipe: Any) -> dict[str, Any]:
    """What the pipeline's classes define, and the methods of its network that say how it is called."""
    mine = {f"{kind}.{name}": value for kind in type(pipe).__mro__ for name, value in vars(kind).items()}
    network = {name: getattr(type(pipe.unet), name, None) for name in ("__call__", "forward", "cache_context")}
    copied = [name for name in mine if name.endswith("__slotnames__")]  # which copying a thing notes on its class
    return {name: value for name, value in (mine | network).items() if name not in copied}


def draw(pipe: Any, steps: int = 3, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe("a cat", num_inference_steps=steps, generator=generator, output_type="latent", **more).images


def test_the_classes_are_what_they_are_compared_with(pipe: Any) -> None:
    registry = {diffusers.UNet2DConditionModel: "a UNet", diffusers.StableDiffusionPipeline: "a pipeline"}
    seen = []

    def look(given: Any, *_: Any) -> dict[str, Any]:
        seen.append((registry[type(given)], registry[given.__class__], registry[type(given.unet)]))
        return {}

    with guide(pipe, 3.0):
        look(pipe)
        draw(pipe, callback_on_step_end=look)
        for copied in (copy.copy(pipe.unet), copy.deepcopy(pipe.unet), pickle.loads(pickle.dumps(pipe.unet))):
            assert type(copied) is diffusers.UNet2DConditionModel
            assert copied.__dict__.get(NAME) is None
    assert set(seen) == {("a pipeline", "a pipeline", "a UNet")}


class Small(nn.Module):
    """A network that is compiled in no time, called as a UNet is."""

    row_independent = True
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, config: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.mix, self.text = nn.Conv2d(4, 4, 1), nn.Linear(config.cross_attention_dim, 4)

    def forward(
        self,
        sample: Tensor,
        timestep: Any,  # noqa: ARG002
        encoder_hidden_states: Tensor,
        timestep_cond: Any = None,  # noqa: ARG002
        cross_attention_kwargs: Any = None,  # noqa: ARG002
        added_cond_kwargs: Any = None,  # noqa: ARG002
        return_dict: bool = True,  # noqa: ARG002
    ) -> tuple[Tensor]:
        return (self.mix(sample) + self.text(encoder_hidden_states.mean(1))[:, :, None, None],)


def compiled(pipe: Any, way: str) -> None:
    if way == "in place":
        pipe.unet.compile(backend="eager")
    else:
        pipe.unet = torch.compile(pipe.unet, backend="eager")


@pytest.mark.parametrize("inside", [False, True], ids=["before", "inside"])
@pytest.mark.parametrize("way", ["torch.compile", "in place"])
def test_networks_compiled_before_and_inside_are_guided(pipe: Any, way: str, inside: bool) -> None:
    torch._dynamo.reset()
    pipe.unet = plain = Small(pipe.unet.config)
    wanted, untouched = draw(pipe, guidance_scale=5.0), draw(pipe, guidance_scale=3.0)
    if not inside:
        compiled(pipe, way)
    torch._dynamo.utils.counters.clear()
    with guide(pipe, 5.0) as trace:
        if inside:
            compiled(pipe, way)
        for _ in range(2):
            assert torch.equal(draw(pipe), wanted)
        assert len(trace.steps) == 6
        assert type(pipe.unet).__name__ == ("Small" if way == "in place" else "OptimizedModule")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert not isinstance(vars(plain).get(NAME), Interception)
    assert not isinstance(vars(pipe.unet).get(NAME), Interception)
    assert torch.equal(draw(pipe, guidance_scale=3.0), untouched)
    torch._dynamo.reset()


def test_a_compiled_network_is_still_compiled_when_guidance_has_ended() -> None:
    network: Any = nn.Linear(2, 2)
    network.compile(backend="eager")
    compiled = vars(network)[NAME]
    from cfglab.denoising.intercepted import intercept, restore

    interception = intercept(network)
    assert bool(vars(network)[NAME])  # "is it compiled?", as peft asks
    restore(network, interception)
    assert vars(network)[NAME] is compiled
    assert not Interception(nn.Linear(2, 2))


@pytest.mark.parametrize("hold", ["guide", "attach"])
def test_a_network_put_in_the_place_of_another_is_guided_and_the_other_is_free(pipe: Any, hold: str) -> None:
    old, new = pipe.unet, other_network()
    pipe.unet = new
    wanted = draw(pipe, guidance_scale=5.0)
    pipe.unet = old
    context = guide(pipe, 5.0) if hold == "guide" else None
    if context is None:
        attach(pipe, 5.0)
    else:
        context.__enter__()
    first = draw(pipe)
    assert not torch.equal(first, wanted)
    pipe.unet = new
    assert NAME not in vars(old)
    assert torch.equal(draw(pipe), wanted)
    vars(pipe)["unet"] = old  # past the pipeline's own way of being told
    assert torch.equal(draw(pipe), first)
    if context is None:
        detach(pipe)
    else:
        context.__exit__(None, None, None)
    assert NAME not in vars(new)


def test_a_network_exchanged_in_the_middle_of_a_run(pipe: Any) -> None:
    old, new = pipe.unet, other_network()

    def exchange(given: Any, index: int, *_: Any) -> dict[str, Any]:
        given.unet = new if index == 0 else given.unet
        return {}

    wanted = draw(pipe, guidance_scale=5.0, callback_on_step_end=exchange)
    pipe.unet = old
    with guide(pipe, 5.0) as trace:
        assert torch.equal(draw(pipe, callback_on_step_end=exchange), wanted)
    assert [record.rows_run for record in trace.steps] == [2, 2, 2]
    assert NAME not in vars(new)


class Parallel(nn.DataParallel):  # type: ignore[type-arg]
    """On a CPU. Pipelines read attributes of their network, as FSDP passes them on."""

    row_independent = True

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


class Passing(nn.Module):
    """Whatever it is given, given to the network inside."""

    row_independent = True

    def __init__(self, inside: Any) -> None:
        super().__init__()
        self.inside = inside
        self.config, self.dtype, self.device = inside.config, inside.dtype, inside.device

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        ("StableDiffusionPipeline", Passing),
        ("StableDiffusionPipeline", lambda inside: Parallel(Passing(inside))),
        ("StableDiffusion3Pipeline", Parallel),
        ("FluxPipeline", Parallel),
        ("FluxPipeline-embedded", Parallel),
    ],
)
def test_networks_inside_modules_that_pass_calls_on(name: str, wrapper: Any) -> None:
    made = case(name)
    pipe, (network,) = made.build(), made.denoisers
    setattr(pipe, network, wrapper(getattr(pipe, network)))
    wanted = made.call(pipe, 5.0, steps=2)
    with guide(pipe, 5.0) as trace:
        assert torch.equal(made.call(pipe, 3.0, steps=2), wanted)
    assert len(trace.steps) == 2


def test_adapters_around_a_network() -> None:
    peft = pytest.importorskip("peft")
    made = case("StableDiffusionPipeline")
    pipe = made.build()
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipe.unet = peft.get_peft_model(pipe.unet, config)
    wanted = made.call(pipe, 5.0, steps=2)
    with guide(pipe, 5.0):
        assert torch.equal(made.call(pipe, 3.0, steps=2), wanted)


def test_what_is_no_module_is_named(pipe: Any) -> None:
    class Engine:
        config = pipe.unet.config

    vars(pipe)["unet"] = Engine()
    words = "unet of this StableDiffusionPipeline is a Engine, not a torch.nn.Module: its calls cannot be seen"
    with pytest.raises(InputError, match=words), guide(pipe, 5.0):
        draw(pipe)
    with pytest.raises(InputError, match="no transformer in this StableDiffusionPipeline"):  # noqa: SIM117
        with guide(pipe, 5.0, profile=Profile(denoisers=("transformer",))):
            draw(pipe)


def test_a_pipeline_that_was_attached_and_forgotten_frees_its_network(pipe: Any) -> None:
    one = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    one.set_progress_bar_config(disable=True)
    call = diffusers.StableDiffusionPipeline.__call__
    attach(one, 5.0)
    draw(one)
    assert diffusers.StableDiffusionPipeline.__call__ is not call
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert diffusers.StableDiffusionPipeline.__call__ is call
    assert NAME not in vars(pipe.unet)
    with guide(pipe, 5.0):
        guided = draw(pipe)
    assert torch.equal(guided, draw(pipe, guidance_scale=5.0))


def test_a_pipeline_made_from_one_that_is_guided_is_not_guided(pipe: Any) -> None:
    untouched = draw(pipe, guidance_scale=5.0)
    with guide(pipe, 2.0) as trace:
        other = diffusers.StableDiffusionPipeline.from_pipe(pipe)
        other.set_progress_bar_config(disable=True)
        assert torch.equal(draw(other, guidance_scale=5.0), untouched)
        copied = copy.copy(pipe)
        assert torch.equal(draw(copied, guidance_scale=5.0), untouched)
    assert not trace.steps


def test_a_subclass_and_its_parent_are_guided_each_by_itself(pipe: Any) -> None:
    class Mine(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    mine = Mine(**pipe.components, requires_safety_checker=False)
    mine.set_progress_bar_config(disable=True)
    wanted = [draw(pipe, guidance_scale=scale) for scale in (5.0, 2.0)]
    with guide(pipe, 5.0) as outer, guide(mine, 2.0, profile=Profile()) as inner:
        assert torch.equal(draw(pipe), wanted[0])
        assert torch.equal(draw(mine), wanted[1])
    assert (len(outer.steps), len(inner.steps)) == (3, 3)


def test_replicas_that_share_the_dictionary_of_a_network_run_themselves() -> None:
    """What DataParallel makes on several devices."""
    from cfglab.denoising.intercepted import intercept, restore

    network: Any = nn.Linear(2, 2)
    interception = intercept(network)
    replica = network._replicate_for_data_parallel()
    replica.weight, replica.bias = torch.zeros(2, 2), torch.ones(2)
    assert torch.equal(replica(torch.ones(1, 2)), torch.ones(1, 2))
    restore(network, interception)


def test_a_network_compiled_and_saved_inside_by_itself_is_not_guided(pipe: Any) -> None:
    pipe.unet = network = Small(pipe.unet.config)
    given = torch.randn(1, 4, 8, 8), 7, torch.randn(1, 77, network.config.cross_attention_dim)
    torch._dynamo.reset()
    with torch.no_grad():
        (wanted,) = network(*given)
        with guide(pipe, 5.0):
            assert torch.equal(torch.compile(network, backend="eager", fullgraph=True)(*given)[0], wanted)
            torch.save(network, buffer := io.BytesIO())
    torch._dynamo.reset()
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False).__dict__.get(NAME) is None
