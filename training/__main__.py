"""Train the models: what is missing next, for some minutes; or one stage.

python -m training --minutes 60                          # what is missing next; call it again to go on
python -m training denoiser --minutes 60                 # one stage
python -m training denoiser --branch w40 --wrong 0.4     # go on from its checkpoint in another way

Checkpoints, caches, logs and sheets lie in ~/.cache/cfglab/training2 (another place: CFGLAB_TRAINING2). On a machine
with a GPU the plans count minutes, ten in all for what `scenes` needs; on a CPU they count steps.
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import torch

from training import autoencoder, classifier, drawn, generator, latents
from training.common import Plan, device_of, log, need
from training.denoiser import TWIN_CHANNELS, Denoiser
from training.flow import TWIN, Flow

PLANS: dict[str, dict[str, Plan]] = {
    "cpu": {
        "autoencoder": Plan(8, 2e-3, 6000),
        "decoder": Plan(4, 1e-3, 4000),
        "classifier1": Plan(64, 2e-3, 3400),
        "classifier2": Plan(64, 2e-3, 3800),
        "denoiser": Plan(64, 1.5e-3, 10_700),
        "flow": Plan(64, 5e-3, 15_000, true=0.22),
        "denoiser-twin": Plan(64, 1e-3, 900),
        "flow-twin": Plan(64, 5e-3, 1050),
    },
    "cuda": {
        "autoencoder": Plan(256, 2e-3, 20_000, minutes=2.5),
        "decoder": Plan(64, 1e-3, 10_000, minutes=1.0),
        "classifier1": Plan(256, 2e-3, 6000, minutes=1.0),
        "classifier2": Plan(256, 2e-3, 6000, minutes=1.0),
        "denoiser": Plan(1024, 1.5e-3, 40_000, minutes=3.5),
        "flow": Plan(1024, 1.5e-3, 40_000, minutes=3.5, fall=0.4, true=0.5),
        "denoiser-twin": Plan(512, 1.5e-3, 2000, minutes=0.5),
        "flow-twin": Plan(512, 1.5e-3, 2000, minutes=0.5),
    },
}
SCENES = {"cpu": 80_000, "cuda": 200_000}
DRAWN = {"cpu": 24, "cuda": 16}  # chunks of images of both models
STAGES = (
    "autoencoder",
    "latents",
    "denoiser",
    "decoder",
    "flow",
    "drawn",
    "classifier1",
    "classifier2",
    "denoiser-twin",
    "flow-twin",
)


def make(stage: str) -> generator.Generator:
    """The model of a stage; its weights are a function of its seed."""
    twin = stage.endswith("-twin")
    if stage.startswith("denoiser"):
        torch.manual_seed(Denoiser.seed + 10 * twin)
        model: generator.Generator = Denoiser(TWIN_CHANNELS) if twin else Denoiser()
    else:
        torch.manual_seed(Flow.seed + 10 * twin)
        model = Flow(**TWIN) if twin else Flow()
    model.name = stage
    return model


def trained(stage: str) -> Any:
    """The model of a stage with what it learned."""
    model = make(stage)
    model.load_state_dict(generator.learned(stage))
    return model.eval()


def run(stage: str, minutes: float, device: torch.device, options: generator.Options, steps: int | None) -> bool:
    """Work on one stage; True when it is done."""
    plans = PLANS[device.type]
    if steps is not None:
        plans = {name: replace(plan, steps=steps, partial=True) for name, plan in plans.items()}
    if stage == "autoencoder":
        return autoencoder.train(plans[stage], minutes, device)
    if stage == "latents":
        return latents.train(SCENES[device.type], minutes, device)
    if stage == "drawn":
        return drawn.train(DRAWN[device.type], minutes, device, trained)
    if stage == "decoder":
        vae = autoencoder.trained(need("vae.pt", "latents")["model"]).to(device)
        return autoencoder.train_decoder(vae, plans[stage], minutes, device)
    if stage.startswith("classifier"):
        return classifier.train(int(stage[-1]), plans[stage], minutes, device)
    model = make(stage)
    if stage.endswith("-twin"):
        generator.share_text(model, stage.removesuffix("-twin"))
    return generator.train(model, plans[stage], minutes, device, options)


def done(stage: str, device: torch.device) -> bool:
    if stage == "latents":
        return latents.path_of(SCENES[device.type] // latents.CHUNK - 1).exists()
    if stage == "drawn":
        return drawn.path_of(DRAWN[device.type] - 1).exists()
    return generator.finished(stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="?", choices=STAGES, help="by default what is missing, in this order")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, help="end the stage after so many steps instead of what its plan says")
    parser.add_argument("--wrong", type=float, default=0.1, help="the share of captions that are another scene's")
    parser.add_argument("--naming", type=float, default=0.1, help="the weight of naming cells from an inner layer")
    parser.add_argument("--branch", default="", help="a name: go on from the stage's checkpoint, apart from it")
    chosen = parser.parse_args()
    device = device_of(chosen.device)
    options = generator.Options(chosen.wrong, chosen.naming, chosen.branch)
    end = time.time() + 60 * chosen.minutes
    for stage in [chosen.stage] if chosen.stage else STAGES:
        left = (end - time.time()) / 60
        if left <= 0 or (not chosen.stage and done(stage, device)):
            continue
        log("build.log", stage=stage, device=str(device), minutes=round(min(left, 1e6), 1))
        if not run(stage, left, device, options, chosen.steps):
            raise SystemExit(f"{stage}: not done yet; the same command goes on")


if __name__ == "__main__":
    main()
