"""Train the autoencoder: 128×128×3 pixels to 16×16×8 latents, `AutoencoderKL` with a thin full resolution.

Learns from crops of 64×64 (the network is convolutional), in the last part from whole images. The loss is squared and
absolute error, the absolute error of edges at three scales (sharp outlines of sprites), and a little KL.
"""

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfglab.scenes import png, renderer
from cfglab.scenes.vocabulary import SIZE
from training.common import Muon, Plan, Run, autocast, log, need, set_up, work
from training.source import SceneSource
from training.vae import Autoencoder

CHANNELS, LAYERS, LATENT = (16, 32, 64, 128), 1, 8
KL_WEIGHT = 2e-3  # for one nat a pixel
WHOLE_FROM = 0.6
DECODER_NOISE = 0.15  # at most, as a share of the deviation of the latents


def build() -> Autoencoder:
    """A fresh autoencoder; residual branches start at zero, so that at first the network is nearly linear."""
    model = Autoencoder(CHANNELS, LAYERS, LATENT)
    for name, value in model.named_parameters():
        if ".resnets." in name and ".conv2." in name:
            torch.nn.init.zeros_(value)
    return model


def to_pixels(pictures: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return pictures.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def to_bytes(pixels: Tensor) -> Tensor:
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def batch(source: SceneSource, crops: int, whole: bool, device: torch.device) -> Tensor:
    """`crops` crops of 64×64, two from each image, or a quarter as many whole images."""
    scenes = [source.scene() for _ in range(crops // 4 if whole else crops // 2)]
    pixels = to_pixels(renderer.draw_scenes(scenes, source.random, device))
    if whole:
        return pixels
    random, half = source.random, SIZE // 2
    corners = [(random.randint(0, half), random.randint(0, half)) for _ in range(crops)]
    pieces = [pixels[i // 2, :, y : y + half, x : x + half] for i, (y, x) in enumerate(corners)]
    return torch.stack(pieces).contiguous(memory_format=torch.channels_last)


def edges(error: Tensor) -> Tensor:
    """Mean absolute differences between neighbours of the error, at full, half and quarter resolution."""
    total = error.new_zeros(())
    for _ in range(3):
        total = total + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        error = functional.avg_pool2d(error, 2)
    return total / 3


def decibels(squared: float) -> float:
    """Peak signal-to-noise ratio for a mean squared error on [-1, 1]."""
    return 10 * float(torch.tensor(4 / squared).log10())


def loss_of(rebuilt: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What an image rebuilt badly costs, its squared and its absolute error."""
    error = rebuilt.float() - pixels
    squared, absolute = error.square().mean(), error.abs().mean()
    return squared + 0.3 * absolute + 0.3 * edges(error), squared, absolute


def train(plan: Plan, minutes: float, device: torch.device) -> bool:
    """Train on for some minutes; True when the plan is done. `plan.batch` counts crops."""
    set_up(device, 0)
    model = build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ends = ("encoder.conv_in", "decoder.conv_out", "quant_conv")
    run = Run("autoencoder", model, Muon(model, lambda name: name.startswith(ends), 0.0), device, plan)
    if device.type == "cuda":
        model.compile()
    source = SceneSource(1000 + run.step)
    for step in run.steps(minutes):
        pixels = batch(source, plan.batch, run.progress >= WHOLE_FROM, device)
        with autocast(device):
            rebuilt, mean, logvar = model(pixels)
        kl = 0.5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).sum() / pixels[:, 0].numel()
        loss, squared, absolute = loss_of(rebuilt, pixels)
        run.learn(loss + KL_WEIGHT * kl)
        run.record(50, squared=squared, absolute=absolute, nats=kl)
        if (step + 1) % 500 == 0:
            report(trained(run.averages.shadows[0]).to(device), "autoencoder", step + 1)
    return run.progress >= 1


def after_latents(vae: Autoencoder) -> nn.ModuleDict:
    """What turns latents into pixels."""
    return nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})


def train_decoder(vae: Autoencoder, plan: Plan, minutes: float, device: torch.device) -> bool:
    """Train on what comes after the frozen latents, for sharper images; nothing that a model draws in changes.

    A little noise in the latents makes it forgive what a model draws not quite right.
    """
    set_up(device, 5)
    vae.requires_grad_(False)
    model = after_latents(vae).requires_grad_(True)
    run = Run("decoder", model, Muon(model, lambda name: name.startswith("decoder.conv_out"), 0.0), device, plan)
    function = torch.compile(vae.decode) if device.type == "cuda" else vae.decode
    source = SceneSource(5000 + run.step)
    for step in run.steps(minutes):
        pixels = batch(source, 4 * plan.batch, True, device)
        with torch.no_grad(), autocast(device):
            mean = vae.encode(pixels)[0].float()
            spread = DECODER_NOISE * torch.rand(len(mean), 1, 1, 1, device=device) * mean.std((0, 2, 3), keepdim=True)
            latents = mean + spread * torch.randn_like(mean)
        with autocast(device):
            rebuilt = function(latents)
        loss, squared, absolute = loss_of(rebuilt, pixels)
        run.learn(loss)
        run.record(50, squared=squared, absolute=absolute)
        if (step + 1) % 500 == 0:
            kept = {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(run.averages.shadows[0])
            report(vae, "decoder", step + 1)
            model.load_state_dict(kept)
    return run.progress >= 1


def trained(weights: dict[str, Tensor] | None = None) -> Autoencoder:
    """The autoencoder with averaged weights, by default those of the last checkpoint."""
    model = build()
    model.load_state_dict(need("autoencoder.pt", "autoencoder")["averages"][0] if weights is None else weights)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def report(model: Autoencoder, name: str, step: int, count: int = 32) -> None:
    """The error on images never trained on, held-out compositions, and a sheet: scenes above what comes back."""
    device = next(model.parameters()).device
    source = SceneSource(7, held_out=True)
    pixels = to_pixels(renderer.draw_scenes([source.scene() for _ in range(count)], Random(7), device))
    with autocast(device):
        rebuilt = torch.cat([model.decode(model.encode(chunk)[0]) for chunk in pixels.split(16)])
    error = (rebuilt.float().clamp(-1, 1) - pixels).square()
    box = (pixels - pixels[:, :, :, :1]).abs().amax(1, keepdim=True) > 0.06  # the sprites, where a person looks
    inside = (error * box).sum() / (3 * box.sum())
    whole = error.mean().item()
    log(f"{name}.log", step=step, psnr=round(decibels(whole), 2), psnr_sprites=round(decibels(inside.item()), 2))
    pairs = torch.cat(
        [torch.cat([to_bytes(a), to_bytes(b)], 1) for a, b in zip(pixels[:16], rebuilt[:16], strict=True)], 2
    )
    png.write(work() / f"{name}-{step:06d}.png", torch.cat(list(pairs.chunk(2, dim=2)), 1))
