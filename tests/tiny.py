"""A tiny random Stable Diffusion 1.x folder: the exact on-disk format of the real thing, built in a second."""

import copy
import inspect
import json
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from diffusers import AutoencoderKL, LMSDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cfglab.pipelines.loading import load as loading

TOKENS = 77


def tiny_pipeline(
    path: Path | str,
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
    *,
    factor: int = 8,
    seed: int = 0,
) -> Path:
    """Write a random pipeline to `path` and return it: latents (4, 16, 16), images 16 * factor pixels wide.

    The text encoder reads 77 tokens and knows single letters only, so that every letter of a prompt is one token.
    The weights are random but the conditioning matters: cond - uncond is of the order of the prediction itself.
    """
    path = Path(path)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        pipe = StableDiffusionPipeline(
            vae=_vae(factor),
            text_encoder=_text_encoder(),
            tokenizer=tokenizer(),
            unet=_unet(),
            scheduler=LMSDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                num_train_timesteps=1000,
                steps_offset=1,
                prediction_type=prediction_type,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    finally:
        torch.random.set_rng_state(state)
    pipe.save_pretrained(path, safe_serialization=True)
    return path


_read = loading._read_pipeline


def read_once(folder: Path, dtype: torch.dtype, allow_pickle: bool) -> StableDiffusionPipeline:
    """In place of `_read_pipeline`: a folder is read from disk once as long as it stays as it is; each load is a copy.

    Reading builds every network twice and goes through every file, which takes longer than an image of a tiny model.
    """
    files = tuple(
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    return copy.deepcopy(_read_these(folder, dtype, allow_pickle, files))


@lru_cache(maxsize=8)
def _read_these(folder: Path, dtype: torch.dtype, allow_pickle: bool, _files: object) -> StableDiffusionPipeline:
    return _read(folder, dtype, allow_pickle)


def _unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2" in name and parameter.ndim == 2:
                parameter.mul_(4.0)  # an untrained text path would hardly be heard
    return unet


def _vae(factor: int) -> AutoencoderKL:
    levels = factor.bit_length()
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16 * factor,
    )


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=32,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            max_position_embeddings=TOKENS,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    )


def tokenizer() -> CLIPTokenizer:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # the byte alphabet of GPT-2's BPE
    letters = [chr(code) for code in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return clip_tokenizer({token: index for index, token in enumerate(tokens)}, TOKENS)


def clip_tokenizer(vocabulary: dict[str, int], length: int) -> CLIPTokenizer:
    """A tokenizer without merges; transformers 4 reads its vocabulary from files only."""
    if "vocab_file" not in inspect.signature(CLIPTokenizer).parameters:
        return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)
    with TemporaryDirectory() as folder:
        names, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        names.write_text(json.dumps(vocabulary), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer(vocab_file=str(names), merges_file=str(merges), model_max_length=length)
