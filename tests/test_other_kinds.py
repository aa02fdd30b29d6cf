"""Public functions that are given a value of another kind say so in one line."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

import cfglab as cl
from cfglab.errors import CfglabError, InputError

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "parse": cl.parse,
    "as_schedule": cl.as_schedule,
    "parse_guidance": cl.parse_guidance,
    "Guidance": cl.Guidance,
    "Guide": cl.Guide,
    "convert": lambda value: cl.convert(value, None, cl.Step(0, 1), "x0", "v"),
    "levels": lambda value: cl.levels(value, 8),
    "advise": cl.advise,
    "load": lambda value: cl.load(value, device="cpu"),
    "guide": lambda value: cl.guide(value, 5),
    "attach": lambda value: cl.attach(value, 5),
    "detach": cl.detach,
    "weights_hash": cl.weights_hash,
    "to_guider": cl.to_guider,
    "generate": lambda value: cl.generate(value, "a cat"),
    "values": lambda value: cl.Linear().values(3, value),
    "dose": lambda value: cl.Linear().dose(3, value),
    "effective_dose": lambda value: cl.Linear().effective_dose(value),
    "Schedule.from_json": cl.Schedule.from_json,
    "Guidance.from_json": cl.Guidance.from_json,
    "start": lambda value: cl.Guidance(5).start(value),
    "Experiment.from_yaml": lambda value: cl.Experiment.from_yaml(value),
    "Store.open": cl.Store.open,
    "run": lambda value: cl.run(value, "nowhere"),
    "reproduce": lambda value: cl.reproduce(value, "again.png"),
}
VALUES = [None, -1.5, b"x", [], {"a": 1}, object(), True, np.zeros((2, 3)), torch.zeros(2, 3), (), int]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_of_another_kind_is_taken_or_refused(name: str) -> None:
    for value in VALUES:
        with suppress(CfglabError):  # any other error fails the test
            FUNCTIONS[name](value)


@pytest.mark.parametrize(
    "options", [{"profile": "batched"}, {"profile": {"layout": "two calls"}}, {"share_rows": "yes"}]
)
def test_options_of_guide_of_another_kind_are_said(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is needed"):
        cl.guide(object(), 5, **options)


def test_an_object_with_a_start_that_is_no_method_is_no_guidance() -> None:
    from cfglab.guidance import as_guidance

    assert as_guidance(range(2, 4)) == cl.Guidance([2, 3])
