"""`AutoencoderKL` of diffusers in plain torch, the parts used here: same state dict, same numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8


class Resnet(nn.Module):
    """Two convolutions around a skip; with `embedding`, the time is added between them (`ResnetBlock2D`)."""

    def __init__(self, inputs: int, outputs: int, groups: int = GROUPS, embedding: int = 0, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        if embedding:
            self.time_emb_proj = nn.Linear(embedding, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        if time is not None:
            hidden = hidden + self.time_emb_proj(functional.silu(time))[:, :, None, None]
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        return hidden + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Down(nn.Module):
    """`padding` 0 pads below and to the right only, as the encoder of an autoencoder does."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, 2, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.padding else functional.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, then a change of resolution, if any."""

    def __init__(self, inputs: int, outputs: int, layers: int, change: str) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(outputs if i else inputs, outputs) for i in range(layers))
        if change == "down":
            self.downsamplers = nn.ModuleList([Down(outputs, 0)])
        elif change == "up":
            self.upsamplers = nn.ModuleList([Up(outputs)])
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        if self.change == "down":
            return self.downsamplers[0](x)
        return self.upsamplers[0](x) if self.change == "up" else x


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(channels, channels), Resnet(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.resnets[0](x))


class Encoder(nn.Module):
    def __init__(self, channels: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        inputs, last = (channels[0], *channels[:-1]), len(channels) - 1
        self.down_blocks = nn.ModuleList(
            Level(a, b, layers, "down" if i < last else "")
            for i, (a, b) in enumerate(zip(inputs, channels, strict=True))
        )
        self.mid_block = Middle(channels[-1])
        self.conv_norm_out = nn.GroupNorm(GROUPS, channels[-1], 1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 2 * latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, channels: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent, channels[-1], 3, padding=1)
        self.mid_block = Middle(channels[-1])
        turned = tuple(reversed(channels))
        inputs, last = (turned[0], *turned[:-1]), len(channels) - 1
        self.up_blocks = nn.ModuleList(
            Level(a, b, layers + 1, "up" if i < last else "")
            for i, (a, b) in enumerate(zip(inputs, turned, strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(GROUPS, channels[0], 1e-6)
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Pixels `(n, 3, 8h, 8w)` in [-1, 1] to latents `(n, latent, h, w)` and back."""

    def __init__(self, channels: Sequence[int], layers: int, latent: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, layers, latent)
        self.decoder = Decoder(channels, layers, latent)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents."""
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels rebuilt from sampled latents, and the mean and log variance of those."""
        mean, logvar = self.encode(pixels)
        return self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean)), mean, logvar
