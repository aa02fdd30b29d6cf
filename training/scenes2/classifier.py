"""The two classifiers of the second edition: what does this image show, and is every object whole?

Of two architectures and with other seeds, so that numbers are reported with one and nothing is tuned to the other's
blind spots. They learn from drawn scenes and damaged ones (`spoil.py`). A quarter of each batch is shown as the
autoencoder gives it back from slightly noisy latents, so that its blur is not read as damage. Besides the answers they
learn to name what each of 8×8 cells shows, or that it is part of a damaged object: one bit for a whole image says too
little of where the damage is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.scenes2 import draw
from training.scenes2.autoencoder import to_pixels
from training.scenes2.common import Muon, Plan, Run, autocast, log, need, set_up, work
from training.scenes2.draw import SIZE
from training.scenes2.generator import SHOWN
from training.scenes2.latents import SCALING, frozen
from training.scenes2.spoil import ASK_NOT, PARTS, Labeller
from training.scenes2.vae import Autoencoder

FEATURES = 128
NAMING = 4.0  # the weight of naming cells
DAMAGED_CELLS = 3  # so many cells have a say in whether every object is whole
TEST_SEED = 9_000_000


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Grid(nn.Module):
    """Classifier 1: strided convolutions down to a 4×4 map, whose cells are all seen by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_conv(3, 32, 6, 2), _conv(32, 48, 4, 2), _conv(48, 96, 4, 2), _conv(96, 96)),
            *(_conv(96, 128, 4, 2), _conv(128, 128), _conv(128, 160, 4, 2)),
        )
        self.features = nn.Linear(160 * 16, FEATURES)

    def inner(self, pixels: Tensor) -> Tensor:
        """The map before the last convolution, `(n, 128, 8, 8)`."""
        return self.body[:-1](pixels)

    def pooled(self, inner: Tensor) -> Tensor:
        return self.features(self.body[-1](inner).flatten(1))


class Attentive(nn.Module):
    """Classifier 2: patches with their coordinates, residual blocks, and twelve learned questions that pool the map."""

    def __init__(self, width: int = 96, questions: int = 12) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, SIZE)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.place: Tensor
        self.register_buffer("place", grid, persistent=False)
        self.stem = nn.Sequential(_conv(5, 48, 4, 4), _conv(48, 64), _conv(64, width, 4, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            for _ in range(2)
        )
        self.questions = nn.Conv2d(width, questions, 1)
        self.values = nn.Conv2d(width + 2, width, 1)
        self.features = nn.Linear(width * questions, FEATURES)

    def inner(self, pixels: Tensor) -> Tensor:
        """The map that is pooled, `(n, width, 16, 16)`."""
        x = self.stem(torch.cat([pixels, self.place.expand(len(pixels), -1, -1, -1)], 1))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return x

    def pooled(self, inner: Tensor) -> Tensor:
        attention = self.questions(inner).flatten(2).softmax(-1)
        coarse = functional.avg_pool2d(self.place, SIZE // inner.shape[-1]).expand(len(inner), -1, -1, -1)
        values = self.values(torch.cat([inner, coarse], 1)).flatten(2)
        return self.features((attention @ values.transpose(1, 2)).flatten(1))


class Network(nn.Module):
    """A body that gives 128 features, and one linear head for each part; class 0 of a head is "none of these".

    A further head names what each of 8×8 cells shows: a background, a sprite, or last, part of a damaged object. The
    cells that are most probably damaged have a say in `whole`.
    """

    def __init__(self, which: int) -> None:
        super().__init__()
        self.body = Grid() if which == 1 else Attentive()
        self.heads = nn.ModuleDict({part: nn.Linear(FEATURES, 1 + len(names)) for part, names in PARTS.items()})
        inner = 128 if which == 1 else 96
        self.cells = nn.Sequential(nn.Conv2d(inner, 128, 1), nn.ReLU(), nn.Conv2d(128, SHOWN + 1, 1))
        self.damage = nn.Linear(DAMAGED_CELLS, 2, bias=False)

    def read(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The logits of every part, and of what each cell shows `(n, SHOWN + 1, 8, 8)`."""
        inner = self.body.inner(pixels)
        features = functional.relu(self.body.pooled(inner))
        logits = {part: head(features) for part, head in self.heads.items()}
        cells = self.cells(functional.adaptive_avg_pool2d(inner, draw.CELLS))
        odds = cells[:, -1] - cells[:, :-1].logsumexp(1)
        logits["whole"] = logits["whole"] + self.damage(odds.flatten(1).topk(DAMAGED_CELLS).values)
        return logits, cells

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.read(pixels)[0]


@torch.no_grad()
def rebuilt(vae: Autoencoder, pixels: Tensor, noise: float) -> Tensor:
    """Pixels through the autoencoder; each image's latents with noise of at most so much of their deviation."""
    mean = vae.encode(pixels)[0]
    share = noise * torch.rand(len(mean), 1, 1, 1, device=mean.device) / SCALING
    return vae.decode(mean + share * torch.randn_like(mean)).float().clamp(-1, 1)


def soften(pixels: Tensor) -> Tensor:
    """Changes that leave an image readable: colour, contrast, shift, on a third a light blur, light noise on half."""
    n, device = len(pixels), pixels.device

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, channels, 1, 1, device=device)

    middle, grey = pixels.mean((1, 2, 3), keepdim=True), pixels.mean(1, keepdim=True)
    pixels = grey + draw(0.8, 1.3) * (pixels - grey)
    pixels = middle + draw(0.85, 1.2) * (pixels - middle) + draw(-0.06, 0.06, 3)
    shift = [int(value) for value in torch.randint(-4, 5, (2,))]
    padded = functional.pad(pixels, (4, 4, 4, 4), mode="replicate")
    pixels = padded[:, :, 4 + shift[0] : 4 + shift[0] + SIZE, 4 + shift[1] : 4 + shift[1] + SIZE].clone()
    some = n // 3
    soft = functional.avg_pool2d(functional.pad(pixels[:some], (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels[:some] = torch.lerp(pixels[:some], soft, draw(0, 1)[:some])
    pixels[::2] += draw(0, 0.10)[::2] * torch.randn_like(pixels[::2])
    return pixels.clamp(-1, 1)


def train(which: int, plan: Plan, minutes: float, device: torch.device) -> bool:
    """Train on for some minutes; True when the plan is done."""
    set_up(device, 100 + which)
    network = Network(which).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Muon(network, lambda name: "heads" in name or name.endswith((".0.0.weight", "cells.2.weight")))
    run = Run(f"classifier{which}", network, optimizer, device, plan)
    vae = frozen(device) if (work() / "vae.pt").exists() else None
    labeller = Labeller(100_000 * which + run.step)
    kept: tuple[Tensor, dict[str, Tensor]] | None = None
    for step in run.steps(minutes):
        pictures, answers, cells = labeller.pictures_with_cells(plan.batch, device)
        answers["cells"] = cells.long().clamp(max=SHOWN)
        pixels = to_pixels(pictures)
        if vae is not None:
            some = plan.batch // 4
            # shown twice, softened in other ways: the autoencoder is half of the work
            if kept is None or step % 2 == 0:
                kept = (rebuilt(vae, pixels[:some], 0.25), {part: row[:some].clone() for part, row in answers.items()})
            pixels[:some] = kept[0]
            for part, row in kept[1].items():
                answers[part][:some] = row
        order = torch.randperm(plan.batch, device=device)
        with autocast(device):
            logits, named = network.read(soften(pixels[order]).contiguous(memory_format=torch.channels_last))
        losses = [
            functional.cross_entropy(logits[part].float(), answers[part][order], ignore_index=ASK_NOT)
            for part in PARTS
            if bool((answers[part] != ASK_NOT).any())
        ]
        naming = functional.cross_entropy(named.float(), answers["cells"][order])
        loss = torch.stack(losses).sum()
        run.learn(loss + NAMING * naming, limit=5.0)
        run.record(50, loss=loss, naming=naming)
        if run.progress >= 1 or (step + 1) % 500 == 0:
            report(trained(which, run.averages.shadows[0]).to(device), f"classifier{which}", step + 1)
    return run.progress >= 1


def trained(which: int, weights: dict[str, Tensor] | None = None) -> Network:
    name = f"classifier{which}"
    network = Network(which)
    network.load_state_dict(need(f"{name}.pt", name)["averages"][0] if weights is None else weights)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def report(network: Network, name: str, step: int, count: int = 500) -> None:
    """On images never learned from: whole scenes read right in all parts, and damaged ones called damaged."""
    device = next(network.parameters()).device
    vae = frozen(device) if (work() / "vae.pt").exists() else None
    pictures, answers = Labeller(TEST_SEED).pictures(count, device)
    pixels = to_pixels(pictures)
    kinds = {"drawn": pixels}
    if vae is not None:
        kinds["rebuilt"] = torch.cat([rebuilt(vae, chunk, 0.0) for chunk in pixels.split(16)])
    for kind, shown in kinds.items():
        logits = [network(chunk) for chunk in shown.split(64)]
        found = {part: torch.cat([each[part] for each in logits]).argmax(1) for part in PARTS}
        right = torch.stack([(found[part] == answers[part]) for part in PARTS])
        whole = answers["whole"] == 1
        values = {
            "exact": right[:, whole].all(0).float().mean().item(),
            "called_damaged": (found["whole"] == 0)[answers["whole"] == 0].float().mean().item(),
            **{part: right[i, whole].float().mean().item() for i, part in enumerate(PARTS)},
        }
        log(f"{name}.log", step=step, pictures=kind, **{key: round(value, 4) for key, value in values.items()})
