"""The two classifiers: what does this image show, and is every object whole?

Of two architectures and with other seeds, so that numbers are reported with one and nothing is tuned to the other's
blind spots. They learn from rendered scenes and damaged ones (`spoil.py`), and from images of the models (`drawn.py`).
A quarter of each batch is shown as the autoencoder gives it back from slightly noisy latents, so that its blur is not
read as damage. Besides the answers they learn to name what each of 8×8 cells shows, or that it is part of a damaged
object: one bit for a whole image says too little of where the damage is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cfglab.scenes.alignment import alignment
from cfglab.scenes.classifier_network import PARTS, Network, labels_of
from cfglab.scenes.renderer import SHOWN
from cfglab.scenes.vocabulary import SIZE, Scene
from training import drawn
from training.autoencoder import to_pixels
from training.common import Muon, Plan, Run, autocast, log, need, set_up, work
from training.latents import SCALING, frozen
from training.spoil import ASK_NOT, Labeller
from training.vae import Autoencoder

NAMING = 4.0  # the weight of naming cells
TEST_SEED = 9_000_000


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


def as_asked(logits: dict[str, Tensor], scenes: Sequence[Scene]) -> Tensor:
    """Which images show what was asked, for all that the network finds in them but damage: bool `(n,)`."""
    found = {part: rows.argmax(1).tolist() for part, rows in logits.items()}
    labels = [labels_of({part: rows[i] for part, rows in found.items()} | {"whole": 1}) for i in range(len(scenes))]
    right = [alignment(scene, label)["alignment"] for scene, label in zip(scenes, labels, strict=True)]
    return torch.tensor(right, device=logits["whole"].device) > 0


def train(which: int, plan: Plan, minutes: float, device: torch.device) -> bool:
    """Train on for some minutes; True when the plan is done."""
    set_up(device, 100 + which)
    network = Network(which).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Muon(network, lambda name: "heads" in name or name.endswith((".0.0.weight", "cells.2.weight")))
    run = Run(f"classifier{which}", network, optimizer, device, plan)
    vae = frozen(device) if (work() / "vae.pt").exists() else None
    labeller = Labeller(100_000 * which + run.step)
    of_models = drawn.batches(plan.batch * 3 // 8, 100_000 * which + run.step)
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
        if of_models is not None:
            shown, scenes, whole, model_cells = next(of_models)
            pixels[-len(scenes) :] = to_pixels(shown.to(device))
            for part in PARTS:
                answers[part][-len(scenes) :] = ASK_NOT
        order = torch.randperm(plan.batch, device=device)
        with autocast(device):
            _, logits, named = network.read(soften(pixels[order]).contiguous(memory_format=torch.channels_last))
        back = order.argsort()
        logits, named = {part: rows[back].float() for part, rows in logits.items()}, named[back].float()
        losses = [
            functional.cross_entropy(logits[part], answers[part], ignore_index=ASK_NOT)
            for part in PARTS
            if bool((answers[part] != ASK_NOT).any())
        ]
        if of_models is not None:  # whether an object is damaged is only known where it is the one that was asked for
            asked = as_asked({part: rows[-len(scenes) :] for part, rows in logits.items()}, scenes)
            answers["cells"][-len(scenes) :] = torch.where(asked[:, None, None], model_cells.to(device), ASK_NOT)
            if bool(asked.any()):
                target = torch.stack([1 - whole, whole], 1).to(device)
                losses.append(functional.cross_entropy(logits["whole"][-len(scenes) :][asked], target[asked]))
        naming = functional.cross_entropy(named, answers["cells"], ignore_index=ASK_NOT)
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
