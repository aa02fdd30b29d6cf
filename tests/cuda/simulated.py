"""A CUDA device that computes nothing: shapes, dtypes, devices, waits and memory of real networks, on a CPU build.

PyTorch's FakeTensorMode propagates shapes, dtypes and devices. Three things are added here. Small tensors (timesteps,
sigmas) carry their values, so that samplers run. Every operation for which the host waits for the device is recorded
with the line of code that asks for it. Every allocation on the device is counted while it lives.
"""

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType, FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

import cfglab

DEVICE = torch.device("cuda", 0)
VALUE = "known_value"
SMALL = 1 << 22
"""Tensors of at most so many values carry them, if all that they are made of does: not what a network predicts."""

_LIBRARY = str(Path(cfglab.__file__).parent)
_HERE = str(Path(__file__).parent)
_aten: Any = torch.ops.aten
_READS = {_aten._local_scalar_dense.default, _aten.equal.default, _aten.nonzero.default}
_PRODUCTS = {_aten.convolution.default, _aten.addmm.default, _aten.mm.default}
_UNKNOWN = ("empty", "rand", "normal", "bernoulli", "multinomial", "uniform")


@dataclass(frozen=True)
class Wait:
    """One wait of the host for the device.

    Attributes:
        kind: "read" (device to host) or "upload" (pageable host memory to device).
        operation: The name of the operation.
        library: Whether code of cfglab asks for it, and no pipeline code below it.
        where: File, line and function.
        launched: How many matrix products and convolutions were launched before it: 0 is before the first network.
    """

    kind: str
    operation: str
    library: bool
    where: str
    launched: int


@dataclass
class Memory:
    """Bytes alive on the device."""

    alive: int = 0
    peak: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    references: dict[int, Any] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        size = self.sizes[key] = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self.references[key] = weakref.ref(storage, lambda _, key=key: self._free(key))

    def _free(self, key: int) -> None:
        self.references.pop(key, None)
        self.alive -= self.sizes.pop(key, 0)


class Device:
    """The simulated device. Use `with device.active():`; tensors made inside are fakes.

    Attributes:
        waits: The waits so far, in their order.
        memory: The bytes alive and their peak.
    """

    def __init__(self) -> None:
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[Wait] = []
        self.launched = 0
        self.memory = Memory()

    @contextmanager
    def active(self) -> Iterator["Device"]:
        """A context in which tensors are simulated."""
        with torch.no_grad(), self.fake, _Operations(self), _Replacements():
            yield self

    def library_waits(self) -> list[Wait]:
        """The waits that code of cfglab asks for."""
        return [wait for wait in self.waits if wait.library]

    def waits_in_steps(self) -> list[Wait]:
        """The waits that code of cfglab asks for after the first network began and before the loop's end."""
        return [wait for wait in self.library_waits() if wait.launched and not wait.where.endswith(" finish")]

    @contextmanager
    def measured(self) -> Iterator[list[int]]:
        """A context that yields a list; after it, the bytes that were alive at most, beside those alive before."""
        gc.collect()
        before = self.memory.peak = self.memory.alive
        result: list[int] = []
        yield result
        result.append(self.memory.peak - before)

    def place(self, module: nn.Module, dtype: torch.dtype | None = None, device: torch.device = DEVICE) -> nn.Module:
        """Put a module with weights on "meta" onto the device; the weights become fakes.

        Args:
            module: The module.
            dtype: The dtype of its floating weights; None leaves them.
            device: Where the weights are.

        Returns:
            The same module, in eval mode.
        """
        for part in module.modules():
            stores: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
            for tensors in stores:
                for name, tensor in list(tensors.items()):
                    if tensor is None:
                        continue
                    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                    with self.fake:
                        fake = torch.empty(tensor.shape, dtype=kind, device=device)
                    tensors[name] = nn.Parameter(fake, requires_grad=False) if tensors is part._parameters else fake
            for name, value in list(vars(part).items()):
                if isinstance(value, Tensor):  # rotary frequencies that are no buffers
                    with self.fake:
                        vars(part)[name] = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        return module.eval()

    def real(self, value: Any) -> Any:
        """The values of a tensor on the CPU; None if they are not known."""
        if not isinstance(value, Tensor):
            return value
        if isinstance(value, FakeTensor):
            return value.__dict__.get(VALUE)
        return value if value.numel() <= SMALL and value.device.type == "cpu" else None


class _Operations(TorchDispatchMode):
    """Values of small tensors, waits and memory."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, device = kwargs or {}, self.device
        self._note_waits(func, args, kwargs)
        if func in _READS or (func is _aten.index.Tensor and _has_mask(args[1])):
            return self._read(func, args, kwargs)
        output = func(*args, **kwargs)
        device.launched += func in _PRODUCTS
        flat = [output] if isinstance(output, Tensor) else [x for x in tree_flatten(output)[0] if isinstance(x, Tensor)]
        for tensor in flat:
            if tensor.device.type == "cuda":
                device.memory.add(tensor)
        if flat and all(tensor.numel() <= SMALL for tensor in flat):
            self._keep_values(func, args, kwargs, flat)
        return output

    def _keep_values(self, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
        """Compute the values of small outputs from those of the inputs."""
        if func is _aten.bitwise_and.Tensor:  # what is not known is taken for true
            known = [arg.__dict__[VALUE] for arg in args if VALUE in arg.__dict__]
            if len(known) == 1:
                outputs[0].__dict__[VALUE] = known[0]
                return
        if any(isinstance(arg, FakeTensor) and VALUE not in arg.__dict__ for arg in args):  # most: a network's own
            if func._schema.is_mutable:
                for tensor in outputs:
                    tensor.__dict__.pop(VALUE, None)
            return
        leaves, tree = tree_flatten((args, kwargs))
        inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not inputs and any(name in str(func) for name in _UNKNOWN) and kwargs.get("generator") is None:
            return
        reals = [self.device.real(leaf) for leaf in leaves]
        if any(isinstance(leaf, Tensor) and real is None for leaf, real in zip(leaves, reals, strict=True)):
            for tensor in outputs:  # an operation in place on values that are known, with others that are not
                tensor.__dict__.pop(VALUE, None)
            return
        real_args, real_kwargs = tree.unflatten(
            [torch.device("cpu") if isinstance(leaf, torch.device) else leaf for leaf in reals]
        )
        with _disable_current_modes():
            result = func(*real_args, **real_kwargs)
        results = [x for x in tree_flatten(result)[0] if isinstance(x, Tensor)]
        for tensor, value in zip(outputs, results, strict=True):
            if isinstance(tensor, FakeTensor):
                tensor.__dict__[VALUE] = value

    def _read(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation whose result depends on values."""
        reals = tree_map(self.device.real, (args, kwargs))
        missing = [x for x, real in _pairs((args, kwargs), reals) if isinstance(x, Tensor) and real is None]
        if missing and func in (_aten._local_scalar_dense.default, _aten.equal.default):
            return True if func is _aten.equal.default or args[0].dtype == torch.bool else 1  # of what a network makes
        if missing:
            raise RuntimeError(f"{func} reads values that a simulated device does not have: {missing[0]}")
        with _disable_current_modes():
            result = func(*reals[0], **reals[1])
        if not isinstance(result, Tensor):
            return result
        source = next(x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor))
        output = torch.empty(result.shape, dtype=result.dtype, device=source.device)
        output.__dict__[VALUE] = result
        return output

    def _note_waits(self, func: Any, args: Any, kwargs: Any) -> None:
        kind = ""
        if func in _READS:
            kind = "read" if any(_on_device(x) for x in args) else ""
        elif func in (_aten._to_copy.default, _aten.copy_.default):
            source = args[0] if func is _aten._to_copy.default else args[1]
            target = kwargs.get("device", source.device) if func is _aten._to_copy.default else args[0].device
            if torch.device(target).type != source.device.type and not kwargs.get("non_blocking"):
                kind = "read" if source.device.type == "cuda" else "upload"
        elif func is _aten.index.Tensor:
            indices = [index for index in args[1] if index is not None]
            if _on_device(args[0]) and any(not _on_device(index) for index in indices):
                kind = "upload"
            elif _has_mask(indices) and _on_device(args[0]):
                kind = "read"
        if kind:
            wait = Wait(kind, str(func), *_asker(), self.device.launched)
            if wait not in self.device.waits[-1:]:  # tolist() reads number by number here
                self.device.waits.append(wait)


class _Replacements(TorchFunctionMode):
    """Python's operations on tensors whose C++ code asks for a CUDA runtime before it dispatches."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replacement = _REPLACED.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(*args, **(kwargs or {}))


def _contiguous(tensor: Tensor, *, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    same = tensor.is_contiguous(memory_format=memory_format)
    return tensor if same else _aten.clone.default(tensor, memory_format=memory_format)


def _new_tensor(tensor: Tensor, data: Any, **options: Any) -> Tensor:
    return torch.tensor(data, **{"dtype": tensor.dtype, "device": tensor.device} | options)


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    example = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    if example is not None:
        device, dtype, non_blocking = example.device, example.dtype, bool(kwargs.get("non_blocking"))
    else:
        names = ("device", "dtype", "non_blocking")
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(
            *args, **{name: kwargs[name] for name in names if name in kwargs}
        )
    device = tensor.device if device is None else DEVICE if device.type == "cuda" else device
    dtype = dtype or tensor.dtype
    if device == tensor.device and dtype == tensor.dtype and not kwargs.get("copy"):
        return tensor
    return _aten._to_copy.default(tensor, dtype=dtype, device=device, non_blocking=non_blocking)


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    result, tensors = _views(tensor, index)
    return result if not tensors else _aten.index.Tensor(result, tensors)


def _assigned(tensor: Tensor, index: Any, value: Any) -> None:
    target, tensors = _views(tensor, index)
    value = value if isinstance(value, Tensor) else torch.full((), value, dtype=tensor.dtype, device=tensor.device)
    if tensors:
        _aten.index_put_.default(target, tensors, _moved(value, tensor.dtype))
    else:
        _aten.copy_.default(target, value)


def _views(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The views that whole numbers, slices, None and ... make, and the indices by tensors that are left."""
    entries: list[Any] = list(index) if isinstance(index, tuple) else [index]
    entries = [torch.as_tensor(entry) if isinstance(entry, list | np.ndarray) else entry for entry in entries]
    used = sum(entry.ndim if _is_mask(entry) else entry is not None and entry is not ... for entry in entries)
    if not any(isinstance(entry, EllipsisType) for entry in entries):
        entries.append(...)
    result, dim = tensor, 0
    tensors: list[Tensor | None] = []
    for entry in entries:
        if isinstance(entry, EllipsisType):
            skipped = tensor.ndim - used
            tensors += [None] * skipped
            dim += skipped
        elif entry is None:
            result = result.unsqueeze(dim)
            tensors.append(None)
            dim += 1
        elif isinstance(entry, slice):
            step = 1 if entry.step is None else _number(entry.step)
            begin, end = (None if bound is None else _number(bound) for bound in (entry.start, entry.stop))
            whole = begin is None and end is None and step == 1
            result = result if whole else _aten.slice.Tensor(result, dim, begin, end, step)
            tensors.append(None)
            dim += 1
        elif isinstance(entry, Tensor) and (entry.ndim or entry.dtype in (torch.bool, torch.uint8)):
            tensors.append(entry)
            dim += entry.ndim if _is_mask(entry) else 1
        else:  # a number; torch reads an index of no dimensions, too
            result = result.select(dim, _number(entry))
    while tensors and tensors[-1] is None:
        tensors.pop()
    return result, tensors


def _number(value: Any) -> int:
    return int(value.item() if isinstance(value, Tensor) else value)


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.dtype in (torch.bool, torch.uint8)


def _has_mask(indices: Iterable[Any]) -> bool:
    return any(_is_mask(index) for index in indices)


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cuda"


def _pairs(left: Any, right: Any) -> Iterator[tuple[Any, Any]]:
    return zip(tree_flatten(left)[0], tree_flatten(right, is_leaf=lambda x: x is None)[0], strict=True)


def _asker() -> tuple[bool, str]:
    """Whose code asks for an operation: the innermost frame that is neither torch's nor a test's."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages/torch/" not in name and not name.startswith(_HERE) and "<" not in name[:1]:
            return name.startswith(_LIBRARY), f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return False, "?"


def _numpy(tensor: Tensor, dtype: Any = None, **_: Any) -> Any:
    """The values of a small tensor; a pipeline turns sigmas and timesteps into arrays."""
    value = tensor.__dict__[VALUE] if isinstance(tensor, FakeTensor) else tensor
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return np.asarray(value.detach().cpu().numpy(), dtype=dtype)


_REPLACED: dict[Any, Any] = {
    Tensor.numpy: _numpy,
    Tensor.__array__: _numpy,
    Tensor.__getitem__: _indexed,
    Tensor.__setitem__: _assigned,
    Tensor.__float__: lambda tensor: float(tensor.item()),
    Tensor.__int__: lambda tensor: int(tensor.item()),
    Tensor.__index__: lambda tensor: int(tensor.item()),
    Tensor.to: _moved,
    Tensor.cuda: lambda tensor, *_, **__: _moved(tensor, DEVICE),
    Tensor.cpu: lambda tensor, *_, **__: _moved(tensor, "cpu"),
    Tensor.contiguous: _contiguous,
    Tensor.new_tensor: _new_tensor,
    Tensor.copy_: lambda *args: _aten.copy_.default(*args),
    Tensor.nonzero: lambda tensor: _aten.nonzero.default(tensor),
    Tensor.__invert__: lambda tensor: _aten.bitwise_not.default(tensor),
    Tensor.float: lambda tensor: _moved(tensor, torch.float32),
    Tensor.double: lambda tensor: _moved(tensor, torch.float64),
    Tensor.half: lambda tensor: _moved(tensor, torch.float16),
    Tensor.bfloat16: lambda tensor: _moved(tensor, torch.bfloat16),
    Tensor.long: lambda tensor: _moved(tensor, torch.int64),
    Tensor.int: lambda tensor: _moved(tensor, torch.int32),
    Tensor.bool: lambda tensor: _moved(tensor, torch.bool),
}
