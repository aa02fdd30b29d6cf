"""`UNet2DConditionModel` of diffusers in plain torch, the parts used here: same state dict, same numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.vae import Down, Resnet, Up

HEADS = 4


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of timesteps `(n,)`, as diffusers' `Timesteps` with `flip_sin_to_cos`."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


class TimeEmbedding(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(functional.silu(self.linear_1(x)))


class _Attention(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))


class _Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gated(width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class _Block(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(width), _Attention(width, width)
        self.norm2, self.attn2 = nn.LayerNorm(width), _Attention(width, context)
        self.norm3, self.ff = nn.LayerNorm(width), _FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        inner = self.norm1(x)
        x = x + self.attn1(inner, inner)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, context: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([_Block(width, context)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.transformer_blocks[0](tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, (height, width)))


class _Level(nn.Module):
    """Residual blocks, each with attention or none, then a change of resolution, if any."""

    def __init__(self, pairs: Sequence[tuple[int, int]], context: int, change: str, time: int, groups: int) -> None:
        super().__init__()
        width = pairs[0][1]
        if context:
            self.attentions = nn.ModuleList(_Transformer(width, context, groups) for _ in pairs)
        self.resnets = nn.ModuleList(Resnet(a, b, groups, time, 1e-5) for a, b in pairs)
        if change == "down":
            self.downsamplers = nn.ModuleList([Down(width, 1)])
        elif change == "up":
            self.upsamplers = nn.ModuleList([Up(width)])

    def step(self, i: int, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


class _Middle(nn.Module):
    def __init__(self, width: int, context: int, time: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Transformer(width, context, groups)])
        self.resnets = nn.ModuleList(Resnet(width, width, groups, time, 1e-5) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time), context), time)


class Unet(nn.Module):
    """One residual block a level on the way down, two on the way up, attention everywhere but at full resolution."""

    def __init__(self, latent: int, channels: Sequence[int], context: int, groups: int = 16) -> None:
        super().__init__()
        time, last = 4 * channels[0], len(channels) - 1
        self.channels = tuple(channels)
        self.conv_in = nn.Conv2d(latent, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], time)
        inputs = (channels[0], *channels[:-1])
        self.down_blocks = nn.ModuleList(
            _Level([(inputs[i], width)], context if i else 0, "down" if i < last else "", time, groups)
            for i, width in enumerate(channels)
        )
        self.mid_block = _Middle(channels[-1], context, time, groups)
        ups, x = [], channels[-1]
        for i in range(last, -1, -1):  # each block of a level is given one state of the way down
            pairs = [(x + channels[i], channels[i]), (channels[i] + inputs[i], channels[i])]
            ups.append(_Level(pairs, context if i else 0, "up" if i else "", time, groups))
            x = channels[i]
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], 1e-5)
        self.conv_out = nn.Conv2d(channels[0], latent, 3, padding=1)

    def forward(self, noisy: Tensor, timesteps: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction `(n, latent, 16, 16)`, and the inner state at 8×8, `(n, channels[1], 8, 8)`, on the way up."""
        time = self.time_embedding(sinusoids(timesteps, self.channels[0]).to(noisy.dtype))
        x = self.conv_in(noisy)
        states = [x]
        for block in self.down_blocks:
            assert isinstance(block, _Level)
            x = block.step(0, x, time, context)
            states.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                states.append(x)
        x = inner = self.mid_block(x, time, context)
        for level, block in enumerate(self.up_blocks):
            assert isinstance(block, _Level)
            for i in range(2):
                x = block.step(i, torch.cat([x, states.pop()], 1), time, context)
            if level == len(self.up_blocks) - 2:
                inner = x
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        return self.conv_out(functional.silu(self.conv_norm_out(x))), inner
