"""Bring the shipped weights back into the training folder, so that training can go on where no checkpoint is left.

    python -m training.unpack --step 8200

Writes the frozen autoencoder, freshly encoded latents, `denoiser.pt` at that step and `twin.pt`: the shipped averages,
rounded to float16 as they are, with an optimizer that has seen nothing.
"""

import argparse

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from training.common import WORK, Ema, checkpoint, save
from training.denoiser import TextToImage, optimizer_of
from training.export import WEIGHTS
from training.latents import encode
from training.tokenizer import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, required=True, help="how far the shipped denoiser was trained")
    parser.add_argument("--count", type=int, default=30_000)
    options = parser.parse_args()
    shipped = WEIGHTS / "scenes"
    model = TextToImage(build())
    model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(shipped / "unet").float().state_dict())
    model.text.load_state_dict(CLIPTextModel.from_pretrained(shipped / "text_encoder").float().state_dict())
    checkpoint(WORK / "denoiser.pt", model, optimizer_of(model), Ema(model, 0.0), options.step)
    twin = UNet2DConditionModel.from_pretrained(WEIGHTS / "twin").float()
    model.unet.load_state_dict(twin.state_dict())
    save(WORK / "twin.pt", {"ema": model.state_dict(), "step": options.step})
    vae = AutoencoderKL.from_pretrained(shipped / "vae").float().eval()
    encode(vae.to(memory_format=torch.channels_last), options.count)


if __name__ == "__main__":
    main()
