"""One call of a denoiser: its arguments by name, and the rows in them."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cfglab.denoising.duplicate_rows import take
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.perturbations.base import own_containers
from cfglab.pipelines.interception.arguments import CACHES, FURTHER, TIMES, kind_of, unknown_arguments
from cfglab.pipelines.interception.wrapped_modules import core_of, names_of
from cfglab.pipelines.profiles.profile import Profile


@dataclass(eq=False)
class DenoiserCall:
    """One call of a denoiser.

    Attributes:
        module: The denoiser.
        plain: The call as it is without interception.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        profile: The layout of the pipeline.
        named: All arguments by the names of the module's own `forward`, the sample among them.
        sample_name: The name of the sample.

    Raises:
        InputError: The network's `forward` names no arguments, or the sample is missing.
    """

    module: nn.Module
    plain: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    profile: Profile
    named: dict[str, Any] = field(init=False)
    sample_name: str = field(init=False)

    def __post_init__(self) -> None:
        names = names_of(self._kind())
        if not names:
            raise InputError(
                f"a {type(self.module).__name__} in place of the network: its forward names no argument, so what it is "
                "given cannot be told apart; set the pipeline's component to the network inside (its .module)."
            )
        self.named = dict(zip(names, self.args, strict=False)) | self.kwargs
        self.sample_name = self.profile.sample or names[0]
        if self.sample_name not in self.named:
            raise InputError(
                f"{type(self.module).__name__} was called without {self.sample_name!r}, which is the sample "
                "that it denoises; pass a Profile for this pipeline, or use Guidance.start() in a loop of your own."
            )

    def _kind(self) -> Any:
        return type(core_of(self.module))

    @property
    def sample(self) -> Tensor:
        """(rows, ...); the rows of a list side by side."""
        value = self.named[self.sample_name]
        return torch.stack(list(value)) if isinstance(value, list | tuple) else value

    @property
    def count(self) -> int:
        """Rows of this call."""
        return len(self.named[self.sample_name])

    @property
    def timestep(self) -> float | None:
        """The first number of the timestep argument, the largest where every token has its own: those of a condition
        have less noise. Waits for the device."""
        value = next((self.named[name] for name in TIMES if name in self.named), None)
        if isinstance(value, Tensor):
            return float(value.max() if value.ndim > 1 else value.reshape(-1)[0]) if value.numel() else None
        return None if value is None else float(value)

    @property
    def is_further(self) -> bool:
        """Whether it is a further pass of the pipeline's own beside its batch, with a changed network."""
        return any(self.kwargs.get(name) for name in FURTHER)

    @property
    def unknown(self) -> str:
        """An argument that may hold rows and of which nothing is known; "" where there is none."""
        profile = self.profile
        rows = (*profile.rows, *dict(profile.dims), *profile.blocks)
        for name, value in self.named.items():
            if name != self.sample_name:
                for argument in unknown_arguments(name, value, kind_of(name), rows, profile.whole):
                    return argument
        return ""

    def tensors(self, order: list[int] | None = None) -> list[Tensor]:
        """Every tensor that holds rows, except the sample.

        Args:
            order: The order of the rows; None for that of the call.

        Returns:
            Tensors of shape (rows, ...).

        Raises:
            InputError: The rows are not laid out as the profile says.
        """
        collected: list[Tensor] = []

        def collect(tensor: Tensor, dim: int, block: int) -> Tensor:
            rows = tensor.movedim(dim, 0)
            if block > 1:
                rows = rows.reshape(self.count, block, *rows.shape[1:])
            collected.append(rows if order is None else take(rows, order))
            return tensor

        self._changed(collect, {name: value for name, value in self.named.items() if name != self.sample_name})
        return collected

    def run(
        self,
        rows: list[int] | None = None,
        variation: Perturbation | None = None,
        encode: Callable[[str, dict[str, Any], bool], dict[str, Any]] | None = None,
    ) -> Any:
        """The denoiser's output for some rows. What it takes out of a list or a dict is there again at the next run.

        Args:
            rows: The rows, in this order; None for all.
            variation: The perturbed pass; None for the denoiser as it is.
            encode: `encode(prompt, conditioning, padded)` puts a prompt's encoding into the arguments; for a
                perturbation with a prompt of its own.

        Returns:
            What the denoiser returns for these rows.
        """
        named = self.named if rows is None else self.arguments_of(rows)
        caches = {
            name: value if variation is None else copy.deepcopy(value)
            for name, value in named.items()
            if name in CACHES
        }
        named = {name: own_containers(value) for name, value in named.items()} | caches
        if variation is None:
            positional = names_of(self._kind())[: len(self.args)]
            return self.plain(
                *(named[name] for name in positional),
                *self.args[len(positional) :],
                **{name: value for name, value in named.items() if name not in positional},
            )
        time = next((name for name in TIMES if name in named), None)
        conditioning = {name: value for name, value in named.items() if name not in (self.sample_name, time)}
        prompt = getattr(variation, "prompt", None)
        if prompt is not None and encode is not None:
            prompted = encode(prompt, conditioning, getattr(variation, "padded", True))
            conditioning = conditioning | {"prompted": prompted} if getattr(variation, "beside", False) else prompted
        with variation.applied(self.module) as module:
            sample, changed_time, arguments = variation.inputs(
                named[self.sample_name], None if time is None else named[time], conditioning
            )
            time_arguments = {} if time is None else {time: changed_time}
            call = self.plain if module is self.module else module
            return call(**{self.sample_name: sample}, **time_arguments, **arguments)

    def arguments_of(self, rows: list[int]) -> dict[str, Any]:
        """The arguments with some of the rows.

        Args:
            rows: Row numbers, in the order wanted.

        Returns:
            The arguments by name.

        Raises:
            InputError: The rows are not laid out as the profile says.
        """

        def pick(tensor: Tensor, dim: int, block: int) -> Tensor:
            if block > 1:
                rows_of = tensor.reshape(self.count, block, *tensor.shape[1:])
                return take(rows_of, rows).flatten(0, 1)
            if dim == 0:
                return take(tensor, rows)
            return take(tensor, rows, dim).contiguous()

        return self._changed(pick, self.named, rows)

    def _changed(
        self, change: Callable[[Tensor, int, int], Tensor], named: dict[str, Any], rows: list[int] | None = None
    ) -> dict[str, Any]:
        profile, dims = self.profile, dict(self.profile.dims)
        changed = {}
        for name, value in named.items():
            if name in profile.whole:
                changed[name] = value
            elif name in dims and isinstance(value, Tensor):
                self._check(name, value.shape[dims[name]])
                changed[name] = change(value, dims[name], 1)
            elif name in profile.blocks:
                changed[name] = self._changed_blocks(name, value, change)
            else:
                kind = True if name == self.sample_name else kind_of(name)
                changed[name] = self._walk(name, value, kind, change, rows)
        return changed

    def _changed_blocks(self, name: str, value: Any, change: Callable[[Tensor, int, int], Tensor]) -> Any:
        """`value` with its tensors changed, each of which repeats every row several times."""
        if isinstance(value, Tensor):
            self._check(name, len(value) % self.count or self.count)
            return change(value, 0, len(value) // self.count)
        if isinstance(value, list | tuple):
            return type(value)(self._changed_blocks(name, item, change) for item in value)
        return value

    def _walk(
        self, name: str, value: Any, kind: Any, change: Callable[[Tensor, int, int], Tensor], rows: list[int] | None
    ) -> Any:
        """`value` with its tensors of rows changed. `kind` is that of `kind_of`; unknown kinds stay as they are."""
        if name in self.profile.whole or kind is False:
            return value
        kind = True if name in self.profile.rows else kind
        if isinstance(value, dict):
            nested_kinds = kind if isinstance(kind, Mapping) else {}
            kinds = {key: True if kind is True else nested_kinds.get(key) for key in value}
            return {key: self._walk(str(key), item, kinds[key], change, rows) for key, item in value.items()}
        if kind is not True:
            return value
        if isinstance(value, Tensor):
            return change(value, 0, 1) if value.ndim > 0 and len(value) == self.count else value
        if isinstance(value, list | tuple):
            if self.profile.lists and len(value) == self.count and all(isinstance(item, Tensor) for item in value):
                return self._listed(value, change, rows)
            return type(value)(self._walk(name, item, kind, change, rows) for item in value)
        return value

    def _listed(self, items: Any, change: Callable[[Tensor, int, int], Tensor], rows: list[int] | None) -> Any:
        if rows is not None:
            return type(items)(items[row] for row in rows)
        change(pad_sequence([item.reshape(-1) for item in items], batch_first=True), 0, 1)
        change(torch.tensor([item.numel() for item in items]), 0, 1)
        return items

    def _check(self, name: str, length: int) -> None:
        if length != self.count:
            raise InputError(
                f"{length} rows in {name!r} of a call with {self.count}: the layout of {type(self.module).__name__} is "
                "not as the profile says; this diffusers may be newer than cfglab, pass profile=Profile(...)."
            )
