"""`SD3Transformer2DModel` of diffusers in plain torch, the parts used here: same state dict, same numbers."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.unet import TimeEmbedding, sinusoids


def _sincos(width: int, side: int) -> Tensor:
    """Positions of a grid of `side` × `side` patches, `(1, side², width)`, as diffusers' sin-cos embedding."""
    rates = 1 / 10_000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    line = torch.arange(side, dtype=torch.float64)
    angles = line[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # (side, width / 2)
    across = waves[None].expand(side, -1, -1)
    down = waves[:, None].expand(-1, side, -1)
    return torch.cat([across, down], -1).reshape(1, side * side, width).float()


class _Patches(nn.Module):
    def __init__(self, latent: int, patch: int, width: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(latent, width, patch, patch)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", _sincos(width, side))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2) + self.pos_embed


class _Conditioning(nn.Module):
    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.timestep_embedder = TimeEmbedding(256, width)
        self.text_embedder = TimeEmbedding(pooled, width)

    def forward(self, timesteps: Tensor, pooled: Tensor) -> Tensor:
        return self.timestep_embedder(sinusoids(timesteps, 256).to(pooled.dtype)) + self.text_embedder(pooled)


class _Modulation(nn.Module):
    """`parts` rows of scale, shift and gate from the conditioning."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        return self.linear(functional.silu(conditioning))[:, None].chunk(self.parts, dim=-1)


def _normed(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class _Gelu(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.proj(x), approximate="tanh")


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gelu(width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class _Norm(nn.RMSNorm):
    """In float32, whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _JointAttention(nn.Module):
    """Image and text attend to both; queries and keys are normalised (`qk_norm="rms_norm"`)."""

    def __init__(self, width: int, heads: int, last: bool) -> None:
        super().__init__()
        self.heads = heads
        each = width // heads
        self.norm_q, self.norm_k = _Norm(each, 1e-6), _Norm(each, 1e-6)
        self.norm_added_q, self.norm_added_k = _Norm(each, 1e-6), _Norm(each, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_k_proj, self.add_v_proj, self.add_q_proj = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        if not last:
            self.to_add_out = nn.Linear(width, width)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        q = torch.cat(
            [self.norm_q(self._heads(self.to_q(x))), self.norm_added_q(self._heads(self.add_q_proj(text)))], 2
        )
        k = torch.cat(
            [self.norm_k(self._heads(self.to_k(x))), self.norm_added_k(self._heads(self.add_k_proj(text)))], 2
        )
        v = torch.cat([self._heads(self.to_v(x)), self._heads(self.add_v_proj(text))], 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        return mixed[:, : x.shape[1]], mixed[:, x.shape[1] :]


class _JointBlock(nn.Module):
    def __init__(self, width: int, heads: int, last: bool) -> None:
        super().__init__()
        self.norm1 = _Modulation(width, 6)
        self.norm1_context = _Modulation(width, 2 if last else 6)
        self.attn = _JointAttention(width, heads, last)
        self.ff = _FeedForward(width)
        if not last:
            self.ff_context = _FeedForward(width)
        self.last = last

    def forward(self, x: Tensor, text: Tensor, conditioning: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.norm1(conditioning)
        of_text = self.norm1_context(conditioning)
        # the last block's text norm gives the scale first
        text_in = _normed(text, of_text[1], of_text[0]) if self.last else _normed(text, of_text[0], of_text[1])
        mixed, mixed_text = self.attn(_normed(x, shift, scale), text_in, bias)
        x = x + gate * self.attn.to_out[0](mixed)
        x = x + gate_ff * self.ff(_normed(x, shift_ff, scale_ff))
        if self.last:
            return x, text
        text = text + of_text[2] * self.attn.to_add_out(mixed_text)
        return x, text + of_text[5] * self.ff_context(_normed(text, of_text[3], of_text[4]))


class Transformer(nn.Module):
    """Latents `(n, latent, 16, 16)`, text `(n, 32, joint)` and one vector a text `(n, pooled)` to a velocity.

    The third text encoder of `StableDiffusion3Pipeline` is a stub here, whose tokens are all zeros. They stay alike in
    every layer, so `zeros` of them are computed as one token that counts that often in the attention: the same numbers.
    """

    def __init__(
        self, latent: int, patch: int, side: int, width: int, heads: int, layers: int, joint: int, pooled: int
    ) -> None:
        super().__init__()
        self.patch, self.side = patch, side
        self.pos_embed = _Patches(latent, patch, width, side // patch)
        self.time_text_embed = _Conditioning(width, pooled)
        self.context_embedder = nn.Linear(joint, width)
        self.transformer_blocks = nn.ModuleList(_JointBlock(width, heads, i == layers - 1) for i in range(layers))
        self.norm_out = _Modulation(width, 2)
        self.proj_out = nn.Linear(width, patch * patch * latent)
        for name, value in self.named_parameters():
            if value.ndim == 2:
                nn.init.xavier_uniform_(value)
            elif name.endswith("bias"):
                nn.init.zeros_(value)
            if "norm1" in name or "norm_out" in name or "proj_out" in name:  # adaLN-zero
                nn.init.zeros_(value)

    def forward(
        self, noisy: Tensor, timesteps: Tensor, text: Tensor, pooled: Tensor, zeros: int = 0, inner_after: int = -1
    ) -> tuple[Tensor, Tensor]:
        """The velocity, and the image tokens after block `inner_after` as a map `(n, width, h, w)`."""
        x, bias = self.pos_embed(noisy), None
        conditioning = self.time_text_embed(timesteps, pooled)
        if zeros:
            text = torch.cat([text, text.new_zeros(len(text), 1, text.shape[2])], 1)
        if zeros > 1:
            bias = text.new_zeros(1, 1, 1, x.shape[1] + text.shape[1])
            bias[..., -1] = math.log(zeros)
        text = self.context_embedder(text)
        inner = x
        for i, block in enumerate(self.transformer_blocks):
            x, text = block(x, text, conditioning, bias)
            if i == inner_after:
                inner = x
        scale, shift = self.norm_out(conditioning)
        x = self.proj_out(_normed(x, shift, scale))
        grid = self.side // self.patch
        x = x.view(len(x), grid, grid, self.patch, self.patch, -1)
        picture = torch.einsum("nhwpqc->nchpwq", x).reshape(noisy.shape)
        return picture, inner.transpose(1, 2).unflatten(2, (grid, grid))
