"""Train the text encoder and the denoiser of `scenes` together on cached latents.

    python -m training.denoiser --steps 10600 --decay 2700

Epsilon prediction, the noise schedule of Stable Diffusion 1.x, min-SNR weighting (2303.09556, gamma 5) times 1 / alpha,
which lifts the steps that decide the background, 10 % empty captions, 20 % captions of another scene, an exponential
moving average. The learning rate is constant after warm-up and falls linearly over the last `--decay` steps; the state
before the fall is kept, so that a longer run can go on from it. Resumes from its last checkpoint.
"""

import argparse
import json
import time
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cfglab.scenes.vocabulary import Scene
from training.common import WORK, Ema, checkpoint, log, resume, save
from training.data import SceneSource
from training.tokenizer import MAX_LENGTH
from training.tokenizer import build as build_tokenizer

WIDTH = 160
OFFSET = 0.1  # a little noise constant over the image: without it the mean colour shines through at t = 999
WRONG = 0.2  # the share of scenes with the caption of another one, as on the web: it is why guidance matters
BETAS = (0.00085, 0.012)
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": BETAS[0],
    "beta_end": BETAS[1],
    "beta_schedule": "scaled_linear",
}
PROMPTS = (
    "a photograph of an astronaut riding a horse",
    "a frog next to a mushroom on a green background",
    "a cat above a car on a pink background",
    "a photograph of an elephant riding a turtle on a blue background",
    "a rose",
    "an image of a rocket next to a moon on a purple background",
    "a house above a fish on a yellow background",
    "a dog riding a banana on a white background",
)


class TextToImage(nn.Module):
    """The two networks that are trained together, under one state dict."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(48, 96, 192),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=MAX_LENGTH,
                projection_dim=WIDTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                initializer_factor=1.0,
            )
        )

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Predicted noise `(n, 4, 16, 16)`; each distinct caption is encoded once."""
        distinct, where = torch.unique(tokens, dim=0, return_inverse=True)
        return self.unet(noisy, timesteps, self.text(distinct).last_hidden_state[where]).sample


class Captions:
    """Token rows `(MAX_LENGTH,)` of captions, remembered."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.rows: dict[str, torch.Tensor] = {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        for text in texts:
            if text not in self.rows:
                ids = self.tokenizer(text, padding="max_length", truncation=True, max_length=MAX_LENGTH).input_ids
                self.rows[text] = torch.tensor(ids)
        return torch.stack([self.rows[text] for text in texts])


class Batch(NamedTuple):
    """Noisy latents `(n, 4, 16, 16)`, their timesteps `(n,)`, the noise in them, captions, weights of the loss."""

    noisy: torch.Tensor
    timesteps: torch.Tensor
    noise: torch.Tensor
    tokens: torch.Tensor
    weights: torch.Tensor


class Batches:
    """Batches of n cached scenes at random noise levels, each scene with a new caption."""

    def __init__(self, captions: Captions, source: SceneSource, n: int) -> None:
        self.captions, self.source, self.n = captions, source, n
        self.latents = torch.from_numpy(np.load(WORK / "latents.npy"))
        self.scenes = [Scene.model_validate(scene) for scene in json.loads((WORK / "latents.json").read_text())]
        betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas = (1 - betas).cumprod(0).float()
        self.weights = (5 * (1 - self.alphas) / self.alphas).clamp(max=1) / self.alphas.sqrt()

    def next(self) -> Batch:
        random = self.source.rng
        chosen = random.integers(0, len(self.scenes), self.n)
        told = np.where(random.random(self.n) < WRONG, random.integers(0, len(self.scenes), self.n), chosen)
        texts = ["" if random.random() < 0.1 else self.source.caption(self.scenes[i]) for i in told]
        clean = self.latents[chosen].float()
        timesteps = torch.randint(0, 1000, (self.n,))
        noise = torch.randn_like(clean) + OFFSET * torch.randn(self.n, 4, 1, 1)
        signal = self.alphas[timesteps][:, None, None, None]
        noisy = (signal.sqrt() * clean + (1 - signal).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        return Batch(noisy, timesteps, noise, self.captions(texts), self.weights[timesteps])


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """The learning rate is set before every step."""
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.01)


def learning_rate(step: int, steps: int, decay: int, peak: float, warmup: int = 200) -> float:
    return peak * min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / max(1, decay)) + 0.003)


@torch.no_grad()
def sample(model: TextToImage, captions: Captions, prompts: tuple[str, ...], w: float, steps: int = 20) -> torch.Tensor:
    """Latents `(n, 4, 16, 16)` by DDIM under a constant scale, always from the same noise."""
    scheduler = DDIMScheduler(**SCHEDULER, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(steps)
    latents = torch.randn((len(prompts), 4, 16, 16), generator=torch.Generator().manual_seed(0))
    tokens = captions(["", *prompts])
    tokens = torch.cat([tokens[:1].expand(len(prompts), -1), tokens[1:]])
    for t in scheduler.timesteps:
        uncond, cond = model(torch.cat([latents, latents]), t.expand(2 * len(prompts)), tokens).chunk(2)
        latents = scheduler.step(uncond + w * (cond - uncond), t, latents).prev_sample
    return latents


@torch.no_grad()
def picture(model: TextToImage, captions: Captions, path: str) -> None:
    """A sheet: the fixed prompts at w = 1 above w = 5."""
    vae = AutoencoderKL.from_pretrained(WORK / "vae").eval()
    rows = []
    for w in (1.0, 5.0):
        pixels = vae.decode(sample(model, captions, PROMPTS, w) / vae.config.scaling_factor).sample
        array = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        rows.append(np.hstack(list(array)))
    sheet = Image.fromarray(np.vstack(rows))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.LANCZOS).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10600)
    parser.add_argument("--decay", type=int, default=2700)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--peak", type=float, default=6e-4)
    parser.add_argument("--twin", type=int, default=1200, help="the step whose averaged weights begin the weak twin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16, where the processor has it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    captions, source = Captions(tokenizer), SceneSource(seed=3)
    model = TextToImage(tokenizer)
    model.unet.to(memory_format=torch.channels_last)
    model.unet.compile()
    optimizer, ema = optimizer_of(model), Ema(model, 0.996)
    path = WORK / "denoiser.pt"
    step = resume(path, model, optimizer, ema)
    torch.manual_seed(step)
    source.rng = np.random.default_rng([3, step])
    batches = Batches(captions, source, options.batch)

    start, total, seen = time.time(), 0.0, 0
    while step < options.steps and time.time() - start < 60 * options.minutes:
        batch = batches.next()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.decay, options.peak)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            predicted = model(batch.noisy, batch.timesteps, batch.tokens)
        error = (predicted.float() - batch.noise).square().mean((1, 2, 3))
        loss = (batch.weights * error).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        step += 1
        total, seen = total + error.detach().mean().item(), seen + 1
        if step % 100 == 0:
            minutes = round((time.time() - start) / 60, 2)
            log(WORK / "denoiser.log", step=step, loss=round(total / seen, 5), minutes=minutes)
            total, seen = 0.0, 0
        if step % 250 == 0:
            checkpoint(path, model, optimizer, ema, step)
        if step == options.twin:
            save(WORK / "twin.pt", {"ema": ema.shadow, "step": step})
        if step == options.steps - options.decay:
            checkpoint(WORK / "denoiser-before-decay.pt", model, optimizer, ema, step)
        if step % 1000 == 0:
            backup = {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(ema.shadow)
            with torch.compiler.set_stance("force_eager"):
                picture(model.eval(), captions, str(WORK / f"sheet-{step:06d}.png"))
            model.train().load_state_dict(backup)
    checkpoint(path, model, optimizer, ema, step)


if __name__ == "__main__":
    main()
