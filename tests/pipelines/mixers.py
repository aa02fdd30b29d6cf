"""What people put into a denoiser that looks at several rows of the batch, or keeps something from call to call.

Each is a function of a network that changes it and returns what takes the change back.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero import (
    CrossFrameAttnProcessor2_0,
)
from torch import Tensor, nn

Undo = Callable[[], object]


class Shared:
    """StyleAligned: every row attends to the first row of its half, too."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **more: Any) -> Tensor:
        half = max(1, len(hidden_states) // 2)
        if encoder_hidden_states is None:
            first = hidden_states[torch.arange(len(hidden_states)) // half % 2 * half % len(hidden_states)]
            encoder_hidden_states = torch.cat([hidden_states, first + hidden_states.mean(0, keepdim=True)], dim=1)
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, **more)


class Edited(AttnProcessor):
    """Prompt-to-prompt: the maps of the last prompt are mixed with those of the first, in the half with prompts."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **more: Any) -> Tensor:
        out = super().__call__(attn, hidden_states, encoder_hidden_states, **more)
        _, cond = out.chunk(2) if len(out) > 1 else (out, out)
        cond[-1:] = 0.5 * (cond[-1:] + out[:1])
        return out


class Gated(AttnProcessor2_0):
    """T-GATE: cross-attention of the first two calls is kept, averaged over the halves, and used afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.kept = 0, torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **more: Any) -> Tensor:
        if encoder_hidden_states is None:
            return super().__call__(attn, hidden_states, **more)
        self.calls += 1
        if self.calls <= 2:
            self.kept = super().__call__(attn, hidden_states, encoder_hidden_states, **more)
            return self.kept
        uncond, cond = self.kept.chunk(2)
        return torch.cat([(uncond + cond) / 2] * 2)


class Averaged(nn.Module):
    """A block inside a module of somebody's."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return mixed(self.block(*args, **kwargs))


def mixed(output: Tensor) -> Tensor:
    return output + 0.3 * output.mean(0, keepdim=True)


def processors(make: Callable[[], Any]) -> Callable[[Any], Undo]:
    def put(network: Any) -> Undo:
        before = network.attn_processors
        network.set_attn_processor({name: make() for name in before})
        return lambda: network.set_attn_processor(dict(before))

    return put


def replaced_by(make: Callable[[Any], Any], name: str = "conv_out") -> Callable[[Any], Undo]:
    def put(network: Any) -> Undo:
        before = getattr(network, name)
        setattr(network, name, make(before))
        return lambda: setattr(network, name, before)

    return put


def hook(network: Any) -> Undo:
    return network.mid_block.register_forward_hook(lambda _module, _args, output: mixed(output)).remove


def pre_hook(network: Any) -> Undo:
    return network.conv_out.register_forward_pre_hook(lambda _module, args: (mixed(args[0]),)).remove


def global_hook(network: Any) -> Undo:
    last = network.conv_out

    def average(module: Any, _args: Any, output: Any) -> Any:
        return mixed(output) if module is last else None

    return nn.modules.module.register_module_forward_hook(average).remove


def cached_middle(network: Any) -> Undo:
    """DeepCache: the middle is computed at every second call."""
    own, kept = network.mid_block.forward, list[Any]()

    @functools.wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if len(kept) % 2 == 0:
            kept.append(own(*args, **kwargs))
        else:
            kept.append(kept[-1])
        return kept[-1]

    network.mid_block.forward = forward
    return lambda: delattr(network.mid_block, "forward")


def patched_class(network: Any) -> Undo:
    """A method of the class, changed for all of its instances."""
    kind = type(network.mid_block)
    own = kind.forward

    @torch.no_grad()
    @functools.wraps(own)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return mixed(own(self, *args, **kwargs))

    kind.forward = forward
    return lambda: setattr(kind, "forward", own)


def patched_method(network: Any) -> Undo:
    """A method that `forward` calls, changed for one instance."""
    own = network.get_time_embed
    network.get_time_embed = lambda *args, **kwargs: mixed(own(*args, **kwargs) + len(kwargs["sample"]))
    return lambda: delattr(network, "get_time_embed")


def patched_function(network: Any) -> Undo:  # noqa: ARG001
    own = torch.nn.functional.scaled_dot_product_attention

    def attention(*args: Any, **kwargs: Any) -> Tensor:
        return mixed(own(*args, **kwargs))

    torch.nn.functional.scaled_dot_product_attention = attention
    return lambda: setattr(torch.nn.functional, "scaled_dot_product_attention", own)


def dropout(network: Any) -> Undo:
    """A LoRA that is being trained."""
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False, lora_dropout=0.3)
        network.add_adapter(layers)
    network.train()

    def undo() -> None:
        network.eval()
        network.delete_adapters(["default"])
        network.unload_lora()

    return undo


def normalised(before: nn.Module) -> nn.Module:
    layer = nn.BatchNorm2d(before.out_channels, track_running_stats=False)  # type: ignore[arg-type]
    return nn.Sequential(before, layer)


MIXERS: dict[str, Callable[[Any], Undo]] = {
    "attention that is shared": processors(Shared),
    "attention that is edited": processors(Edited),
    "attention across frames": processors(lambda: CrossFrameAttnProcessor2_0(batch_size=1)),
    "attention that is kept": processors(Gated),
    "a hook": hook,
    "a hook before": pre_hook,
    "a hook of all modules": global_hook,
    "a cache": cached_middle,
    "a class that was patched": patched_class,
    "a method that was patched": patched_method,
    "a function that was patched": patched_function,
    "a module of one's own": replaced_by(Averaged),
    "statistics of the batch": replaced_by(normalised),
    "softmax over the batch": replaced_by(lambda before: nn.Sequential(before, nn.Softmax(dim=0))),
    "dropout": dropout,
}
