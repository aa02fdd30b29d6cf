"""One call of a network made in another way: nothing stays behind, compiled networks stay compiled."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfglab.errors import InputError
from cfglab.pipelines.guider.next_call import perturbed_call, replace_next_call, restore_call, sample_of


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, hidden_states: Tensor, timestep: Any = 0.0, text: Any = 0.0) -> Tensor:
        return self.scale * hidden_states + timestep + text


def seen(notes: list[Any]) -> Any:
    def note(module: Any, args: Any, kwargs: Any) -> Any:
        notes.append(sample_of(args, kwargs))
        return module(*args, **kwargs)

    return note


@pytest.mark.parametrize("way", ["plain", "compiled", "compiled in place"])
def test_the_next_call_only(way: str) -> None:
    torch._dynamo.reset()
    network: Any = Network()
    if way == "compiled":
        network = torch.compile(network, backend="eager")
    elif way == "compiled in place":
        network.compile(backend="eager")
    kind, notes = type(network), list[Any]()
    torch._dynamo.utils.counters.clear()
    x = torch.ones(2)
    for call in range(3):
        replace_next_call(network, seen(notes))
        assert type(network) is kind  # for whoever compares it
        assert torch.equal(network(x, 1.0), torch.tensor([3.0, 3.0]))
        assert type(network) is kind
        network(hidden_states=x, timestep=1.0)
        assert len(notes) == call + 1
    assert all(one is x for one in notes)
    if way != "plain":
        counters = torch._dynamo.utils.counters
        assert not counters["graph_break"]
        assert counters["stats"]["unique_graphs"] == 1


def test_a_call_that_never_comes_is_taken_back() -> None:
    network, notes = Network(), list[Any]()
    replace_next_call(network, seen(notes))
    replace_next_call(network, seen(notes))
    assert restore_call(network) is not None
    assert restore_call(network) is None
    assert type(network) is Network
    network(torch.ones(2))
    assert notes == []


def test_an_error_leaves_the_network_as_it_was() -> None:
    network = Network()
    replace_next_call(network, seen([]))
    with pytest.raises(TypeError):
        network("no tensor", text=None)
    assert type(network) is Network


class Later:
    source = "cond"

    @contextmanager
    def applied(self, denoiser: Any) -> Iterator[Any]:
        yield denoiser

    def inputs(self, sample: Tensor, timestep: Any, conditioning: Mapping[str, Any]) -> Any:
        return sample * 10, timestep + 100, {name: value + 1000 for name, value in conditioning.items()}


@pytest.mark.parametrize(
    ("args", "kwargs", "result"),
    [
        ((1.0, 2.0, 3.0), {}, 20 + 102 + 3.0),
        ((1.0, 2.0), {"text": 3.0}, 20 + 102 + 1003),
        ((1.0,), {"timestep": 2.0}, 20 + 102),
        ((), {"text": 3.0, "timestep": 2.0, "hidden_states": 1.0}, 20 + 102 + 1003),
    ],
)
def test_arguments_are_changed_where_they_stand(args: Any, kwargs: Any, result: float) -> None:
    variation: Any = Later()
    assert perturbed_call(Network(), variation, args, kwargs).item() == result


def test_arguments_under_other_names_are_refused() -> None:
    with pytest.raises(InputError, match="called with latents, text: none of these is sample or hidden_states or x"):
        sample_of((), {"latents": 1, "text": 2})
    variation: Any = Later()
    with pytest.raises(InputError, match="called with nothing: none of these is timestep or t"):
        perturbed_call(Network(), variation, (1.0,), {})
