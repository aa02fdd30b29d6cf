"""What the families share: text encoders, tokenizers, autoencoders, UNets, pictures, and one way to call a pipeline."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn

WIDTH = 32  # of every text encoder
TOKENS = 77  # of CLIP
PROMPT = "a red fox"


@contextmanager
def calm(seed: int) -> Iterator[None]:
    """The global generator seeded inside and untouched outside; no warnings of diffusers about diffusers itself."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*(deprecated|duplicating)")
        warnings.filterwarnings("ignore", category=UserWarning, message="(?s).*CPU [Aa]utocast")
        torch.manual_seed(seed)
        yield


def seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    """`build` with its random weights drawn from a fixed seed; the global generator is left as it was."""

    @wraps(build)
    def built() -> Any:
        with calm(seed=0):
            pipe = build()
        for component in pipe.components.values():
            if isinstance(component, nn.Module):
                component.eval().requires_grad_(False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return built


def loud(module: nn.Module, *names: str, gain: float = 4.0) -> nn.Module:
    """Scale every matrix whose name holds one of `names`: an untrained text path would hardly be heard."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2 and any(word in name for word in names):
                parameter.mul_(gain)
    return module


def awake(module: nn.Module, std: float = 0.05) -> nn.Module:
    """Fill every matrix that was born zero (gates, output layers): such a model would predict nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(0.0, std)
    return module


def run(pipe: Any, scale: float, *, steps: int = 3, callback: Any = None, seed: int = 0, **arguments: Any) -> Tensor:
    """One run with a fixed generator: the latents (images first), as one float tensor.

    `arguments` are the pipeline's own, except `scale_argument` (its name for the scale), `images` (how many for each
    prompt) and `negative` (the negative prompt), which are passed only where they are given.
    """
    arguments[arguments.pop("scale_argument", "guidance_scale")] = scale
    images, negative = arguments.pop("images", 1), arguments.pop("negative", None)
    if images != 1:
        arguments["num_images_per_prompt"] = images
    if negative is not None:
        arguments["negative_prompt"] = negative
    if callback is not None:
        arguments["callback_on_step_end"] = callback
    arguments.setdefault("num_inference_steps", steps)
    arguments.setdefault("generator", torch.Generator().manual_seed(seed))
    with calm(seed):  # some pipelines draw from the global generator, whatever they are given
        return tensor(pipe(**{key: value for key, value in arguments.items() if value is not OMIT})[0])


OMIT = object()  # as the value of an argument: the pipeline does not take it


def calls(**fixed: Any) -> Callable[..., Tensor]:
    """A `Case.call` that passes `fixed` wherever the caller says nothing else."""

    def call(pipe: Any, scale: float, **arguments: Any) -> Tensor:
        return run(pipe, scale, **{**fixed, **arguments})

    return call


def tensor(output: Any) -> Tensor:
    """Latents, an array or a list of either or of pictures, as one float tensor."""
    if isinstance(output, Tensor):
        return output.detach().float()
    if isinstance(output, list | tuple):
        return torch.stack([tensor(np.asarray(item) if isinstance(item, Image.Image) else item) for item in output])
    return torch.as_tensor(np.asarray(output)).float()


@cache
def picture(size: int = 16, channels: int = 3) -> Tensor:
    """A smooth picture in [0, 1], shape (1, channels, size, size)."""
    line = torch.linspace(0, 1, size)
    planes = [
        0.5 + 0.5 * torch.sin(3 * (k + 1) * line[:, None] + 2 * line[None, :] ** (k + 1)) for k in range(channels)
    ]
    return torch.stack(planes)[None]


@cache
def pil(size: int = 16) -> Image.Image:
    """The same picture as bytes."""
    return Image.fromarray((picture(size)[0].permute(1, 2, 0).numpy() * 255).astype("uint8"))


@cache
def mask(size: int = 16) -> Tensor:
    """The right half is to be painted, shape (1, 1, size, size)."""
    half = torch.zeros(1, 1, size, size)
    half[..., size // 2 :] = 1
    return half


def clip_tokenizer(length: int = TOKENS) -> Any:
    """CLIP's tokenizer knowing single letters only."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)}, merges=[], model_max_length=length
    )


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>", "<|endoftext|>"]
VOCABULARY = 256 + len(SPECIAL)
IMAGE_TOKEN, VIDEO_TOKEN, VISION_START, VISION_END = 8, 9, 6, 7  # places in SPECIAL


def tokenizer(length: int = 64, *, end: bool = False, side: str = "right", chat: str = CHAT, **more: Any) -> Any:
    """A fast tokenizer of bytes, for T5, Gemma, Llama and Qwen alike; `end` puts </s> after every text, as T5 does."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    if end:
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
        model_max_length=length,
        padding_side=side,
        chat_template=chat,
        **more,
    )


def clip_text(*, projection: int | None = None, **more: Any) -> Any:
    """CLIP's text encoder; with `projection` the kind that also gives one vector a prompt."""
    config = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        projection_dim=projection or WIDTH,
        **more,
    )
    return (transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(config)


def clip_vision(*, projection: int = WIDTH, size: int = 32, patch: int = 8) -> Any:
    """CLIP's picture encoder."""
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            image_size=size,
            patch_size=patch,
            projection_dim=projection,
        )
    )


def clip_pictures(size: int = 32) -> Any:
    """CLIP's picture processor."""
    return transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def t5(width: int = WIDTH, *, encoder: Any = None) -> Any:
    """T5's encoder."""
    return (encoder or transformers.T5EncoderModel)(
        transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def language(kind: str, width: int = WIDTH, *, layers: int = 2, head: bool = False, **more: Any) -> Any:
    """A decoder-only language model of `transformers`: "Gemma2", "Llama", "Qwen2", "Qwen3", "Mistral", "Glm", …"""
    config = getattr(transformers, kind + "Config")(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": width,
            "intermediate_size": 37,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 1024,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 1,
            **more,
        }
    )
    return getattr(transformers, kind + ("ForCausalLM" if head else "Model"))(config)


def vae(channels: int = 4, *, levels: int = 2, picture_channels: int = 3, **more: Any) -> Any:
    """A Stable Diffusion autoencoder: pictures 2 ** (levels - 1) times as wide as latents."""
    return diffusers.AutoencoderKL(
        **{
            "in_channels": picture_channels,
            "out_channels": picture_channels,
            "block_out_channels": (8,) * levels,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "layers_per_block": 1,
            "latent_channels": channels,
            "norm_num_groups": 4,
            "sample_size": 16,
            "force_upcast": False,
            **more,
        }
    )


def flux_vae(channels: int = 4, **more: Any) -> Any:
    """The autoencoder of SD3 and Flux: shifted latents, no quantisation layers."""
    shifted = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06, "scaling_factor": 1.5}
    return vae(channels, **{**shifted, **more})


BLOCKS = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}


def unet(**more: Any) -> Any:
    """The denoiser of Stable Diffusion at 8x8, its text path loud enough to be heard."""
    return loud(diffusers.UNet2DConditionModel(**{**BLOCKS, **more}), "attn2")


def sd_scheduler(**more: Any) -> Any:
    """The noise of Stable Diffusion, sampled by DDIM."""
    return diffusers.DDIMScheduler(
        **{
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "steps_offset": 1,
            "clip_sample": False,
            "set_alpha_to_one": False,
            **more,
        }
    )


def flow_scheduler(**more: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)
