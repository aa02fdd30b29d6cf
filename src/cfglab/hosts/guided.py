"""guided(denoise, guidance): a denoiser of any code base in, the guided one with the same signature out."""

import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Number
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.intercepted import intercept, restore
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.trace import StepRecord, Trace
from cfglab.errors import InputError
from cfglab.guidance import Guidance, Perturbation, Space
from cfglab.guidance.guidance import as_guidance
from cfglab.guidance.methods.weak_prediction import check_later_passes
from cfglab.guidance.names import check_space
from cfglab.guidance.perturbations.cropped_sample import CroppedSample
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.skipped_layers import RandomBlocks, SkippedLayers
from cfglab.guidance.perturbations.sparse_attention import SparseAttention
from cfglab.guidance.perturbations.weak_models import WeakModelPass
from cfglab.hosts import arguments
from cfglab.hosts.capabilities import Host
from cfglab.hosts.levels import Levels
from cfglab.hosts.sigma_steps import ROUNDING, SigmaSteps
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

if TYPE_CHECKING:
    from torch.nn import Module

Denoiser = Callable[..., Any]
HOOKED = (IdentityAttention, BlurredQueries, ShuffledTokens, SparseAttention, SkippedLayers, RandomBlocks)
"""Perturbed passes that change layers of the network and nothing that it is given."""
WHOLE = (WeakModelPass, CroppedSample)
"""Perturbed passes that call another network, or the network with another sample."""
_ENABLED_BY: tuple[tuple[tuple[type, ...], str], ...] = (
    (HOOKED, "changes layers of the network; give it as module=network, or module='self' if it is the denoiser"),
    (WHOLE, "calls the network itself; give module='self', with a network of torch as the denoiser"),
)


CHURN = math.sqrt(2) * 1.001
"""By how much at most EDM's sampler raises the noise level of a step before it."""


class Reader(Protocol):
    """What reads the Step of a call: Levels, or SigmaSteps."""

    @property
    def steps(self) -> Sequence[Step]: ...
    def at(self, sigma: float, *, ending: bool = False, rounding: float = 0.0) -> Step: ...
    def evaluated(self, index: int, level: float) -> Step: ...
    def network_input(self, x: Tensor, step: Step) -> Tensor: ...


class GuidedDenoiser:
    """A guided denoiser. Made by `guided`; called as the denoiser that it is made of.

    Attributes:
        trace: The record of every call: the step, w, the rows run and saved.
    """

    def __init__(
        self,
        denoise: Denoiser,
        guidances: Sequence[Any],
        levels: Reader,
        uncond: Mapping[str, Any] | Denoiser,
        prediction: Space,
        model: Space | None,
        channels: int | None,
        channel_dim: int,
        module: "Module | None",
        two_calls: bool,
    ) -> None:
        self.trace = Trace()
        self._denoise, self._guidances, self._levels = denoise, tuple(guidances), levels
        self._uncond, self._prediction, self._model = uncond, prediction, model
        self._channels, self._channel_dim = channels, channel_dim
        self._module, self._two_calls = module, two_calls
        self._negated = isinstance(levels, Levels) and levels.negated
        self._rows: GuidedRows | None = None
        self._calls, self._runs, self._began = 0, 0, math.nan
        self._last = levels.steps[0]
        if module is not None:  # calls of other threads wait for a pass that changes it
            weakref.finalize(self, restore, module, intercept(module, guard=True), guard=True)

    def __getattr__(self, name: str) -> Any:
        """What samplers read of their network: `sigma_min`, `parameters`."""
        if name.startswith("__") or "_denoise" not in self.__dict__:
            raise AttributeError(name)
        owner = getattr(self._denoise, "__self__", None)
        return getattr(owner if isinstance(owner, torch.nn.Module) else self._denoise, name)

    def restart(self) -> None:
        """Begin a new run at the next call. A call at the level at which the run began, one that goes back by two steps
        or more, one with another number of images, and the next one after an error begin one by themselves."""
        self._rows = None

    def __call__(self, *args: Any, **conditioning: Any) -> Any:
        """The guided prediction, in the form that the denoiser gives.

        Args:
            *args: The arguments in the denoiser's order: the sample, (n, ...), its noise level as the denoiser takes it
                (one for all images, or (n,) equal ones), and the conditional arguments.
            **conditioning: Those that are given by the names that the denoiser has for them.

        Returns:
            The guided prediction, (n, ...). Of a denoiser that gives a tuple, a tuple with None behind the prediction.

        Raises:
            InputError: The levels differ between the images, or an argument cannot be used.
        """
        x, level, cond = self._named(args, conditioning)
        arguments.check_sample(x)
        step, rows = self._begun(*_level(level), images=len(x))
        call = _Call(self, x, level, cond)
        seen = self._levels.network_input(x, step)
        self._rows = None  # an error ends the run
        guided, record = rows.predict(
            step, torch.cat([seen, seen]), call.comparable(), call.run, separate=not call.joined
        )
        self._rows, self._last, self._calls = rows, step, self._calls + 1
        self.trace.steps.append(call.counted(record))
        return call.like_output(-guided if self._negated else guided)

    def _named(self, args: tuple[Any, ...], conditioning: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """The sample, the noise level, and the conditional arguments by name."""
        names = _parameters(self._denoise)
        first = [name.name for name in names[:2] if name.kind is name.POSITIONAL_OR_KEYWORD] or ["x", "level"]
        given = [*args[:2], *(conditioning[name] for name in first[len(args) : 2] if name in conditioning)]
        if len(given) < 2:
            raise InputError(
                f"{len(given)} of a sample and a noise level: {_title(self._denoise)} takes {' and '.join(first)}; "
                "give both."
            )
        cond = {name: value for name, value in conditioning.items() if name not in first[len(args) : 2]}
        further, names = args[2:], names[2:]
        if len(names) < len(further) or any(name.kind is name.VAR_POSITIONAL for name in names[: len(further)]):
            raise InputError(
                f"{len(further)} arguments behind the noise level: {_title(self._denoise)} does not name them; give "
                "the conditioning by name, as in (x, sigma, cond=...)."
            )
        named = {name.name: value for name, value in zip(names, further, strict=False)}
        return given[0], given[1], named | cond

    def _begun(self, level: float, rounding: float, images: int) -> tuple[Step, GuidedRows]:
        """The Step of a call at a level with this relative error, and the rows of its run, which may be a new one."""
        first = self._levels.at(level, rounding=rounding)
        if self._rows is not None and self._rows.images == images and not self._begins(first, level, rounding):
            self._check_unit(first, level)
            return self._following(first, level, rounding), self._rows
        specs = self._guidances * images if len(self._guidances) == 1 else self._guidances
        if len(specs) != images:
            raise InputError(f"{len(specs)} guidances for {images} images: give one for all, or one for each.")
        channels = self._channels
        rows = GuidedRows(
            specs,
            self._prediction,
            self._runs,
            model=self._model,
            channels=None if channels is None else lambda total: min(total, channels),
            channel_dim=self._channel_dim,
        )
        self._calls, self._runs, self._began = 0, self._runs + 1, level
        if self._module is not None:
            check_later_passes(self._guidances, self._module, first)
        return first, rows

    def _begins(self, step: Step, level: float, rounding: float) -> bool:
        """Whether a call begins a new run: it is where the run began, or noisier than what churn makes of a step."""
        if math.isclose(level, self._began, rel_tol=max(rounding, ROUNDING)):
            return True
        back = step.index < self._last.index - 1 or step.index == 0 < self._last.index
        return back and float(step.sigma or 0) > CHURN * float(self._last.sigma or 0)

    def _check_unit(self, step: Step, level: float) -> None:
        """Raise InputError where more calls than any sampler makes are in the step in which the run began late."""
        if self._calls >= 8 and 0 < self._levels.at(self._began).index == step.index and level != self._began:
            raise InputError(
                f"noise levels {self._began:g}, …, {level:g} are all in step {step.index} of {step.count}, from "
                f"{self._levels.steps[step.index].host_sigma:g} on: give the levels of this run, or the sampler's "
                "numbers in the unit of levels=."
            )

    def _following(self, step: Step, level: float, rounding: float) -> Step:
        """The Step of a call inside a run, where the sampler makes two calls a step that of its half of them.

        The first call of a step may be above the level at which the step starts: EDM's sampler adds noise before it.
        """
        if not self._two_calls:
            return step
        if self._calls % 2:
            return self._levels.at(level, ending=True, rounding=rounding)
        due = self._last.index + 1
        if step.index >= due or due >= len(self._levels.steps):
            return step
        start = float(self._levels.steps[due].sigma or 0)
        return self._levels.evaluated(due, level) if float(step.sigma or 0) <= CHURN * start else step


class _Call:
    """One call: the rows [uncond; cond] with their arguments, in one batch where the two can be joined."""

    def __init__(self, host: GuidedDenoiser, x: Tensor, level: Any, cond: dict[str, Any]) -> None:
        self._host, self._x, self._level = host, x, level
        self._output: Any = None
        images = len(x)
        self._unneeded = 0
        uncond = {**cond, **host._uncond} if isinstance(host._uncond, Mapping) else dict(cond)
        self._halves = (arguments.expanded(uncond, images), cond)
        for name in cond:
            arguments.check_rows(name, self._halves[0][name], cond[name], images)
        self.joined = isinstance(host._uncond, Mapping) and arguments.is_joinable(*self._halves, images)

    def comparable(self) -> list[Tensor]:
        """The tensors of 2 n rows by which equal rows are found."""
        found: list[Tensor] = []

        def noted(both: Tensor) -> Tensor:
            found.append(both)
            return both

        if self.joined:
            arguments.joined(*self._halves, len(self._x), noted)
        return found

    def run(self, rows: list[int] | None, variation: Perturbation | None) -> Tensor:
        """The predictions of these rows, or of all; under a perturbed pass those of the changed network."""
        images = len(self._x)
        wanted = list(range(2 * images)) if rows is None else rows
        network: Any = self._host._module
        with _changing(network, variation) as changed:
            denoise = self._changed(changed, variation)
            if self.joined:
                return self._batch(denoise, wanted, None)
            parts = [(half, [row for row in wanted if (row >= images) == bool(half)]) for half in (0, 1)]
            outputs = [self._batch(self._of_half(denoise, half), part, half) for half, part in parts if part]
        order = [row for _, part in parts for row in part]
        together = torch.cat(outputs)
        return together if order == wanted else take(together, [order.index(row) for row in wanted])

    def _of_half(self, denoise: Denoiser, half: int) -> Denoiser:
        own = self._host._uncond
        return own if half == 0 and not isinstance(own, Mapping) else denoise

    def _changed(self, changed: Any, variation: Perturbation | None) -> Denoiser:
        host = self._host
        if variation is None or changed is host._module:
            return host._denoise
        return changed if host._denoise is host._module else host._denoise

    def _batch(self, denoise: Denoiser, rows: list[int], half: int | None) -> Tensor:
        """One call of the denoiser for rows of both halves, or of one.

        If it is not known which parts of the arguments are rows, it runs all rows of the half.
        """
        images = len(self._x)
        run = rows
        if half is not None and not arguments.is_known(self._halves[half]):
            run = [half * images + image for image in range(images)]
        places = [row % images for row in run]
        if half is None:
            cut = arguments.joined(*self._halves, images, lambda both: take(both, run))
        else:
            cut = arguments.cut(self._halves[half], places, images)
        level = self._level
        if isinstance(level, Tensor) and level.ndim:
            level = take(level, places) if len(level) == images else level.expand(len(run), *level.shape[1:])
        output = denoise(take(self._x, places), level, **cut)
        self._output = output
        self._unneeded += len(run) - len(rows)
        tensor = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or len(tensor) != len(run):
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(
                f"{_title(denoise)} gives {shape} for {len(run)} rows: a denoiser gives a tensor with one row a row, "
                "or a tuple that begins with it; wrap it in a function that does."
            )
        tensor = tensor if run == rows else take(tensor, [run.index(row) for row in rows])
        return -tensor if self._host._negated else tensor

    def counted(self, record: StepRecord) -> StepRecord:
        """The record with the rows that were run because the arguments could not be cut."""
        if not self._unneeded:
            return record
        each = self._unneeded / len(self._x)
        return replace(
            record,
            rows_run=record.rows_run + self._unneeded,
            rows_saved=record.rows_saved - self._unneeded,
            shares=tuple((rows_run + each, saved - each) for rows_run, saved in record.shares),
        )

    def like_output(self, guided: Tensor) -> Any:
        """In the form of the denoiser's own output."""
        if isinstance(self._output, tuple | list):
            return (guided, *[None] * (len(self._output) - 1))
        return guided


def guided(
    denoise: Denoiser,
    guidance: Any,
    *,
    uncond: Mapping[str, Any] | Denoiser,
    levels: Levels | SigmaSteps | Sequence[float],
    prediction: Space | None = None,
    model: Space | None = None,
    channels: int | None = None,
    channel_dim: Literal[1, 2, -1] = 1,
    module: "Module | Literal['self'] | None" = None,
    two_calls: bool = False,
) -> GuidedDenoiser:
    """A guided denoiser with the signature of the one that it is made of, for any sampler.

    `denoise(x, sigma, **conditioning)` or `velocity(x, t, **conditioning)` in, the same out: it is called with the
    conditional arguments. Rows of both predictions go through the denoiser in one batch where their arguments are
    tensors of one shape; rows that a step does not need are not run, and equal rows run once.

    Args:
        denoise: The denoiser of the code base: k-diffusion's, EDM2's, DiT's `forward`, SiT's, or your own.
        guidance: A guidance, its text or a number; or a list with a guidance or text for each image (a list of numbers
            is one schedule with a scale for each step).
        uncond: The arguments of the unconditional prediction by name, such as `{"y": null_labels}`, which replace the
            conditional ones; tensors of n rows or of one, also in dicts, lists and tuples. Or another denoiser, which
            gets the conditional ones.
        levels: The levels of the run: `levels("dit", 250)`, SigmaSteps, or the n + 1 sigmas of x0 + sigma e.
        prediction: What the denoiser gives; None is that of the levels, and x0 for a list of sigmas.
        model: What the network inside predicts, if `denoise` converts; None is the same.
        channels: Guide the leading channels only and take the others from the conditional prediction: 3 in DiT's
            `forward_with_cfg`, the number of latent channels for a learned variance.
        channel_dim: The dimension of the channels: -1 for packed tokens, (n, tokens, channels), 2 for (n, frames,
            channels, h, w). Maps of positions, `adg`, `mahiro`, `nrs`, `mimic_threshold` and `cfg_norm` read it.
        module: The network, for methods that change its layers (PAG, SEG, TPG, PLADIS, S2, SLG); "self" if it is
            `denoise`, which SWG and autoguidance by a registered network need.
        two_calls: The sampler evaluates a step at its start and at its end, as Heun's method.

    Returns:
        The guided denoiser. Going back to the first step begins a new run, see `GuidedDenoiser.restart`.

    Raises:
        InputError: The guidance needs what cannot be run here, or an argument is not valid.

    Examples:
        >>> import torch
        >>> from cfglab import guided
        >>> D = guided(lambda x, sigma, cond: x + cond, "3", uncond={"cond": torch.zeros(1)}, levels=[2.0, 1.0, 0.0])
        >>> D(torch.zeros(1, 1), torch.tensor([2.0]), cond=torch.ones(1, 1))
        tensor([[3.]])
    """
    network: Any = denoise if isinstance(module, str) and module == "self" else module
    if not callable(denoise) or not (callable(uncond) or isinstance(uncond, Mapping)):
        raise InputError(
            f"guided({_title(denoise)}, uncond={_title(uncond)}): a function of (x, sigma), and uncond as a dict of "
            "arguments or as another denoiser; write uncond={'y': null_labels}."
        )
    if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
        raise InputError(
            f"channels {shown(channels)}: a whole number of 1 or more leading channels; leave it out for all."
        )
    if channel_dim not in (1, 2, -1) or (channel_dim != 1 and channels is not None):
        raise InputError(
            f"channel_dim {channel_dim}: it is 1, or without channels= 2 for (n, frames, channels, h, w) and -1 for "
            "packed tokens; write one of them."
        )
    if isinstance(uncond, Mapping):
        _check_uncond(denoise, uncond)
    check_space("prediction", prediction)
    check_space("model", model)
    if module not in (None, "self") and not isinstance(module, torch.nn.Module):
        raise InputError(
            f"module={shown(module)}: a torch.nn.Module is needed, or 'self' if it is the denoiser itself."
        )
    several = isinstance(guidance, list | tuple) and not all(map(_is_number, guidance))
    guidances = [as_guidance(part) for part in guidance] if several else [as_guidance(guidance)]
    reader: Levels | SigmaSteps = levels if isinstance(levels, Levels | SigmaSteps) else SigmaSteps(levels)
    own: Space = reader.prediction if isinstance(reader, Levels) else "x0"
    passes = (() if network is None else HOOKED) + (WHOLE if network is denoise else ())
    host = Host("guided()", passes, enabled_by=_ENABLED_BY)
    for spec in guidances:
        if isinstance(spec, Guidance):
            host.check(spec, "flow" if (prediction or own) == "flow" else "vp")
    return GuidedDenoiser(
        denoise, guidances, reader, uncond, prediction or own, model, channels, channel_dim, network, two_calls
    )


@contextmanager
def _changing(network: Any, variation: Perturbation | None) -> Iterator[Any]:
    """The network as a perturbed pass has it; None without one. Its other callers wait for a pass that changes it."""
    if variation is None:
        yield None
    elif not isinstance(variation, HOOKED):
        with variation.applied(network) as changed:
            yield changed
    else:
        interception = intercept(network, guard=True)
        try:
            with interception.turn, variation.applied(network) as changed:
                yield changed
        finally:
            restore(network, interception, guard=True)


def _level(level: Any) -> tuple[float, float]:
    """The noise level of a call as a number, and the relative error of numbers of its type; 0 above half precision."""
    if not isinstance(level, Tensor) and (bool(getattr(level, "ndim", 0)) or not hasattr(level, "__float__")):
        raise InputError(
            f"a noise level that is a {type(level).__name__}: a number or a tensor is needed; give torch.tensor([2.0])."
        )
    values = [float(level)] if not isinstance(level, Tensor) else level.detach().double().reshape(-1).tolist()
    if not values or any(value != values[0] for value in values) or not math.isfinite(values[0]):
        raise InputError(
            f"noise levels {', '.join(f'{value:g}' for value in values[:3])}: the images of a call have one finite "
            "level; call it once for each level."
        )
    half = isinstance(level, Tensor) and level.is_floating_point() and level.dtype.itemsize < 4
    return values[0], torch.finfo(level.dtype).eps if half else 0.0


def _check_uncond(denoise: Denoiser, uncond: Mapping[str, Any]) -> None:
    """Refuse what would leave the unconditional prediction equal to the conditional one, or names that do not exist."""
    if not uncond:
        raise InputError(
            "uncond={}: it replaces no argument, so both predictions would be equal, and nothing would be guided; "
            "write uncond={'y': null_labels}."
        )
    names = _parameters(denoise)[2:]
    if any(name.kind is name.VAR_KEYWORD for name in names):
        return
    known = [name.name for name in names if name.kind in (name.POSITIONAL_OR_KEYWORD, name.KEYWORD_ONLY)]
    for name in uncond:
        if names and name not in known:
            hint = nearest(str(name), known) or " name one of them."
            raise InputError(
                f"uncond={{{shown(name)}: …}}: {_title(denoise)} has no such argument, it takes "
                f"{', '.join(known)} behind the noise level;{hint}"
            )


def _parameters(denoise: Denoiser) -> list[inspect.Parameter]:
    """The parameters of a denoiser; none where they cannot be read."""
    denoise = getattr(denoise, "_orig_mod", denoise)  # of a compiled module
    try:
        own = denoise.forward if isinstance(denoise, torch.nn.Module) else denoise
        return list(inspect.signature(own).parameters.values())
    except (TypeError, ValueError):
        return []


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) or getattr(value, "ndim", None) == 0


def _title(value: Any) -> str:
    return str(getattr(value, "__name__", type(value).__name__))
