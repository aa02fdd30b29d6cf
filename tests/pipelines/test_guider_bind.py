"""`guider.bind(scheduler)`: a guider that is given its scheduler, in a Modular pipeline and in a loop of its own."""

from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

import cfglab
from cfglab.denoising.step_reader import read_steps
from cfglab.errors import InputError
from cfglab.guidance import Guidance, parse_guidance
from cfglab.pipelines.guider.guider import Guider, to_guider
from tests.documents import python_of
from tests.pipelines.modular import MODULAR

TEXT, EMPTY = torch.full((2, 4), 0.5), torch.zeros(2, 4)


class Network(nn.Module):
    """A denoiser that records the text of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))
        self.texts: list[Tensor] = []

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        self.texts.append(encoder_hidden_states)
        return self.weight * sample + 0.001 * timestep + encoder_hidden_states


Network.row_independent = True  # type: ignore[attr-defined]


def scheduler_of(steps: int = 4) -> Any:
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    return scheduler


def loop(guider: Guider, network: Network, scheduler: Any) -> Tensor:
    """The loop of docs/modular.md: no object in it has a scheduler as an attribute."""
    latents = torch.linspace(-1, 1, 8).reshape(2, 4) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        guider.set_state(index, len(scheduler.timesteps), timestep)
        blocks = guider.prepare_inputs({"encoder_hidden_states": (TEXT, EMPTY)})
        model_input = scheduler.scale_model_input(latents, timestep)
        for block in blocks:
            guider.prepare_models(network)
            block.noise_pred = network(model_input, timestep, block.encoder_hidden_states)
            guider.cleanup_models(network)
        latents = scheduler.step(guider(blocks).pred, timestep, latents).prev_sample
    return latents


def expected(guidance: Guidance) -> Tensor:
    """The same loop by hand, with the steps of the scheduler and the Guide."""
    scheduler, network = scheduler_of(), Network()
    guide, steps = guidance.start("epsilon"), read_steps(scheduler)
    latents = torch.linspace(-1, 1, 8).reshape(2, 4) * scheduler.init_noise_sigma
    for step, timestep in zip(steps, scheduler.timesteps, strict=True):
        model_input = scheduler.scale_model_input(latents, timestep)
        cond, uncond = network(model_input, timestep, TEXT), network(model_input, timestep, EMPTY)
        guided = guide.combine(uncond, cond, step, model_input)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    return latents


@pytest.mark.parametrize(
    "text", ["linear(max=8, min=2)", "constant(5).inside(sigma=(1, 20))", "6 | prediction_norm(space=x0)"]
)
def test_a_bound_guider_follows_the_scheduler_in_a_hand_written_loop(text: str) -> None:
    scheduler, network = scheduler_of(), Network()
    guider = to_guider(text).bind(scheduler, network)
    with torch.no_grad():
        latents, by_hand = loop(guider, network, scheduler), expected(parse_guidance(text))
    torch.testing.assert_close(latents, by_hand, rtol=1e-5, atol=1e-6)
    assert [record.step for record in guider.trace.steps] == read_steps(scheduler_of())


def test_a_bound_guider_in_a_modular_pipeline_gives_the_images_of_an_unbound_one() -> None:
    modular = MODULAR["SDXL"]
    pipe = modular.build()
    unbound, bound = to_guider("linear(max=8, min=2)"), to_guider("linear(max=8, min=2)")
    latents = modular.run(modular.use(pipe, unbound))
    again = modular.run(modular.use(pipe, bound.bind(pipe.scheduler)))
    assert all(map(torch.equal, latents, again))
    assert [record.step for record in bound.trace.steps] == [record.step for record in unbound.trace.steps]


def test_the_bound_scheduler_counts_and_not_the_one_in_the_frame_of_the_caller() -> None:
    bound, other = scheduler_of(4), scheduler_of(7)
    components = SimpleNamespace(scheduler=other)  # what an unbound guider would find
    guider = to_guider(4).bind(bound)
    guider.set_state(0, 4, bound.timesteps[0])
    guider.set_state(1, 4, bound.timesteps[1])
    assert guider._loop_step == read_steps(bound)[1]
    guider.bind(None).set_state(1, 7, components.scheduler.timesteps[1])
    assert guider._loop_step == read_steps(other)[1]


def test_unneeded_calls_are_skipped_if_the_bound_network_is_known_to_keep_no_state() -> None:
    scheduler, network = scheduler_of(), Network()
    loop(to_guider(1).bind(scheduler, network), network, scheduler)
    assert len(network.texts) == 4
    scheduler, network = scheduler_of(), Network()
    with pytest.warns(UserWarning, match=r"every call of a step is made: the denoiser, which guider\.bind"):
        loop(to_guider(1).bind(scheduler), network, scheduler)
    assert len(network.texts) == 8
    scheduler, network = scheduler_of(), Network()
    loop(to_guider(1, share_rows=True).bind(scheduler), network, scheduler)
    assert len(network.texts) == 4


def test_a_bound_guider_counts_its_runs_by_the_scheduler() -> None:
    scheduler, network = scheduler_of(), Network()
    guider = to_guider("linear(max=8, min=2)").bind(scheduler, network)
    loop(guider, network, scheduler)
    scheduler.set_timesteps(3)
    loop(guider, network, scheduler)
    assert [record.step.count for record in guider.trace.steps] == [3, 3, 3]


def test_the_binding_is_not_saved(tmp_path: Any) -> None:
    to_guider(4).bind(scheduler_of()).save_pretrained(tmp_path)
    loaded = Guider.from_pretrained(tmp_path)
    assert loaded.guidances == [Guidance(4)]
    with pytest.raises(InputError, match="outside of a pipeline"):
        loaded.set_state(0, 4, torch.tensor(1.0))


def test_what_is_not_a_scheduler_or_a_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"^bind\(int\): it is not a scheduler; give pipe\.scheduler\.$"):
        to_guider(4).bind(7)
    with pytest.raises(InputError, match=r"^bind\(…, str\): it is not a torch module; give pipe\.unet\.$"):
        to_guider(4).bind(scheduler_of(), "unet")
    scheduler = diffusers.DDIMScheduler()
    scheduler.timesteps = None
    with pytest.raises(InputError, match="without timesteps: the step is not known; call"):
        to_guider(4).bind(scheduler).set_state(0, 4, 1.0)


def test_the_loop_of_the_page_runs() -> None:
    code = python_of("docs/modular.md", ".bind(scheduler, transformer)")
    network = Network()
    names: dict[str, Any] = {
        "cl": cfglab,
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "transformer": Sampled(network),
        "text": TEXT,
        "empty": EMPTY,
        "latents": torch.ones(2, 4),
    }
    exec(code, names)
    schedule = cfglab.parse("cosine(max=7.5)")
    scales = [schedule(step) for step in read_steps(names["scheduler"])]
    assert [record.w[0] for record in names["guider"].trace.steps] == pytest.approx(scales)
    assert len(network.texts) > 20
    assert names["latents"].isfinite().all()


class Sampled(nn.Module):
    """A network whose output has a `sample`, as diffusers' have."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
        return SimpleNamespace(sample=self.network(hidden_states, timestep, encoder_hidden_states))


Sampled.row_independent = True  # type: ignore[attr-defined]
