"""Write the trained parts into the package in the on-disk format of Stable Diffusion 1.x, float16 safetensors.

python -m training.export
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from training.common import WORK, load
from training.decoder import with_trained_decoder
from training.denoiser import SCHEDULER, TextToImage
from training.tokenizer import build

WEIGHTS = Path(__file__).parents[1] / "src/cfglab/scenes/weights"


def trained(name: str, model: TextToImage) -> TextToImage:
    state = load(WORK / name)
    if state is None:
        raise SystemExit(f"no {name}: run `python -m training.denoiser` first")
    model.load_state_dict(state["ema"])
    return model.eval()


def write_tokenizer(folder: Path) -> None:
    """Beside tokenizer.json the two files of SD 1.x, for readers that know only those."""
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def main() -> None:
    tokenizer = build()
    vae = with_trained_decoder(AutoencoderKL.from_pretrained(WORK / "vae"))
    model = trained("denoiser.pt", TextToImage(tokenizer))
    scheduler = PNDMScheduler(**SCHEDULER, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    scheduler.register_to_config(clip_sample=False)  # as in SD 1.x: for the samplers that would clip latents
    pipeline = StableDiffusionPipeline(
        vae,
        model.text,
        tokenizer,
        model.unet,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    card = WEIGHTS / "scenes/README.md"
    text = card.read_text() if card.exists() else ""
    shutil.rmtree(WEIGHTS / "scenes", ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(WEIGHTS / "scenes", safe_serialization=True)
    write_tokenizer(WEIGHTS / "scenes/tokenizer")
    card.write_text(text)
    if (WORK / "twin-fitted.pt").exists():
        twin: UNet2DConditionModel = trained("twin-fitted.pt", TextToImage(tokenizer)).unet
        twin.half().save_pretrained(WEIGHTS / "twin", safe_serialization=True)
    for path in sorted(WEIGHTS.rglob("*.safetensors")):
        print(f"{path.stat().st_size / 2**20:7.2f} MB  {path.relative_to(WEIGHTS)}")


if __name__ == "__main__":
    main()
