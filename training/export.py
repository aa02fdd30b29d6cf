"""Write trained models in the on-disk layouts of diffusers, float16 safetensors; needs the package installed.

python -m training.export                          # into the packages: both models, their twins, the classifiers
python -m training.export flow models/scenes-flow  # one stage, or a branch of one such as denoiser-w40, anywhere
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from training import autoencoder, classifier, denoiser, flow, generator, latents, tokens
from training.__main__ import trained
from training.clip import TextEncoder
from training.common import need, work
from training.denoiser import Denoiser
from training.flow import Flow
from training.latents import SCALING
from training.unet import Unet
from training.vae import Autoencoder

STEPS = "steps.json"  # beside the weights: how far each stage was trained
ROOT = Path(__file__).parents[1]
WEIGHTS = {
    ROOT / "src/cfglab/scenes/weights": {
        "denoiser": "scenes",
        "denoiser-twin": "scenes-twin",
        "classifier1": "classifiers/classifier1",
        "classifier2": "classifiers/classifier2",
    },
    ROOT / "models/src/cfglab_models/weights": {"flow": "scenes-flow", "flow-twin": "scenes-flow-twin"},
}
"""The folders of weights of the packages -> stage -> where its weights are in there."""
WHOLE_MARGIN = 1.0
"""By how much the logit of "whole" must be above that of "damaged". It was chosen on the labels in `eye-readers`
(`scenes`, `flow` and `autoguidance`): without it the classifiers are more lenient than the readers."""


def vae_of(model: Autoencoder, channels: tuple[int, ...], latent: int, shift: float | None) -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=16 * 2 ** (len(channels) - 1),
        scaling_factor=SCALING,
        shift_factor=shift,
    )
    vae.load_state_dict(model.state_dict())
    return vae


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=tokens.vocabulary(), merges=list(tokens.merges()), model_max_length=tokens.MAX_LENGTH)


def _filled(model: nn.Module, state: dict[str, Tensor]) -> Any:
    """Versions of transformers differ in whether the names begin with `text_model.`."""
    if not any(key.startswith("text_model.") for key in model.state_dict()):
        state = {key.removeprefix("text_model."): value for key, value in state.items()}
    model.load_state_dict(state)
    return model


def text_encoder(model: TextEncoder, heads: int) -> CLIPTextModel | CLIPTextModelWithProjection:
    words, width = model.text_model.embeddings.token_embedding.weight.shape
    vocabulary, projecting = tokens.vocabulary(), hasattr(model, "text_projection")
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len(model.text_model.encoder.layers),
        num_attention_heads=heads,
        max_position_embeddings=tokens.MAX_LENGTH,
        projection_dim=model.text_projection.out_features if projecting else width,
        bos_token_id=vocabulary[tokens.START],
        eos_token_id=vocabulary[tokens.END],
        pad_token_id=vocabulary[tokens.END],
    )
    return _filled((CLIPTextModelWithProjection if projecting else CLIPTextModel)(config), model.state_dict())


def unet_of(model: Unet) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=generator.SIDE,
        in_channels=generator.LATENT,
        out_channels=generator.LATENT,
        block_out_channels=model.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=denoiser.WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    unet.load_state_dict(model.state_dict())
    return unet


def transformer_of(model: Flow) -> SD3Transformer2DModel:
    inner = model.transformer
    width, joint = inner.context_embedder.weight.shape
    heads = width // flow.HEAD
    transformer = SD3Transformer2DModel(
        sample_size=generator.SIDE,
        patch_size=flow.PATCH,
        in_channels=generator.LATENT,
        out_channels=generator.LATENT,
        num_layers=len(inner.transformer_blocks),
        attention_head_dim=flow.HEAD,
        num_attention_heads=heads,
        joint_attention_dim=joint,
        caption_projection_dim=width,
        pooled_projection_dim=joint,
        pos_embed_max_size=generator.SIDE // flow.PATCH,
        qk_norm="rms_norm",
    )
    transformer.load_state_dict(inner.state_dict())
    return transformer


def scenes(model: Denoiser, vae: AutoencoderKL) -> StableDiffusionPipeline:
    """`scenes` as Stable Diffusion 1.x."""
    betas = {"beta_start": denoiser.BETAS[0], "beta_end": denoiser.BETAS[1], "beta_schedule": "scaled_linear"}
    scheduler = PNDMScheduler(
        num_train_timesteps=1000, **betas, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
    )
    scheduler.register_to_config(clip_sample=False)  # as in SD 1.x: for the samplers that would clip latents
    return StableDiffusionPipeline(
        vae,
        text_encoder(model.text, denoiser.HEADS),
        tokenizer(),
        unet_of(model.unet),
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stub(width: int) -> tuple[T5EncoderModel, PreTrainedTokenizerFast]:
    """A third text encoder whose every token is zero, and its tokenizer of one word: without them no folder loads."""
    encoder = T5EncoderModel(T5Config(vocab_size=2, d_model=width, d_kv=1, d_ff=1, num_layers=1, num_heads=1))
    torch.nn.init.zeros_(encoder.encoder.final_layer_norm.weight)
    word = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return encoder, PreTrainedTokenizerFast(tokenizer_object=word, unk_token="<pad>", pad_token="<pad>")


def scenes_flow(model: Flow, vae: AutoencoderKL) -> StableDiffusion3Pipeline:
    """`scenes-flow` as Stable Diffusion 3."""
    return StableDiffusion3Pipeline(
        transformer_of(model),
        FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
        vae,
        text_encoder(model.text, flow.TEXT_HEADS),
        tokenizer(),
        text_encoder(model.text_2, flow.TEXT_HEADS),
        tokenizer(),
        *stub(model.transformer.context_embedder.in_features),
    )


def write(pipeline: Any, folder: Path) -> None:
    """A pipeline's folder in float16, whole or not at all; beside each tokenizer.json the two files of SD 1.x.

    A model card that the folder has stays in it.
    """
    part_ = folder.with_name(folder.name + ".part")
    shutil.rmtree(part_, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(part_, safe_serialization=True)
    for place in [*part_.glob("tokenizer"), *part_.glob("tokenizer_2")]:
        tokenizer().backend_tokenizer.model.save(str(place))
    if (folder / "README.md").exists():
        shutil.copyfile(folder / "README.md", part_ / "README.md")
    shutil.rmtree(folder, ignore_errors=True)
    part_.rename(folder)


def classifier_state(which: int) -> dict[str, Tensor]:
    """With the margin. Whole numbers (the counters of batch normalisation) stay what they are."""
    state = classifier.trained(which).state_dict()
    state["heads.whole.bias"] = state["heads.whole.bias"] + WHOLE_MARGIN * torch.tensor([0.5, -0.5])
    return {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in state.items()}


def read_steps(path: Path) -> dict[str, int]:
    """Stage -> how many steps it was trained."""
    return json.loads(path.read_text()) if path.exists() else {}


def export(stage: str, folder: Path) -> None:
    """Write what a stage trained: the folder of a pipeline or of a twin, or a classifier's file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if stage.startswith("classifier"):
        save_file(classifier_state(int(stage[-1])), folder.with_suffix(".safetensors"))
        return
    is_unet, model = stage.startswith("denoiser"), trained(stage)
    if stage.endswith("-twin"):
        small = unet_of(model.unet) if is_unet else transformer_of(model)
        small.half().save_pretrained(folder, safe_serialization=True)
        return
    vae = vae_of(
        latents.frozen(torch.device("cpu")), autoencoder.CHANNELS, autoencoder.LATENT, None if is_unet else 0.0
    )
    write(scenes(model, vae) if is_unet else scenes_flow(model, vae), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="?", help="denoiser, a branch such as denoiser-w40, flow, a twin, a classifier")
    parser.add_argument("folder", nargs="?", type=Path)
    chosen = parser.parse_args()
    if (chosen.stage is None) != (chosen.folder is None):
        parser.error("give a stage and a folder, or neither")
    if chosen.stage is not None:
        export(chosen.stage, chosen.folder)
        return
    for weights, stages in WEIGHTS.items():
        steps = read_steps(weights / STEPS)
        for stage, place in stages.items():
            if (work() / f"{stage}.pt").exists():
                export(stage, weights / place)
                steps[stage] = need(f"{stage}.pt", stage)["step"]
        if "autoencoder" in steps:
            steps["autoencoder"] = need("autoencoder.pt", "autoencoder")["step"]
        (weights / STEPS).write_text(json.dumps(steps, indent=1) + "\n")
        for path in sorted(weights.rglob("*.safetensors")):
            print(f"{path.stat().st_size / 2**20:7.2f} MB  {path.relative_to(weights)}")


if __name__ == "__main__":
    main()
