"""`scenes`: a text encoder and a U-Net that predicts the noise, in the layout of Stable Diffusion 1.x.

The noise schedule of Stable Diffusion 1.x, offset noise, min-SNR weighting (2303.09556, gamma 5) times 1 / alpha, which
lifts the steps that decide the background.
"""

import torch
from torch import Tensor

from training import tokens
from training.clip import TextEncoder
from training.common import attention
from training.generator import LATENT, SIDE, Generator, prompt_tokens
from training.latents import Batch
from training.unet import Unet

CHANNELS, WIDTH, LAYERS, HEADS = (64, 128, 192), 160, 3, 4
TWIN_CHANNELS = (48, 80, 128)
OFFSET = 0.1  # a little noise constant over the image: without it the mean colour shines through at t = 999
BETAS = (0.00085, 0.012)


class Denoiser(Generator):
    """`text.` is a `CLIPTextModel`, `unet.` a `UNet2DConditionModel`."""

    seed, name = 1, "denoiser"

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__(channels[1])
        self.text = TextEncoder(len(tokens.vocabulary()), WIDTH, LAYERS, HEADS)
        self.unet = Unet(LATENT, channels, WIDTH)
        betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas: Tensor
        self.register_buffer("alphas", (1 - betas).cumprod(0).float(), persistent=False)

    def loss(self, batch: Batch, _padded: bool, /) -> tuple[Tensor, Tensor, Tensor]:
        clean, n = batch.latents, len(batch.latents)
        timesteps = torch.randint(0, 1000, (n,), device=clean.device)
        noise = torch.randn_like(clean) + OFFSET * torch.randn(n, LATENT, 1, 1, device=clean.device)
        signal = self.alphas[timesteps]
        share = signal[:, None, None, None]
        noisy = (share.sqrt() * clean + (1 - share).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with attention(clean.device):
            predicted, inner = self.unet(noisy, timesteps, self.text(batch.tokens))
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        weight = (5 * (1 - signal) / signal).clamp(max=1) / signal.sqrt()
        return weight * error, error, inner

    @torch.no_grad()
    def sample(self, prompts: list[str], w: float, steps: int, generator: torch.Generator) -> Tensor:
        """DDIM, as `DDIMScheduler` with leading spacing and an offset of one."""
        device, n = self.alphas.device, len(prompts)
        states = self.text(prompt_tokens(prompts, device))
        x = torch.randn((n, LATENT, SIDE, SIDE), generator=generator, device=device)
        ratio = 1000 // steps
        for t in range((steps - 1) * ratio + 1, 0, -ratio):
            time = torch.tensor([t], device=device).expand(2 * n)
            empty, asked = self.unet(torch.cat([x, x]), time, states)[0].chunk(2)
            noise = empty + w * (asked - empty)
            now, later = self.alphas[t], self.alphas[max(t - ratio, 0)]
            clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
            x = later.sqrt() * clean + (1 - later).sqrt() * noise
        return x
