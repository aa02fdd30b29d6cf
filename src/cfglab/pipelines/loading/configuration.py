"""The JSON files of a model's folder, checked before anything is built from them. Loads no torch.

A configuration says how much memory and time a network takes, so its numbers are bounded like those of an experiment:
see `cfglab.limits`. What is not listed here is left to diffusers and transformers, within general bounds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cfglab.errors import InputError
from cfglab.file_input import read_json as read_any_json
from cfglab.limits import (
    CONFIG_BYTES,
    MODEL_BLOCKS,
    MODEL_CHANNELS,
    MODEL_DEPTH,
    MODEL_LATENTS,
    MODEL_LAYERS,
    MODEL_NUMBER,
    MODEL_POSITIONS,
    MODEL_TIMESTEPS,
    MODEL_TRANSFORMERS,
    MODEL_VOCABULARY,
)

_AGAIN = "copy the model's folder again."

Channels: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=MODEL_CHANNELS)]
Layers: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=MODEL_LAYERS)]
Latents: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=MODEL_LATENTS)]
Name: TypeAlias = Annotated[str, Field(strict=True, min_length=1, max_length=100)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Blocks: TypeAlias = Annotated[list[Channels], Field(min_length=1, max_length=MODEL_BLOCKS)]
Names: TypeAlias = Annotated[list[Name], Field(min_length=1, max_length=MODEL_BLOCKS)]
PerBlock: TypeAlias = Annotated[
    list[Layers | Annotated[list[Layers], Field(min_length=1)]], Field(min_length=1, max_length=MODEL_BLOCKS)
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Index(_Part):
    """model_index.json: the class of each part, as (library, class)."""

    unet: tuple[Name, Name]
    vae: tuple[Name, Name]
    text_encoder: tuple[Name, Name]
    tokenizer: tuple[Name, Name]
    scheduler: tuple[Name, Name]


CLASSES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "unet": (("diffusers", "UNet2DConditionModel"),),
    "vae": (("diffusers", "AutoencoderKL"),),
    "text_encoder": (("transformers", "CLIPTextModel"),),
    "tokenizer": (("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")),
}
"""What a Stable Diffusion 1.x pipeline is made of; its scheduler is any of diffusers'. Nothing else is imported."""


class UNet(_Part):
    """unet/config.json."""

    sample_size: Latents | tuple[Latents, Latents] | None = None
    in_channels: Channels = 4
    out_channels: Channels = 4
    block_out_channels: Blocks = [320, 640, 1280, 1280]
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    mid_block_type: Name | None = None
    layers_per_block: Layers | PerBlock = 2
    transformer_layers_per_block: Layers | PerBlock = 1
    reverse_transformer_layers_per_block: PerBlock | None = None
    cross_attention_dim: Channels | Blocks = 1280
    attention_head_dim: Channels | Blocks = 8
    num_attention_heads: Channels | Blocks | None = None
    norm_num_groups: Channels | None = 32
    norm_eps: Number = 1e-5
    time_embedding_dim: Channels | None = None
    num_class_embeds: Channels | None = None
    addition_time_embed_dim: Channels | None = None
    projection_class_embeddings_input_dim: Channels | None = None
    encoder_hid_dim: Channels | None = None

    def layers(self) -> int:
        """Layers of its blocks on one side, with the transformer layers in each; of an uneven list the most."""
        blocks = len(self.block_out_channels)
        resnets, inner = (_most(value) for value in (self.layers_per_block, self.transformer_layers_per_block))
        return blocks * resnets * inner


class Autoencoder(_Part):
    """vae/config.json."""

    sample_size: Annotated[int, Field(strict=True, ge=1, le=16 * MODEL_LATENTS)] | None = None
    in_channels: Channels = 3
    out_channels: Channels = 3
    latent_channels: Channels = 4
    block_out_channels: Blocks = [64]
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    layers_per_block: Layers = 1
    norm_num_groups: Channels = 32
    scaling_factor: Annotated[Number, Field(gt=0)] = 0.18215
    shift_factor: Number | None = None


class TextEncoder(_Part):
    """text_encoder/config.json."""

    vocab_size: Annotated[int, Field(strict=True, ge=1, le=MODEL_VOCABULARY)] = 49408
    hidden_size: Channels = 512
    intermediate_size: Annotated[int, Field(strict=True, ge=1, le=8 * MODEL_CHANNELS)] = 2048
    projection_dim: Channels | None = None
    num_hidden_layers: Layers = 12
    num_attention_heads: Channels = 8
    max_position_embeddings: Annotated[int, Field(strict=True, ge=1, le=MODEL_POSITIONS)] = 77
    layer_norm_eps: Number = 1e-5


class Scheduler(_Part):
    """scheduler/scheduler_config.json."""

    num_train_timesteps: Annotated[int, Field(strict=True, ge=1, le=MODEL_TIMESTEPS)] = 1000
    beta_start: Annotated[Number, Field(ge=0, lt=1)] = 0.0001
    beta_end: Annotated[Number, Field(ge=0, lt=1)] = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"] = "linear"
    trained_betas: Annotated[list[Number], Field(min_length=1, max_length=MODEL_TIMESTEPS)] | None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    timestep_spacing: Literal["linspace", "leading", "trailing"] | None = None
    steps_offset: Annotated[int, Field(strict=True, ge=0, le=MODEL_TIMESTEPS)] = 0


@dataclass(frozen=True)
class Configuration:
    """What the configuration of a pipeline says about its images, and its scheduler's as it stands in the file.

    `factor` is pixels per latent along a side.
    """

    latent_width: int
    latent_height: int
    factor: int
    scheduler: dict[str, Any]


def check_index(folder: Path) -> None:
    """Raise InputError where model_index.json is of another pipeline than Stable Diffusion 1.x, or names another class
    for one of its parts: nothing that a file names is imported because it is named there."""
    file = folder / "model_index.json"
    content = read_json(file)
    kind = content.get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise InputError(f"{folder} holds a {kind!s:.60}, which is not yet supported; give a StableDiffusionPipeline.")
    index = _checked(file, content, Index)
    for part, classes in CLASSES.items():
        class_path = getattr(index, part)
        if class_path not in classes:
            supported = " or ".join(" ".join(pair) for pair in classes)
            raise InputError(
                f"{file}: {part} is {' '.join(class_path)!r}, and {supported} is read; give such a pipeline."
            )
    library, name = index.scheduler
    if library != "diffusers" or not name.isidentifier() or not name.endswith("Scheduler"):
        raise InputError(
            f"{file}: scheduler is {' '.join(index.scheduler)!r}, and a scheduler of diffusers is read; name one."
        )


def read_configuration(folder: Path) -> Configuration:
    """The configurations of a pipeline's folder, each within bounds and fitting the others. Raises InputError."""
    unet = _read_part(folder / "unet" / "config.json", UNet)
    vae = _read_part(folder / "vae" / "config.json", Autoencoder)
    file = folder / "text_encoder" / "config.json"
    content = read_json(file)
    if isinstance(content.get("text_config"), dict):  # of a whole CLIP model
        content = content["text_config"]
    text = _checked(file, content, TextEncoder)
    file = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(file)
    _checked(file, scheduler, Scheduler)
    for kind, part in (("unet", unet), ("vae", vae)):
        for blocks in ("down_block_types", "up_block_types"):
            names = getattr(part, blocks)
            if names is not None and len(names) != len(part.block_out_channels):
                raise InputError(
                    f"{folder / kind / 'config.json'}: {blocks} has {len(names)} entries and block_out_channels "
                    f"{len(part.block_out_channels)}: they are as many; {_AGAIN}"
                )
    for kind, layers in (("unet", unet.layers()), ("vae", vae.layers_per_block * len(vae.block_out_channels))):
        if layers > MODEL_TRANSFORMERS:
            raise InputError(
                f"{folder / kind / 'config.json'}: its blocks have {layers:,} layers, and at most {MODEL_TRANSFORMERS} "
                f"are built; {_AGAIN}"
            )
    if unet.in_channels != vae.latent_channels:
        raise InputError(
            f"{folder}: the UNet reads {unet.in_channels} channels and the VAE makes {vae.latent_channels}: they are "
            "as many in a text-to-image pipeline; give another model."
        )
    if isinstance(unet.cross_attention_dim, int) and unet.cross_attention_dim != text.hidden_size:
        raise InputError(
            f"{folder}: the UNet reads texts of {unet.cross_attention_dim} numbers a token and the text encoder makes "
            f"{text.hidden_size}: they are as many; give another model."
        )
    size = unet.sample_size or 64
    height, width = size if isinstance(size, tuple) else (size, size)
    return Configuration(width, height, 2 ** (len(vae.block_out_channels) - 1), scheduler)


def read_json(path: Path, limit: int = CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from a file of a model's folder. Raises InputError naming the file."""
    try:
        content = read_any_json(path, limit)
    except OSError as error:
        raise InputError(f"{path} cannot be read as JSON ({error.strerror}); {_AGAIN}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; {_AGAIN}")
    if fault := _unbounded(content):
        raise InputError(f"{path}: {fault}; {_AGAIN}")
    return content


def _most(value: object) -> int:
    """The largest number in nested lists of them."""
    return max(map(_most, value)) if isinstance(value, list) else int(str(value))


PartModel = TypeVar("PartModel", bound=_Part)


def _read_part(path: Path, kind: type[PartModel]) -> PartModel:
    return _checked(path, read_json(path), kind)


def _checked(path: Path, content: Mapping[str, Any], kind: type[PartModel]) -> PartModel:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = min(error.errors(include_url=False), key=lambda fault: len(fault["loc"]))
        value = content.get(str(fault["loc"][0]))
        value_text = repr(value)
        value_text = value_text if len(value_text) <= 60 else f"{value_text[:60]}…"
        raise InputError(f"{path}: {fault['loc'][0]} {value_text}: {fault['msg'].lower()}; {_AGAIN}") from None


def _unbounded(content: object, depth: int = 0) -> str | None:
    """What is beyond the general bounds of a configuration, in words."""
    if isinstance(content, dict | list):
        if depth >= MODEL_DEPTH:
            return f"it is nested more than {MODEL_DEPTH} deep"
        parts = content.values() if isinstance(content, dict) else content
        return next(filter(None, (_unbounded(part, depth + 1) for part in parts)), None)
    if isinstance(content, int | float) and not isinstance(content, bool):
        if isinstance(content, float) and not math.isfinite(content):
            return f"{content} is no finite number"
        if abs(content) > MODEL_NUMBER:
            return f"a number in it is larger than {MODEL_NUMBER:.0e}"
    return None
