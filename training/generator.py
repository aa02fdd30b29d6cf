"""Train a model that draws from captions: the loop that `scenes` (noise, U-Net) and `scenes-flow` (velocity) share.

Besides its own loss a model learns to name what each of 8×8 cells of the clean image shows, from an inner layer: the
gain early in training is that of aligning the layer with features of the image (REPA, 2410.06940), and the world
knows the answer exactly. The head that names is not part of what ships.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfglab.scenes import png
from cfglab.scenes.renderer import SHOWN
from training import tokens
from training.autoencoder import to_bytes
from training.common import Muon, Plan, Run, autocast, load, need, set_up, sheet, work
from training.latents import SCALING, Batch, Batches, frozen

LATENT, SIDE = 8, 16
SHEETS, SHEET_STEPS = 24, 25  # so many sheets and snapshots of weights in a run; steps of a drawing
PROMPTS = (
    "a photograph of an astronaut riding a horse",
    "a frog next to a mushroom on a green background",
    "a red car next to a blue balloon",
    "a cat above a car on a pink background",
    "a photograph of an elephant riding a turtle on a blue background",
    "three butterflies on a grey background",
    "a rose",
    "an image of a rocket next to a moon on a purple background",
    "a house above a fish on a yellow background",
    "a dog riding a banana on a white background",
    "two yellow umbrellas",
    "a penguin and a purple flower on a black background",
)


class Generator(nn.Module, ABC):
    """A denoiser with its text encoder, and a head that names cells."""

    seed: int
    name: str

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.cells = nn.Sequential(nn.Conv2d(inner, 192, 1), nn.SiLU(), nn.Conv2d(192, SHOWN, 1))

    @abstractmethod
    def loss(self, batch: Batch, padded: bool, /) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted error and plain error of each image `(n,)`, and the inner layer `(n, inner, 8, 8)`.

        `padded`: with the further text tokens that the pipeline may add, where it does.
        """

    @abstractmethod
    def sample(self, prompts: list[str], w: float, steps: int, generator: torch.Generator) -> Tensor:
        """Latents `(n, 8, 16, 16)` drawn under a constant scale."""

    @staticmethod
    def adam(name: str) -> bool:
        """The parameters that Muon leaves to AdamW: embeddings and the ends."""
        return "embedding" in name or name.startswith(("cells.", "unet.conv_in", "unet.conv_out"))


@dataclass(frozen=True, slots=True)
class Options:
    """What a run may vary: the share of wrong captions, the weight of naming cells, the run it branches from."""

    wrong: float = 0.1
    naming: float = 0.1
    branch: str = ""

    def run_name(self, name: str) -> str:
        return f"{name}-{self.branch}" if self.branch else name


def share_text(twin: Generator, of: str) -> None:
    """Give a twin the trained text encoders of its model, which stay as they are: it reads the same text states."""
    state = need(f"{of}.pt", of)["averages"][1]
    twin.load_state_dict({key: value for key, value in state.items() if key.startswith("text")}, strict=False)
    for name, value in twin.named_parameters():
        value.requires_grad_(not name.startswith("text"))


def train(model: Generator, plan: Plan, minutes: float, device: torch.device, options: Options) -> bool:
    """Train on for some minutes; True when the plan is done."""
    set_up(device, model.seed)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Muon(model, model.adam)
    begin = model.name if options.branch else None
    run = Run(options.run_name(model.name), model, optimizer, device, plan, begin)
    torch.manual_seed(1000 * model.seed + run.step)
    source = Batches(device, plan.batch, options.wrong, 1000 * model.seed + run.step + 1)
    batches = iter(source)
    function = torch.compile(model.loss) if device.type == "cuda" else model.loss
    snapshots = _marks(run, SHEETS)
    for step in run.steps(minutes):
        source.wrong = options.wrong if options.branch or run.progress >= plan.true else 0.0
        batch = next(batches)
        with autocast(device, on_cpu=True):
            weighted, error, inner = function(batch, step % 4 == 3)
            named = functional.cross_entropy(model.cells(inner).float(), batch.cells)
        run.learn(weighted.mean() + options.naming * named)
        run.record(50, loss=error.mean(), weighted=weighted.mean(), naming=named)
        if run.progress >= next(iter(snapshots), 2.0):
            snapshots = _marks(run, SHEETS)
            run.snapshot()
            picture(model, run.averages.shadows[1], device, f"{run.name}-{step + 1:07d}.png")
    return run.progress >= 1


def _marks(run: Run, count: int) -> list[float]:
    """The shares of the plan, still ahead, at which a snapshot is kept and a sheet is drawn."""
    return [share for share in (i / count for i in range(1, count)) if share > run.progress]


@torch.no_grad()
def picture(model: Generator, weights: dict[str, Tensor], device: torch.device, name: str) -> None:
    """A sheet of the fixed prompts with averaged weights, w = 1 above w = 5; the same noise every time."""
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    vae, rows = frozen(device), []
    for w in (1.0, 5.0):
        generator = torch.Generator(device).manual_seed(0)
        latents = model.sample(list(PROMPTS), w, SHEET_STEPS, generator)
        rows.append(to_bytes(vae.decode(latents / SCALING)).cpu())
    png.write(work() / name, sheet(torch.cat(rows), len(PROMPTS)))
    model.load_state_dict(kept)


def prompt_tokens(prompts: list[str], device: torch.device) -> Tensor:
    """Tokens of as many empty prompts, then of the prompts."""
    return tokens.encode_all([""] * len(prompts) + prompts).to(device)


def finished(name: str) -> bool:
    state = load(work() / f"{name}.pt")
    return state is not None and bool(state.get("done"))


def learned(name: str) -> dict[str, Tensor]:
    """The weights of a run: those that `training.posthoc` made of it, or else the wider of its two averages.

    Of a branch the last ones, at its lowest learning rate: its averages still hold the run that it left.
    """
    final = load(work() / f"{name}-final.pt")
    state = final or need(f"{name}.pt", name)
    last = final or state.get("first", 0) > 0
    weights: dict[str, Tensor] = state["model"] if last else state["averages"][1]
    return weights
