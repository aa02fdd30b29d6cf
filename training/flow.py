"""`scenes-flow`: flow matching with a transformer of joint attention, in the layout of Stable Diffusion 3.

Two small text encoders, as that pipeline has two; the third, T5, is a stub whose every token is zero. The pipeline asks
it for 256 tokens unless `max_sequence_length=1` is given, which is faster: a quarter of the batches have 256 of them.
"""

import torch
from torch import Tensor

from training import tokens
from training.clip import TextEncoder
from training.common import attention
from training.generator import LATENT, SIDE, Generator, prompt_tokens
from training.latents import Batch
from training.mmdit import Transformer

PATCH, WIDTH, HEAD, BLOCKS = 2, 160, 32, 6
TEXT_WIDTHS, TEXT_LAYERS, TEXT_HEADS = (128, 64), 3, 4
NAMED_AFTER = 2  # the block whose image tokens name cells
TWIN = {"width": 96, "blocks": 3}


class Flow(Generator):
    """`text.` and `text_2.` are `CLIPTextModelWithProjection`, `transformer.` a `SD3Transformer2DModel`."""

    seed, name = 2, "flow"

    def __init__(self, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__(width)
        words, both = len(tokens.vocabulary()), sum(TEXT_WIDTHS)
        self.text, self.text_2 = (TextEncoder(words, w, TEXT_LAYERS, TEXT_HEADS, w) for w in TEXT_WIDTHS)
        self.transformer = Transformer(LATENT, PATCH, SIDE, width, width // HEAD, blocks, both, both)
        self.end = tokens.vocabulary()[tokens.END]

    def states(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the pipeline makes of a prompt: states `(n, 32, 192)` and one vector `(n, 192)`."""
        first, second = self.text.projected(rows, self.end), self.text_2.projected(rows, self.end)
        return torch.cat([first[0], second[0]], -1), torch.cat([first[1], second[1]], -1)

    def loss(self, batch: Batch, padded: bool, /) -> tuple[Tensor, Tensor, Tensor]:
        clean, n = batch.latents, len(batch.latents)
        noise = torch.randn_like(clean)
        level = torch.where(
            torch.rand(n, device=clean.device) < 0.8,
            torch.randn(n, device=clean.device).sigmoid(),
            torch.rand(n, device=clean.device),
        )
        share = level[:, None, None, None]
        noisy = (1 - share) * clean + share * noise
        states, pooled = self.states(batch.tokens)
        with attention(clean.device):
            predicted, inner = self.transformer(noisy, 1000 * level, states, pooled, 256 if padded else 1, NAMED_AFTER)
        error = (predicted.float() - (noise - clean)).square().mean((1, 2, 3))
        return error, error, inner

    @torch.no_grad()
    def sample(self, prompts: list[str], w: float, steps: int, generator: torch.Generator, zeros: int = 1) -> Tensor:
        """Euler steps, as `FlowMatchEulerDiscreteScheduler` with a shift of one."""
        device, n = self.transformer.context_embedder.weight.device, len(prompts)
        states, pooled = self.states(prompt_tokens(prompts, device))
        x = torch.randn((n, LATENT, SIDE, SIDE), generator=generator, device=device)
        levels = torch.linspace(1, 1 / 1000, steps, device=device).tolist()
        for now, later in zip(levels, [*levels[1:], 0.0], strict=True):
            time = torch.full((2 * n,), 1000 * now, device=device)
            empty, asked = self.transformer(torch.cat([x, x]), time, states, pooled, zeros)[0].chunk(2)
            x = x + (later - now) * (empty + w * (asked - empty))
        return x
