"""A plugin of pytest: every pipeline call of a test is made twice, untouched and, from the same states, under guide().

The test sees the guided output, so its own assertions judge it; a call whose outputs differ by more than rounding fails
the test there. States: torch's, numpy's and Python's generators, those among the arguments, and the scheduler.
"""

import copy
import functools
import inspect
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import diffusers  # before a conftest puts the source of its checkout in front
import numpy as np
import pytest
import stand_in_hub
import torch

from cfglab.errors import InputError
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.table import profiles

ROUNDING = 3e-5
inside = False
counts: Counter[str] = Counter()
before_test: Counter[str] = Counter()
classes: dict[str, set[str]] = defaultdict(set)
lines: list[str] = []


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001
    stand_in_hub.install()


def pytest_runtest_setup(item: pytest.Item) -> None:  # noqa: ARG001
    """Wrap the classes that are imported by now; all of diffusers would take a minute."""
    before_test.clear()
    before_test.update(counts)
    waiting = [diffusers.DiffusionPipeline]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        call = vars(kind).get("__call__")
        if kind.__name__ in profiles() and call is not None and not hasattr(call, "__wrapped_by_twins__"):
            kind.__call__ = twinned(call, kind.__name__)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:  # noqa: ARG001
    """A test that is red although guide() changed nothing is red untouched too: it knows the hub's weights."""
    report: Any = yield
    if call.when == "call" and report.failed and agreed(counts - before_test):
        report.outcome, report.wasxfail = "skipped", "red untouched too: guide() changed nothing"
    return report


def agreed(test: Counter[str]) -> bool:
    """Whether all twins of a test agreed, or none was made: then guide() had no part in what became of it."""
    return set(test) <= {"bit for bit", "to rounding"}


def twinned(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The call of that class, made twice where guidance is on."""

    @functools.wraps(original)
    def call(pipe: Any, *args: Any, **kwargs: Any) -> Any:
        global inside
        scale = _scale(original, name, pipe, args, kwargs)
        if inside or scale is None or type(pipe).__name__ != name:
            return original(pipe, *args, **kwargs)
        inside = True
        try:
            return _twins(original, name, pipe, scale, args, kwargs)
        finally:
            inside = False

    call.__wrapped_by_twins__ = True  # type: ignore[attr-defined]
    return call


def _scale(original: Any, name: str, pipe: Any, args: Any, kwargs: Any) -> float | None:
    """The scale in our meaning of the word that this call has; None where it is not guided."""
    profile = profiles()[name]
    try:
        bound = inspect.signature(original).bind(pipe, *args, **kwargs)
    except TypeError:
        return None  # a test of bad arguments
    bound.apply_defaults()
    given = bound.arguments
    scale = given.get("guidance_scale" if profile.layout == "embedded" else profile.scale)
    if not isinstance(scale, int | float) or profile.layout == "embedded":
        return None
    if profile.off is not None and scale <= profile.off:
        return None
    if profile.negatives and not any(given.get(negative) is not None for negative in profile.negatives):
        return None
    added = 1.0 if profile.off == 0.0 or name.startswith("Kandinsky3") else 0.0
    return float(scale) + added


def _twins(original: Any, name: str, pipe: Any, scale: float, args: Any, kwargs: Any) -> Any:
    states = [*_generators(args), *_generators(kwargs)]
    before = [generator.get_state() for generator in states]
    everywhere = torch.get_rng_state(), np.random.get_state(), random.getstate()
    scheduler, first = pipe.scheduler, copy.deepcopy(pipe.scheduler)
    pipe.scheduler = first
    try:
        untouched = original(pipe, *_copied(args), **_copied(kwargs))
    finally:
        pipe.scheduler = scheduler
        after = [generator.get_state() for generator in states]
        for generator, state in zip(states, before, strict=True):
            generator.set_state(state)
        torch.set_rng_state(everywhere[0])
        np.random.set_state(everywhere[1])
        random.setstate(everywhere[2])
    try:
        with guide(pipe, scale):
            guided = pipe(*args, **kwargs)  # by its class, which guide() has put another in the place of
    except InputError as error:
        counts["refused"] += 1
        classes["refused"].add(name)
        lines.append(f"refused: {name}: {error}")
        for generator, state in zip(states, after, strict=True):
            generator.set_state(state)
        return untouched
    except Exception:
        counts["failed"] += 1
        classes["failed"].add(name)
        raise
    difference = _difference(untouched, guided)
    kind = "bit for bit" if difference == 0 else "to rounding" if difference <= ROUNDING else "different"
    counts[kind] += 1
    classes[kind].add(name)
    if difference:
        lines.append(f"{kind}: {name}: {difference:.1e} of the largest value")
    if kind == "different":
        pytest.fail(f"{name} under guide() at its own scale {scale:g} differs by {difference:.1e} of the largest value")
    return guided


def _generators(value: Any) -> Iterator[torch.Generator]:
    if isinstance(value, torch.Generator):
        yield value
    elif isinstance(value, dict):
        yield from (found for one in value.values() for found in _generators(one))
    elif isinstance(value, list | tuple):
        yield from (found for one in value for found in _generators(one))


def _copied(value: Any) -> Any:
    """Arguments that a pipeline may write into, its own copy; generators are the same ones, set back afterwards."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(one) for one in value)
    return value


def _difference(a: Any, b: Any) -> float:
    """The largest difference of two outputs over their largest value."""
    ours, theirs = _numbers(b), _numbers(a)
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return float("inf")
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if one.size and not np.array_equal(one, other, equal_nan=True):
            worst = max(worst, float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-12)))
    return worst


def _numbers(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, torch.Tensor):
        return [value.detach().float().cpu().numpy()]
    if isinstance(value, dict):
        return [found for one in value.values() for found in _numbers(one)]
    if isinstance(value, list | tuple):
        return [found for one in value for found in _numbers(one)]
    if isinstance(value, np.ndarray) or hasattr(value, "convert"):
        return [np.asarray(value, dtype=np.float64)]
    return []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    total = sum(counts.values())
    terminalreporter.section("twins: untouched and under guide()")
    terminalreporter.write_line(f"{total} calls of {len(set().union(*classes.values()))} classes")
    for kind, count in counts.most_common():
        terminalreporter.write_line(f"  {kind}: {count} calls: {' '.join(sorted(classes[kind]))}")
    for line in dict.fromkeys(lines):
        terminalreporter.write_line(f"  {line}")
