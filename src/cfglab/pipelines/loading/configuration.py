"""The JSON files of a model's folder, checked before anything is built from them. Loads no torch.

A configuration says how much memory and time a network takes, so its numbers are bounded like those of an experiment:
see `cfglab.limits`. What is not listed here is left to diffusers and transformers, within general bounds.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

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
    MODEL_STACK,
    MODEL_TIMESTEPS,
    MODEL_TRANSFORMERS,
    MODEL_VOCABULARY,
)
from cfglab.pipelines.loading.text_to_image import SIDE, STABLE_DIFFUSION
from cfglab.pipelines.profiles.table import profiles

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
_SAFETY = ("safety_checker", "requires_safety_checker", "feature_extractor", "image_encoder")


class _Class(RootModel[dict[str, tuple[Name, Name]]]):
    """An entry of model_index.json."""

    @property
    def pair(self) -> tuple[str, str]:
        return next(iter(self.root.values()))


class Denoiser(_Part):
    """The configuration of the denoiser of a pipeline other than Stable Diffusion 1.x."""

    sample_size: Latents | tuple[Latents, Latents] | None = None


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

    `width` and `height` are pixels, `factor` is pixels per latent along a side.
    """

    width: int
    height: int
    factor: int
    scheduler: dict[str, Any]


def read_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """The parts of a pipeline's folder as its model_index.json names them: part -> (library, class).

    A safety checker and what belongs to it are left out. Nothing that a file names is imported because it is named
    there: the parts of Stable Diffusion 1.x have one class each, and others are classes of diffusers or transformers.

    Args:
        folder: The folder of a pipeline.

    Returns:
        The parts, the scheduler among them.

    Raises:
        InputError: The pipeline is none that makes images of a text, or a part has another class.
    """
    file = folder / "model_index.json"
    content = read_json(file)
    kind = _class_in(folder, content)
    if kind == STABLE_DIFFUSION:
        index = _checked(file, content, Index)
        parts = {part: getattr(index, part) for part in (*CLASSES, "scheduler")}
    else:
        named = {part: pair for part, pair in content.items() if isinstance(pair, list) and part not in _SAFETY}
        parts = {
            part: _checked(file, {part: pair}, _Class).pair for part, pair in named.items() if pair != [None, None]
        }
    for part, (library, name) in parts.items():
        where = f"{file}: {part} is {library} {name!r}"
        classes = CLASSES.get(part, ()) if kind == STABLE_DIFFUSION else ()
        if classes and (library, name) not in classes:
            supported = " or ".join(" ".join(pair) for pair in classes)
            raise InputError(f"{where}, and {supported} is read; give such a pipeline.")
        if part == "scheduler" and not (library == "diffusers" and name.isidentifier() and name.endswith("Scheduler")):
            raise InputError(f"{where}, and a scheduler of diffusers is read; name one.")
        if library not in ("diffusers", "transformers") or not name.isidentifier():
            raise InputError(f"{where}, and classes of diffusers and transformers are read; give another model.")
    return parts


def pipeline_class(folder: Path) -> str:
    """The class of the pipeline in a folder.

    Args:
        folder: The folder of a pipeline.

    Returns:
        A name in `SIDE`.

    Raises:
        InputError: Its model_index.json cannot be read, or names another class.
    """
    return _class_in(folder, read_json(folder / "model_index.json"))


def _class_in(folder: Path, index: Mapping[str, Any]) -> str:
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in SIDE:
        raise InputError(
            f"{folder} holds a {kind!s:.60}, which is not yet supported: a run loads {', '.join(SIDE)}; give one of "
            "them, or load it yourself and use run(experiment, folder, pipe=pipe)."
        )
    return kind


def read_configuration(folder: Path) -> Configuration:
    """The configurations of a pipeline's folder, each within bounds.

    Args:
        folder: The folder of a pipeline.

    Returns:
        The configuration. A width and height of 0: no file states them.

    Raises:
        InputError: A file cannot be read, a number is out of bounds, or the parts of Stable Diffusion 1.x do not fit
            one another.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(file)
    _checked(file, scheduler, Scheduler)
    kind = pipeline_class(folder)
    if kind == STABLE_DIFFUSION:
        return _stable_diffusion(folder, scheduler)
    for part in read_parts(folder):
        if (folder / part / "config.json").is_file() and (deep := _deep(read_json(folder / part / "config.json"))):
            raise InputError(f"{folder / part / 'config.json'}: {deep}; {_AGAIN}")
    vae = read_json(folder / "vae" / "config.json")
    file = folder / profiles()[kind].denoisers[0] / "config.json"
    denoiser = _checked(file, read_json(file), Denoiser)
    factor = _factor(vae)
    size = SIDE[kind] or denoiser.sample_size or 0
    height, width = size if isinstance(size, tuple) else (size, size)
    per_latent = factor if SIDE[kind] is None else 1
    return Configuration(width * per_latent, height * per_latent, factor, scheduler)


def _factor(vae: Mapping[str, Any]) -> int:
    """Pixels per latent along a side, as diffusers reads it from the autoencoder's blocks; 8 where it reads none."""
    for name, halved in (("block_out_channels", -1), ("encoder_block_out_channels", -1), ("temperal_downsample", 0)):
        blocks = vae.get(name)
        if isinstance(blocks, list) and 1 <= len(blocks) <= MODEL_BLOCKS:
            return int(2 ** (len(blocks) + halved))
    return 8


def _deep(content: Mapping[str, Any]) -> str | None:
    """Which number of layers or blocks in a configuration is beyond what is built, in words."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            if found := _deep(value):
                return found
        elif re.search(r"layers|blocks|depth", name) and isinstance(value, int) and value > MODEL_STACK:
            return f"{name} {value:,}: at most {MODEL_STACK} layers are built"
    return None


def _stable_diffusion(folder: Path, scheduler: dict[str, Any]) -> Configuration:
    """The configurations of Stable Diffusion 1.x, which have to fit one another."""
    unet = _read_part(folder / "unet" / "config.json", UNet)
    vae = _read_part(folder / "vae" / "config.json", Autoencoder)
    file = folder / "text_encoder" / "config.json"
    content = read_json(file)
    if isinstance(content.get("text_config"), dict):  # of a whole CLIP model
        content = content["text_config"]
    text = _checked(file, content, TextEncoder)
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
    factor = 2 ** (len(vae.block_out_channels) - 1)
    return Configuration(width * factor, height * factor, factor, scheduler)


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


PartModel = TypeVar("PartModel", bound=BaseModel)


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
