"""A guider and the run around it: samplers, strength, runs one after another, errors, what it needs and says."""

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from cfglab.denoising.step_reader import read_steps
from cfglab.errors import InputError, MachineError
from cfglab.guidance import Guidance, MomentumGuidance, PredictionNorm
from cfglab.pipelines.guider.guider import to_guider
from cfglab.pipelines.guider.loop_step import LoopReader
from cfglab.schedules import Linear
from tests.pipelines.families import parts
from tests.pipelines.modular import MODULAR
from tests.pipelines.modular.oracles import Listed

SDXL = MODULAR["SDXL"]


@pytest.fixture(scope="module")
def built() -> Any:
    return SDXL.build()


@pytest.fixture
def pipe(built: Any) -> Any:
    """Modular SDXL; its sampler and guider may be replaced. Fails the test if its denoiser is not as it was."""
    scheduler = built.scheduler
    yield built
    built.update_components(scheduler=scheduler)
    assert type(built.unet) is diffusers.UNet2DConditionModel
    assert not built.unet._forward_pre_hooks
    assert not built.unet._forward_hooks


def sampler(pipe: Any, kind: str) -> Any:
    pipe.update_components(scheduler=getattr(diffusers, kind).from_config(pipe.scheduler.config))
    return pipe


@pytest.mark.parametrize(
    ("kind", "indices"),
    [
        ("EulerDiscreteScheduler", [0, 1, 2, 3]),
        ("HeunDiscreteScheduler", [0, 0, 1, 1, 2, 2, 3]),
        ("KDPM2DiscreteScheduler", [0, 0, 1, 1, 2, 2, 3]),
        ("DPMSolverMultistepScheduler", [0, 1, 2, 3]),
        ("DDIMScheduler", [0, 1, 2, 3]),
        ("PNDMScheduler", None),
    ],
)
def test_the_progress_and_sigma_of_every_call(pipe: Any, kind: str, indices: list[int] | None) -> None:
    guider = to_guider(Linear(max=8, min=2))
    ours = SDXL.run(SDXL.use(sampler(pipe, kind), guider), steps=4)
    known = read_steps(pipe.scheduler)
    assert [record.step for record in guider.trace.steps] == known
    if indices is not None:
        assert [step.index for step in known] == indices
    assert {step.count for step in known} == {known[-1].index + 1}
    scales = [float(Linear(max=8, min=2)(step)) for step in known]
    assert max(scales) == 8
    oracle = SDXL.run(SDXL.use(pipe, Listed([float(w) for w in scales])), steps=4)
    assert all(map(torch.equal, ours, oracle))


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "DDIMScheduler", "HeunDiscreteScheduler"])
def test_with_strength_the_run_is_what_is_left_of_it(pipe: Any, kind: str) -> None:
    guider = to_guider(Linear(max=8, min=2))
    SDXL.run(SDXL.use(sampler(pipe, kind), guider), steps=6, image=parts.pil(16), strength=0.5)
    seen = [record.step for record in guider.trace.steps]
    two = kind.startswith("Heun")
    assert [step.index for step in seen] == ([0, 0, 1, 1, 2] if two else [0, 1, 2])
    assert {step.count for step in seen} == {3}
    assert [step.timestep for step in seen] == pipe.scheduler.timesteps[-len(seen) :].tolist()
    if kind.startswith("Euler"):
        assert [step.host_sigma for step in seen] == pipe.scheduler.sigmas[-4:-1].tolist()
    assert guider.trace.steps[0].w == (8,)


def test_a_second_run_is_the_first_again_also_where_guidance_ended_early(pipe: Any) -> None:
    guider = to_guider(Guidance(Linear(max=8, min=2).inside(progress=(0, 0.5)), [MomentumGuidance()]))
    first = SDXL.run(SDXL.use(pipe, guider), steps=4)
    again = SDXL.run(pipe, steps=4)
    assert all(map(torch.equal, first, again))
    assert [record.rows_run for record in guider.trace.steps] == [2, 2, 1, 1]
    assert {record.run for record in guider.trace.steps} == {1}
    longer = SDXL.run(pipe, steps=5)
    assert len(longer) == len(guider.trace.steps) == 5


@pytest.mark.parametrize("name", ["Wan", "SD3", "Qwen-Image"])
def test_negative_embeddings_are_there_in_the_run_after_guidance_ended_early(name: str) -> None:
    modular = MODULAR[name]
    pipe = modular.use(modular.build(), to_guider(Linear(max=8, min=2).inside(progress=(0, 0.5))))
    first = modular.run(pipe, steps=4)
    assert all(map(torch.equal, modular.run(pipe, steps=4), first))


@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_run_broken_off_leaves_nothing_behind(pipe: Any, call: int) -> None:
    guidance = Guidance(Linear(max=8, min=2).inside(progress=(0, 0.7)), [PredictionNorm(), MomentumGuidance()])
    whole = SDXL.run(SDXL.use(pipe, to_guider(guidance)), steps=4)
    SDXL.use(pipe, to_guider(guidance))
    calls = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt

    handle = pipe.unet.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        SDXL.run(pipe, steps=4)
    handle.remove()
    assert type(pipe.unet) is diffusers.UNet2DConditionModel
    assert all(map(torch.equal, SDXL.run(pipe, steps=4), whole))


def test_switched_off_it_gives_the_conditional_prediction() -> None:
    modular = MODULAR["SD3"]  # the loop of SDXL switches guiders on
    pipe = modular.build()
    guider = to_guider(5)
    guider.disable()
    off = modular.run(modular.use(pipe, guider))
    assert guider.num_conditions == 1
    assert guider.trace.steps == []
    guider.enable()
    assert guider.num_conditions == 2
    assert not torch.equal(modular.run(pipe)[-1], off[-1])
    assert torch.equal(modular.run(modular.use(pipe, to_guider(1)))[-1], off[-1])
    assert pipe.guider.trace.rows_run == 3


def test_one_guider_in_two_places_is_one_run_and_two_are_two() -> None:
    modular = MODULAR["Wan 2.2"]
    pipe = modular.build()
    guidance = Guidance(Linear(max=8, min=2), [MomentumGuidance(space="model")])
    shared = to_guider(guidance)
    together = modular.run(modular.use(pipe, shared), steps=4)
    assert [record.step.index for record in shared.trace.steps] == [0, 1, 2, 3]
    first, second = to_guider(guidance), to_guider(guidance)
    pipe.update_components(guider=first, guider_2=second)
    apart = modular.run(pipe, steps=4)
    steps = [[record.step.index for record in one.trace.steps] for one in (first, second)]
    assert steps[0] + steps[1] == [0, 1, 2, 3]
    assert steps[1] != []
    assert {record.step.count for record in second.trace.steps} == {4}
    assert not torch.equal(together[-1], apart[-1])  # the second begins without the first one's momentum


def test_an_embedded_scale_is_one_number() -> None:
    assert to_guider(7.5).guidance_scale == 7.5
    for guidance in (Linear(max=8, min=2), [3, 4]):
        with pytest.raises(InputError, match="takes the scale as an input, once for the whole run; use a guider of a"):
            _ = to_guider(guidance).guidance_scale


def begin(guider: Any, components: Any) -> None:
    """What a Modular block does, whose pipeline is called `components`."""
    components.scheduler.set_timesteps(3)
    guider.set_state(step=0, num_inference_steps=3, timestep=components.scheduler.timesteps[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_embeds": (1, None)}, "no negative prompt_embeds at step 0, where 4 needs the unconditional"),
        (
            {"prompt_embeds": 1},
            "no negative inputs at step 0, .* pass a negative_prompt, which may be .., or negative embeddings",
        ),
        ({"a": (1,), "b": (1, None), "c": (None, None)}, "no negative a or b at step 0"),
    ],
)
def test_a_call_without_negative_embeddings_is_refused(pipe: Any, given: dict[str, Any], words: str) -> None:
    guider = to_guider(4)
    begin(guider, pipe)
    with pytest.raises(InputError, match=words):
        guider.prepare_inputs(given)
    fields = {
        key: tuple(f"{key}{i}" for i in range(2)) if isinstance(one, tuple) else key for key, one in given.items()
    }
    state = SimpleNamespace(**{f"{key}0": one[0] for key, one in given.items() if isinstance(one, tuple)})
    with pytest.raises(InputError, match=words):
        guider.prepare_inputs_from_block_state(state, fields)


def test_a_guider_outside_of_its_place_says_so(pipe: Any) -> None:
    guider = to_guider(4)
    with pytest.raises(InputError, match=r"outside of a pipeline: .* guider\.bind\(scheduler\) .*start\(\)\.combine"):
        guider.set_state(0, 3, torch.tensor(1.0))
    with pytest.raises(InputError, match="prepare_inputs before set_state"):
        guider.prepare_inputs({})
    with pytest.raises(InputError, match="0 predictions for the 0 calls of this step"):
        guider([])
    with pytest.raises(InputError, match="LTX2Guidance, which works on x0"):
        begin(guider, SimpleNamespace(scheduler=pipe.scheduler, audio_guider=None))


def test_a_loop_that_copies_its_timesteps_is_counted(pipe: Any) -> None:
    components, guider = pipe, to_guider(4)
    pipe.scheduler.set_timesteps(3)
    for index in range(3):
        guider.set_state(index, 3, float(components.scheduler.timesteps[index]))
        assert guider._loop_step == read_steps(pipe.scheduler)[index]
    with pytest.raises(InputError, match="call 4 of a run of 3 calls"):
        guider.set_state(3, 3, 0.0)


def test_going_back_is_a_new_run_also_on_the_same_timesteps(pipe: Any) -> None:
    pipe.scheduler.set_timesteps(4)
    loop, seen = LoopReader(), []
    for counter in (0, 1, 2, 0, 1, 1):
        step, new = loop.step(pipe.scheduler, counter, pipe.scheduler.timesteps[counter])
        seen.append((step.index, new))
    assert seen == [(0, True), (1, False), (2, False), (0, True), (1, False), (1, True)]


def test_guiders_of_another_diffusers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(diffusers.BaseGuidance, "_prepare_batch")
    with pytest.raises(MachineError, match=r"has guiders without _prepare_batch: cfglab knows those of 0\.42; install"):
        to_guider(4)
