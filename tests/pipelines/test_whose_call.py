"""Who calls a network while a guided run is under way: only the pipeline's own loop is guided, and nobody else."""

import asyncio
import contextvars
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import diffusers
import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from cfglab.errors import InputError
from cfglab.pipelines import Profile, attach, detach, guide
from cfglab.step import Step
from tests.pipelines.families import case

STEPS = 4


def falling(step: Step) -> float:
    """Off at the last step, so that rows are left out."""
    return 1.0 + step.count - 1 - step.index


def ddim() -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


@cache
def made() -> Any:
    pipe = case("StableDiffusionPipeline").build()
    pipe.scheduler = ddim()
    return pipe


@pytest.fixture
def pipe() -> Any:
    """A pipeline whose network and class are, after the test, as they were."""
    pipe = made()
    unet, scheduler, keys, call = pipe.unet, pipe.scheduler, set(vars(pipe.unet)), type(pipe).__call__
    yield pipe
    assert type(pipe).__call__ is call
    pipe.unet, pipe.scheduler = unet, scheduler
    assert set(vars(unet)) == keys


@cache
def encoded() -> dict[str, Tensor]:
    """The prompt, encoded once: a tokenizer of transformers changes its own padding, so threads would disturb it."""
    with torch.no_grad():
        cond, uncond = made().encode_prompt("a cat", "cpu", 1, True)
    return {"prompt_embeds": cond, "negative_prompt_embeds": uncond}


def draw(pipe: Any, seed: int = 0, steps: int = STEPS, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": steps, "generator": generator, "output_type": "latent"}
    prompt = {} if "prompt_embeds" in more else {"prompt": "a cat"}
    return pipe(**prompt, **options, **more).images


def draw_encoded(pipe: Any, *args: Any, **more: Any) -> Tensor:
    """`draw` for threads."""
    return draw(pipe, *args, **encoded(), **more)


def call_of(pipe: Any) -> dict[str, Any]:
    """Arguments of a call of the network that anybody might make: one row."""
    torch.manual_seed(5)
    width = pipe.unet.config.cross_attention_dim
    return {"sample": torch.randn(1, 4, 8, 8), "timestep": 7, "encoder_hidden_states": torch.randn(1, 77, width)}


class Probe:
    """Calls the network, and notes what it gave."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.arguments, self.seen = pipe, call_of(pipe), list[Tensor]()

    def __call__(self, *_: Any) -> dict[str, Any]:
        with torch.no_grad():
            self.seen.append(self.pipe.unet(**self.arguments).sample)
        return {}


class Official(PipelineCallback):  # type: ignore[misc]
    tensor_inputs: list[str] = []  # noqa: RUF012

    def __init__(self, probe: Any) -> None:
        super().__init__()
        self.probe = probe

    def callback_fn(self, _pipe: Any, _index: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        self.probe()
        return given


def preview(pipe: Any, probe: Probe, *_: Any) -> dict[str, Any]:
    """A function that is given the pipeline first, as callbacks are."""
    with torch.no_grad():
        probe.seen.append(pipe.unet(**probe.arguments).sample)
    return {}


def on_the_vae(probe: Probe) -> Callable[[], None]:
    handle = probe.pipe.text_encoder.register_forward_hook(partial(hooked, probe.pipe, probe))
    return handle.remove


def hooked(pipe: Any, probe: Probe, *_: Any) -> None:
    preview(pipe, probe)


def in_the_scheduler(probe: Probe) -> Callable[[], None]:
    scheduler, step = probe.pipe.scheduler, probe.pipe.scheduler.step

    def stepped(*args: Any, **kwargs: Any) -> Any:
        probe()
        return step(*args, **kwargs)

    scheduler.step = stepped
    return lambda: delattr(scheduler, "step")


CALLBACKS: dict[str, Callable[[Any, Probe], dict[str, Any]]] = {
    "an object": lambda _, probe: {"callback_on_step_end": probe},
    "a function with the pipeline first": lambda _, probe: {
        "callback_on_step_end": lambda given, *_: preview(given, probe)
    },
    "a partial": lambda pipe, probe: {"callback_on_step_end": partial(preview, pipe, probe)},
    "diffusers' own kind": lambda _, probe: {"callback_on_step_end": Official(probe)},
    "several of diffusers' kind": lambda _, probe: {"callback_on_step_end": MultiPipelineCallbacks([Official(probe)])},
    "the old kind": lambda _, probe: {"callback": lambda *_: probe() and None, "callback_steps": 1},
}


@pytest.mark.filterwarnings("ignore:.*callback")
@pytest.mark.parametrize("kind", CALLBACKS)
def test_a_callback_that_calls_the_network_gets_the_networks_own_answer(pipe: Any, kind: str) -> None:
    probe = Probe(pipe)
    (plain,) = (probe(), probe.seen.pop())[1:]
    with guide(pipe, falling) as trace:
        wanted = draw(pipe)
        guided = draw(pipe, **CALLBACKS[kind](pipe, probe))
    assert torch.equal(guided, wanted)
    assert len(probe.seen) == STEPS
    assert all(torch.equal(seen, plain) for seen in probe.seen)
    assert [record.rows_run for record in trace.steps] == [2, 2, 2, 1] * 2


@pytest.mark.parametrize("place", [on_the_vae, in_the_scheduler], ids=["a hook", "the scheduler"])
def test_a_network_called_from_inside_other_parts_answers_for_itself(pipe: Any, place: Any) -> None:
    probe = Probe(pipe)
    (plain,) = (probe(), probe.seen.pop())[1:]
    with guide(pipe, falling):
        wanted = draw(pipe)
        undo = place(probe)
        try:
            guided = draw(pipe)
        finally:
            undo()
    assert torch.equal(guided, wanted)
    assert probe.seen
    assert all(torch.equal(seen, plain) for seen in probe.seen)


def test_a_hook_of_the_network_that_calls_the_network(pipe: Any) -> None:
    """One level deep: the hook's own call comes back to the hook."""
    probe, busy = Probe(pipe), list[int]()

    def again(*_: Any) -> None:
        if not busy:
            busy.append(1)
            probe()
            busy.clear()

    again.row_independent = True  # type: ignore[attr-defined]
    (plain,) = (probe(), probe.seen.pop())[1:]
    with guide(pipe, falling):
        wanted = draw(pipe)
        handle = pipe.unet.mid_block.register_forward_hook(again)
        try:
            assert torch.equal(draw(pipe), wanted)
        finally:
            handle.remove()
    assert all(torch.equal(seen, plain) for seen in probe.seen)
    assert len(probe.seen) == STEPS


def other_of(pipe: Any, scheduler: bool = True) -> Any:
    """Another pipeline with the same network."""
    parts = {**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler) if scheduler else pipe.scheduler}
    other = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


@pytest.mark.parametrize("own_scheduler", [True, False])
def test_another_pipeline_run_in_a_callback_is_not_guided(pipe: Any, own_scheduler: bool) -> None:
    other = other_of(pipe, own_scheduler)
    plain = draw(other, 3, guidance_scale=2.0)
    seen = []

    def run_other(_pipe: Any, index: int, _timestep: Any, _given: Any) -> dict[str, Any]:
        if index == 1:
            seen.append(draw(other, 3, guidance_scale=2.0))
        return {}

    with guide(pipe, falling) as trace:
        wanted = draw(pipe)
        assert torch.equal(draw(pipe, callback_on_step_end=run_other), wanted)
    assert torch.equal(seen[0], plain)
    assert len(trace.steps) == 2 * STEPS


def test_a_scheduler_that_another_pipeline_sets_to_other_steps_is_named(pipe: Any) -> None:
    other = other_of(pipe, scheduler=False)

    def run_other(*_: Any) -> dict[str, Any]:
        draw(other, steps=2, guidance_scale=2.0)
        return {}

    words = "set to others after call 1 of 4: another pipeline or a callback uses"
    with pytest.raises(InputError, match=words), guide(pipe, falling):
        draw(pipe, callback_on_step_end=run_other)


def test_two_guided_pipelines_of_one_network_have_a_guidance_each(pipe: Any) -> None:
    other = other_of(pipe)
    wanted = draw(pipe, guidance_scale=5.0), draw(other, 3, guidance_scale=2.0)
    seen = []

    def run_other(*_: Any) -> dict[str, Any]:
        seen.append(draw(other, 3))
        return {}

    with guide(pipe, 5.0) as trace, guide(other, 2.0) as others:
        assert torch.equal(draw(pipe, callback_on_step_end=run_other), wanted[0])
        assert all(torch.equal(one, wanted[1]) for one in seen)
        assert len(seen) == STEPS
    assert (len(trace.steps), len(others.steps)) == (STEPS, STEPS * STEPS)
    attach(pipe, 5.0)
    with guide(other, 2.0):
        detach(pipe)  # in another order than they came
        assert torch.equal(draw(other, 3), wanted[1])
        assert torch.equal(draw(pipe, guidance_scale=5.0), wanted[0])


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """All of them in threads of their own; each begins when all are there. Results or exceptions, in order."""
    ready = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        ready.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(one, call) for call in calls]]


class InStep:
    """A callback by which runs wait for each other at every step: they interleave for certain."""

    def __init__(self, runs: int) -> None:
        self.barrier = threading.Barrier(runs, timeout=60)

    def __call__(self, *_: Any) -> dict[str, Any]:
        self.barrier.wait()
        return {}


def test_two_threads_that_run_one_attached_pipeline_get_what_each_gets_alone(pipe: Any) -> None:
    trace = attach(pipe, falling)
    alone = [draw(pipe, seed) for seed in (1, 2)]
    step = InStep(2)
    together = at_once(*(partial(draw_encoded, pipe, seed, callback_on_step_end=step) for seed in (1, 2)))
    runs = {record.run for record in trace.steps}
    indices = {run: [record.step.index for record in trace.steps if record.run == run] for run in runs}
    detach(pipe)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)  # two threads at once may round otherwise
    assert list(indices.values()) == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_tasks_of_asyncio_that_run_one_attached_pipeline(pipe: Any) -> None:
    attach(pipe, falling)
    alone = [draw(pipe, seed) for seed in (1, 2)]
    step = InStep(2)

    async def both() -> Any:
        return await asyncio.gather(
            *(asyncio.to_thread(draw_encoded, pipe, seed, callback_on_step_end=step) for seed in (1, 2))
        )

    together = asyncio.run(both())
    detach(pipe)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)  # two threads at once may round otherwise


def test_a_thread_that_probes_and_one_that_runs_another_pipeline_are_not_guided(pipe: Any) -> None:
    other, probe = other_of(pipe), Probe(pipe)
    (plain,) = (probe(), probe.seen.pop())[1:]
    untouched = draw(other, 3, guidance_scale=2.0)
    step = InStep(3)

    def probing() -> None:
        for _ in range(STEPS):
            step()
            probe()

    with guide(pipe, falling) as trace:
        wanted = draw(pipe)
        mine, theirs, _ = at_once(
            partial(draw_encoded, pipe, callback_on_step_end=step),
            partial(draw_encoded, other, 3, guidance_scale=2.0, callback_on_step_end=step),
            probing,
        )
    assert torch.equal(mine, wanted)
    assert torch.equal(theirs, untouched)
    assert all(torch.equal(seen, plain) for seen in probe.seen)
    assert len(trace.steps) == 2 * STEPS


def test_a_call_from_another_thread_waits_while_the_network_is_changed(pipe: Any) -> None:
    """A further prediction with perturbed attention hooks the network for the time of one call."""
    probe = Probe(pipe)
    (plain,) = (probe(), probe.seen.pop())[1:]
    threads: list[threading.Thread] = []

    def start(*_: Any) -> None:
        if not threads and pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_v._forward_hooks:
            threads.append(threading.Thread(target=probe))
            threads[0].start()
            threads[0].join(timeout=0.5)  # in vain: it waits for this call

    start.row_independent = True  # type: ignore[attr-defined]
    with guide(pipe, "3 | pag(layers=mid)"):
        handle = pipe.unet.conv_in.register_forward_hook(start)
        try:
            draw(pipe)
        finally:
            handle.remove()
        threads[0].join()
    assert torch.equal(probe.seen[0], plain)


def test_a_thread_started_in_a_callback_with_the_callbacks_context_is_not_guided(pipe: Any) -> None:
    probe = Probe(pipe)
    (plain,) = (probe(), probe.seen.pop())[1:]

    def start(*_: Any) -> dict[str, Any]:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(probe,))
        thread.start()
        thread.join()
        return {}

    with guide(pipe, falling):
        wanted = draw(pipe)
        assert torch.equal(draw(pipe, callback_on_step_end=start), wanted)
    assert all(torch.equal(seen, plain) for seen in probe.seen)


def again(pipe: Any, errors: list[Exception], **more: Any) -> Callable[..., dict[str, Any]]:
    """A callback that runs the same pipeline once more, at the second step."""

    def run(_pipe: Any, index: int, *_: Any) -> dict[str, Any]:
        if index == 1:
            try:
                draw(pipe, 9, **more)
            except InputError as error:
                errors.append(error)
        return {}

    return run


def test_the_same_pipeline_run_in_its_own_callback_is_a_run_of_its_own(pipe: Any) -> None:
    """DDIM keeps nothing from step to step, so that both are right."""
    errors: list[Exception] = []
    with guide(pipe, falling) as trace:
        wanted = draw(pipe)
        assert torch.equal(draw(pipe, callback_on_step_end=again(pipe, errors)), wanted)
    assert not errors
    assert sorted(record.run for record in trace.steps) == sorted([0] * STEPS + [1] * STEPS + [2] * STEPS)


@pytest.mark.parametrize(
    ("scheduler", "more", "words"),
    [
        (diffusers.EulerDiscreteScheduler, {}, "EulerDiscreteScheduler keeps the state of one run: wait for it"),
        (diffusers.DDIMScheduler, {"steps": 3}, "num_inference_steps differs: wait for it"),
    ],
)
def test_a_second_run_that_would_disturb_the_first_is_refused_and_the_first_goes_on(
    pipe: Any, scheduler: Any, more: Any, words: str
) -> None:
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    errors: list[Exception] = []
    with guide(pipe, falling):
        wanted = draw(pipe)
        assert torch.equal(draw(pipe, callback_on_step_end=again(pipe, errors, **more)), wanted)
        assert torch.equal(draw(pipe), wanted)
    (error,) = errors
    assert words in str(error)
    assert "\n" not in str(error)


def test_an_exception_in_a_callback_leaves_the_next_run_whole(pipe: Any) -> None:
    def stop(_pipe: Any, index: int, *_: Any) -> dict[str, Any]:
        if index == 1:
            raise KeyboardInterrupt
        return {}

    untouched = draw(pipe, guidance_scale=3.0)
    with guide(pipe, falling) as trace:
        wanted = draw(pipe)
        with pytest.raises(KeyboardInterrupt):
            draw(pipe, callback_on_step_end=stop)
        assert torch.equal(draw(pipe), wanted)
        assert [record.run for record in trace.steps] == [0] * 4 + [1] * 2 + [2] * 4
    assert torch.equal(draw(pipe, guidance_scale=3.0), untouched)


class Helped(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
    """A loop in pieces, decorated: all of it is the pipeline's own code, but for its callback."""

    probe: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(super().__call__, *args, **kwargs)

    def _run(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return next(call(*args, **kwargs) for _ in range(1))

    def on_step(self, *_: Any) -> dict[str, Any]:
        """A method, and yet a callback."""
        return self._probed()

    def _probed(self) -> dict[str, Any]:
        with torch.no_grad():
            self.probe.seen.append(self.unet(**self.probe.arguments).sample)
        return {}


def test_a_callback_that_is_a_method_of_the_pipeline_is_no_loop(pipe: Any) -> None:
    mine = Helped(**pipe.components, requires_safety_checker=False)
    mine.set_progress_bar_config(disable=True)
    mine.probe = Probe(mine)
    mine._probed()
    plain = mine.probe.seen.pop()
    with guide(pipe, falling):
        wanted = draw(pipe)
    with guide(mine, falling, profile=Profile()):
        assert torch.equal(draw(mine, callback_on_step_end=mine.on_step), wanted)
    assert len(mine.probe.seen) == STEPS
    assert all(torch.equal(seen, plain) for seen in mine.probe.seen)


def test_a_loop_outside_of_the_pipeline_is_named(pipe: Any) -> None:
    def elsewhere(unet: Any, arguments: Any) -> None:
        unet(**arguments)

    class Mine(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        def __call__(self, *_: Any, work: Any = None, **__: Any) -> None:
            work.loop(self)

    class Work:
        def loop(self, given: Any) -> None:
            elsewhere(given.unet, call_of(given))

    mine = Mine(**pipe.components, requires_safety_checker=False)
    words = r"no step of Mine was guided: its unet was called by .*elsewhere, which"
    with pytest.raises(InputError, match=words), guide(mine, 3.0, profile=Profile()):
        mine(work=Work())


def test_two_calls_a_step_are_told_apart_from_everybody_elses() -> None:
    made = case("FluxPipeline")
    flux = made.build()
    seen: list[Tensor] = []
    kept: dict[str, Any] = {}

    def keep(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        kept.update(kwargs)

    handle = flux.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    made.call(flux, 3.0, steps=1)
    handle.remove()

    def probe(*_: Any) -> dict[str, Any]:
        with torch.no_grad():
            seen.append(flux.transformer(**kept)[0])
        return {}

    probe()
    with guide(flux, falling) as trace:
        wanted = made.call(flux, 3.0)
        assert torch.equal(made.call(flux, 3.0, callback_on_step_end=probe), wanted)
    assert len(trace.steps) == 6
    assert all(torch.equal(one, seen[0]) for one in seen)
