"""Whether a network is known to keep the rows of its batch apart, so that rows can be skipped and equal ones run once.

It is known for networks of known libraries' layers, attention processors and hooks, if none of them mixes rows. The
whole tree is read at the first call of a run; later calls compare the recorded state with the present one."""

import re
from collections.abc import Iterator
from itertools import chain
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

from cfglab.pipelines.interception.trusted_code import (
    PIPELINES,
    foreign,
    foreign_class,
    home,
    is_called,
    is_custom_tensor,
    is_plain,
)

STATELESS = ("layerwise_casting", "peft_autocast_disable", "group_offloading", "layer_execution_tracker", "layer_skip")
"""diffusers' hooks that neither keep anything over the steps nor look at more than a row; in names of hooks."""

MIXING = re.compile(r"PAG|(?<!LTX2)Perturbed|Store|CrossFrame|AttendExcite|Pix2PixZero|LEDITS")
"""Attention processors of diffusers that count on a batch of a certain layout, or keep what they saw. LTX-2's perturbs
the rows that it is told to."""

SHARES = ("dropout", "dropout_p", "dropout_prob", "attention_dropout")
"""Attributes of layers that are a share of values to leave out, in training."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")
_REPLACED = ("forward", "_old_forward", "_hf_hook", "processor", "_compiled_call_impl")
_PARAMETERS = {nn.Parameter, type(None)}
_SEQUENCES = (nn.MultiheadAttention, nn.RNNBase)
_OVER_A_DIMENSION = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU)
_CONFIGURABLE = (nn.modules.batchnorm._BatchNorm, torch.jit.ScriptModule, nn.Flatten, *_SEQUENCES, *_OVER_A_DIMENSION)
"""Kinds of torch that mix rows or not, as they are set."""

_DATA: set[type] = set()
"""Types of attributes that are neither modules nor code."""


class Watched:
    """One network, watched through a run."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._last_state: tuple[Any, ...] = ()
        self._reason = ""

    def reason(self) -> str:
        """Why the rows may be mixed.

        Returns:
            A few words; "" if it is known that the network keeps rows apart.
        """
        if not self._last_state or self._state() != self._last_state:
            self._modules = list(_tree(self._network))
            self._states = states = list(map(vars, self._modules))
            self._children = [state["_modules"] for state in states if state["_modules"]]
            self._hooks = [state[name] for name in _HOOKS for state in states]
            self._replaced = [(state, name) for name in _REPLACED for state in states if name in state]
            self._registries = [state["_diffusers_hook"] for state in states if "_diffusers_hook" in state]
            processors = [state["processor"] for state, name in self._replaced if name == "processor"]
            self._kinds = list(set(map(type, self._modules)) | set(map(type, processors)))
            self._reason = _reason(self._modules)
            self._last_state = self._state()
        return self._reason

    def _state(self) -> tuple[Any, ...]:
        """What tells a network that was read from one that was changed since: a millisecond for two thousand layers."""
        return (
            list(map(len, self._states)),
            list(map(type, self._modules)),
            [state.get("training") for state in self._states],  # a compiled module has it from what it wraps
            list(chain.from_iterable(map(dict.values, self._children))),
            [list(hooks.values()) for hooks in self._hooks if hooks] if any(self._hooks) else [],
            [state.get(name) for state, name in self._replaced],
            [list(registry.hooks.values()) for registry in self._registries],
            [(kind.__call__, getattr(kind, "forward", None)) for kind in self._kinds],
            [len(getattr(torch_module, name)) for name in _GLOBAL],
            functional.scaled_dot_product_attention,
        )


def _tree(network: nn.Module) -> Iterator[nn.Module]:
    """A module and all in it, each once; those in plain attributes too. `modules()` makes names, which takes longer."""
    pending, visited = [network], set()
    while pending:
        part = pending.pop()
        if part is None or id(part) in visited:
            continue
        visited.add(id(part))
        yield part
        state = vars(part)
        if inside := state["_modules"]:
            pending += inside.values()
        pending += [value for value in _code(state) if isinstance(value, nn.Module)]


def _code(state: dict[str, Any]) -> list[Any]:
    """The attributes that are modules or can be called."""
    types = set(map(type, state.values()))
    if types <= _DATA:
        return []
    _DATA.update(kind for kind in types if is_plain(kind))
    return [value for value in state.values() if type(value) not in _DATA]


def _reason(modules: list[nn.Module]) -> str:
    for name in _GLOBAL:
        for hook in getattr(torch_module, name).values():
            if unread := foreign(hook):
                return f"torch has a hook for all modules, {unread}, which"
    attention: Any = functional.scaled_dot_product_attention
    if not isinstance(attention, BuiltinFunctionType) and (unread := foreign(attention)):
        return f"torch's attention was replaced by {unread}, which"
    kinds = {kind: foreign_class(kind) for kind in set(map(type, modules))}
    for module in modules:
        if unread := kinds[type(module)]:
            return f"the layer {unread}"
        state = vars(module)
        if reason := _attached(module, state) or _mixes(module, state):
            return reason
    return ""


def _attached(module: nn.Module, state: dict[str, Any]) -> str:
    """What was put on this module from outside and is not known."""
    for name in _HOOKS:
        for hook in state[name].values():
            if unread := foreign(hook):
                return f"the hook {unread}"
            if home(hook).startswith(PIPELINES):
                return f"a hook of {home(hook)}"
    if (registry := state.get("_diffusers_hook")) is not None and (reason := _registered(registry)):
        return reason
    for hook in _of_accelerate(state.get("_hf_hook")):
        if unread := foreign_class(type(hook)):
            return f"the hook {unread}"
    for value in _code(state):
        if isinstance(value, nn.Module):
            continue
        name = next(name for name, attribute in state.items() if attribute is value)
        if unread := foreign(value):
            role = "attention processor" if name == "processor" else f"{name} of {type(module).__name__}, replaced by"
            return f"the {role} {unread}"
        if MIXING.search(type(value).__name__) or (is_called(type(value)) and home(value).startswith(PIPELINES)):
            return f"the {name} {type(value).__name__} of diffusers"
    return ""


def _of_accelerate(hook: Any) -> Iterator[Any]:
    if hook is not None:
        yield hook
        for nested in getattr(hook, "hooks", ()):
            yield from _of_accelerate(nested)


def _registered(registry: Any) -> str:
    """diffusers' own hooks: those that keep something over the steps, or that diffusers has not made."""
    for name, hook in registry.hooks.items():
        if unread := foreign_class(type(hook)):
            return f"the hook {unread}"
        if not any(stateless in name for stateless in STATELESS):
            return f"diffusers' {name} keeps what it saw at earlier calls, and"
    for reference in getattr(registry, "_fn_refs", ()):
        for called in (reference.forward, reference.original_forward):
            if called is not None and (unread := foreign(called)):
                return f"a forward, replaced by {unread},"
    return ""


def _mixes(module: nn.Module, state: dict[str, Any]) -> str:
    """A library's layer that mixes rows as it is set."""
    kind = type(module)
    if "quantized.dynamic" in kind.__module__ or _dynamic(state):
        return f"{kind.__name__} scales its activations by the whole batch and"
    if state.get("training") and _draws(module, state):
        return f"{kind.__name__} draws random numbers in training mode (eval() on the network ends that), and"
    if isinstance(module, _CONFIGURABLE) and (reason := _as_configured(module)):
        return reason
    return f"the layer {kind.__name__}" if MIXING.search(kind.__name__) else ""


def _as_configured(module: Any) -> str:
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        return f"a scripted {name} cannot be read and"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return f"{name} takes the statistics of the batch and" if module.training or module.running_mean is None else ""
    if isinstance(module, _SEQUENCES):
        return "" if module.batch_first else f"{name} without batch_first reads the rows as a sequence and"
    if isinstance(module, nn.Flatten):
        return f"{name} from the first dimension" if module.start_dim == 0 else ""
    return f"{name} over the first dimension" if module.dim in (0, None) else ""


def _draws(module: nn.Module, state: dict[str, Any]) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RReLU):
        return True
    return any(isinstance(share := state.get(name), int | float) and share > 0 for name in SHARES)


def _dynamic(state: dict[str, Any]) -> bool:
    """Whether a quantised layer's arithmetic depends on the largest activation of the batch."""
    if "state" in state and getattr(state["state"], "threshold", False):  # bitsandbytes' LLM.int8
        return True
    parameters = state["_parameters"].values()
    if not parameters or set(map(type, parameters)) <= _PARAMETERS:
        return False
    return any(
        is_custom_tensor(value)
        or "Activation" in type(value).__name__
        or getattr(value, "act_quant_kwargs", None) is not None
        for value in parameters
    )
