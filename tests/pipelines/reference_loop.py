"""A scale that moves from step to step in an untouched pipeline: what guide() is compared with.

The pipeline multiplies its scale with a tensor at every step. `Moving` is a float that is another number each time: no
hook touches a prediction, all rows are run, and the formula is the pipeline's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.pipelines.families import Case


class Moving(float):
    """Compares as a scale that is on, computes as the scale of the step."""

    now: float

    def __mul__(self, other: Any) -> Any:
        return self.now * other

    def __add__(self, other: Any) -> Any:
        return self.now + other

    def __sub__(self, other: Any) -> Any:
        return self.now - other

    __rmul__, __radd__ = __mul__, __add__


class On(float):
    """A number that is above every other: the pipeline's guidance stays on."""

    def __gt__(self, other: Any) -> bool:
        return True


def moved(pipe: Any, case: Case, scales: Sequence[float], **arguments: Any) -> Tensor:
    """The untouched pipeline with the scale of each step, in its own meaning of the word."""
    if case.cls == "Ideogram4Pipeline":
        return case.call(pipe, None, guidance_schedule=list(scales), **arguments)
    scale = Moving(case.scales[1])
    with _stepping(pipe, case, scale, scales):
        return case.call(pipe, case.scales[1] if case.style == "embedded" else scale, **arguments)


@contextmanager
def _stepping(pipe: Any, case: Case, scale: Moving, scales: Sequence[float]) -> Iterator[None]:
    calls = 0

    def now() -> float:
        return float(scales[calls // (2 if case.style == "two calls" else 1) % len(scales)])

    def embedded(_module: Any, args: Any, named: dict[str, Any]) -> Any:
        return args, named | {"guidance": named["guidance"] * (now() / case.scales[1])}

    def before(module: Any, args: Any, named: dict[str, Any]) -> Any:
        nonlocal calls
        scale.now = now()
        changed = embedded(module, args, named) if case.style == "embedded" else None
        held = vars(pipe).get("_guidance_scale")
        if isinstance(held, Tensor):  # Stable Video Diffusion has one a frame, and looks at the largest
            pipe._guidance_scale = torch.full_like(held, max(now(), 1 + 1e-6))
        elif case.combine in ("lerp", "u + (c - u) g"):  # which take the number out of a float by themselves
            pipe._guidance_scale = On(now())
        calls += 1
        return changed

    with ExitStack() as stack:
        for name in case.denoisers:
            stack.callback(getattr(pipe, name).register_forward_pre_hook(before, with_kwargs=True).remove)
        if case.style == "embedded":
            for name in case.helpers:
                stack.callback(getattr(pipe, name).register_forward_pre_hook(embedded, with_kwargs=True).remove)
        yield


@contextmanager
def counted(pipe: Any, names: Sequence[str]) -> Iterator[list[int]]:
    """The rows that these networks really ran, call by call."""
    rows: list[int] = []

    def before(_module: Any, args: Any, named: dict[str, Any]) -> None:
        samples = [*args, *(named[name] for name in ("sample", "hidden_states", "vision_tokens") if name in named)]
        rows.append(len(samples[0]))

    before.row_independent = True  # type: ignore[attr-defined]
    with ExitStack() as stack:
        for name in names:
            stack.callback(getattr(pipe, name).register_forward_pre_hook(before, with_kwargs=True).remove)
        yield rows


@contextmanager
def a_last_bit_more(pipe: Any, names: Sequence[str]) -> Iterator[None]:
    """What these networks predict, each number with one last bit more."""

    def more(value: Any) -> Any:
        return [more(one) for one in value] if isinstance(value, list) else torch.nextafter(value, value + 1)

    def after(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return more(output)
        if isinstance(output, tuple):
            return more(output[0]), *output[1:]
        name = next(iter(output))
        output[name] = more(output[name])
        return output

    with ExitStack() as stack:
        for name in names:
            stack.callback(getattr(pipe, name).register_forward_hook(after).remove)
        yield
