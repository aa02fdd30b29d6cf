"""What the families share: text encoders, tokenizers, autoencoders, UNets, images, and one way to call a pipeline."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.pipelines.families.parts_text import (
    CHAT as CHAT,
)
from tests.pipelines.families.parts_text import (
    IMAGE_TOKEN as IMAGE_TOKEN,
)
from tests.pipelines.families.parts_text import (
    PLAIN as PLAIN,
)
from tests.pipelines.families.parts_text import (
    SPECIAL as SPECIAL,
)
from tests.pipelines.families.parts_text import (
    TOKENS as TOKENS,
)
from tests.pipelines.families.parts_text import (
    VIDEO_TOKEN as VIDEO_TOKEN,
)
from tests.pipelines.families.parts_text import (
    VISION_END as VISION_END,
)
from tests.pipelines.families.parts_text import (
    VISION_START as VISION_START,
)
from tests.pipelines.families.parts_text import (
    VOCABULARY as VOCABULARY,
)
from tests.pipelines.families.parts_text import (
    WIDTH as WIDTH,
)
from tests.pipelines.families.parts_text import (
    clip_pictures as clip_pictures,
)
from tests.pipelines.families.parts_text import (
    clip_text as clip_text,
)
from tests.pipelines.families.parts_text import (
    clip_tokenizer as clip_tokenizer,
)
from tests.pipelines.families.parts_text import (
    clip_vision as clip_vision,
)
from tests.pipelines.families.parts_text import (
    language as language,
)
from tests.pipelines.families.parts_text import (
    t5 as t5,
)
from tests.pipelines.families.parts_text import (
    tokenizer as tokenizer,
)

PROMPT = "a red fox"


@contextmanager
def calm(seed: int) -> Iterator[None]:
    """The global generator seeded inside and untouched outside; no warnings of diffusers about diffusers itself."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*(deprecated|duplicating)")
        warnings.filterwarnings("ignore", category=UserWarning, message="(?s).*CPU [Aa]utocast")
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*torch.jit.script")
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="__array__ implementation")
        warnings.filterwarnings("ignore", category=UserWarning, message="Should have t[ab]")  # torchsde, at its ends
        torch.default_generator.manual_seed(seed)  # torch's own function formats a stack for each CUDA device to be
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


def words(seed: int, width: int = WIDTH, length: int = 8) -> Tensor:
    """The encoding of a prompt, for pipelines that take it as an argument; shape (1, length, width)."""
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))


def told(width: int = WIDTH, length: int = 8, *, mask: str = "") -> dict[str, Any]:
    """The encodings of a prompt and of a negative one as arguments; with `mask` the masks of both, named so behind."""
    prompts = {"prompt_embeds": words(1, width, length), "negative_prompt_embeds": words(2, width, length)}
    if mask:
        prompts |= {key.removesuffix("_embeds") + mask: torch.ones(1, length).bool() for key in list(prompts)}
    return prompts


OMIT = object()  # as the value of an argument: the pipeline does not take it


def calls(**fixed: Any) -> Callable[..., Tensor]:
    """A `Case.call` that passes `fixed` wherever the caller says nothing else."""

    def call(pipe: Any, scale: float, **arguments: Any) -> Tensor:
        return run(pipe, scale, **{**fixed, **arguments})

    return call


def tensor(output: Any) -> Tensor:
    """Latents, an array or a list of either or of images, as one float tensor."""
    if isinstance(output, Tensor):
        return output.detach().float()
    if isinstance(output, list | tuple):
        return torch.stack([tensor(np.asarray(item) if isinstance(item, Image.Image) else item) for item in output])
    return torch.as_tensor(np.asarray(output)).float()


@cache
def picture(size: int = 16, channels: int = 3) -> Tensor:
    """A smooth image in [0, 1], shape (1, channels, size, size)."""
    line = torch.linspace(0, 1, size)
    planes = [
        0.5 + 0.5 * torch.sin(3 * (k + 1) * line[:, None] + 2 * line[None, :] ** (k + 1)) for k in range(channels)
    ]
    return torch.stack(planes)[None]


@cache
def pil(size: int = 16) -> Image.Image:
    """The same image as bytes."""
    return Image.fromarray((picture(size)[0].permute(1, 2, 0).numpy() * 255).astype("uint8"))


@cache
def mask(size: int = 16) -> Tensor:
    """The right half is to be painted, shape (1, 1, size, size)."""
    half = torch.zeros(1, 1, size, size)
    half[..., size // 2 :] = 1
    return half


def vae(channels: int = 4, *, levels: int = 2, picture_channels: int = 3, **more: Any) -> Any:
    """A Stable Diffusion autoencoder: images 2 ** (levels - 1) times as wide as latents."""
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


class Shown(nn.Module):
    """In place of an autoencoder where a pipeline gives no latents: shows them as an image, too pale to be clipped."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(scaling_factor=1.0, block_out_channels=(8, 8))
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def decode(self, latents: Tensor) -> Any:
        return SimpleNamespace(sample=latents / 64)


class Coarse(nn.Module):
    """In place of an autoencoder where every image is made 1024 pixels wide first, which a true one would not finish.

    Makes images (of one frame, unless `planar`) 64 times smaller.
    """

    def __init__(self, channels: int, *, planar: bool = False, picture_channels: int = 3) -> None:
        super().__init__()
        self.temperal_downsample = [False] * 6
        self.config = SimpleNamespace(
            z_dim=channels,
            latent_channels=channels,
            block_out_channels=(8,) * 7,
            latents_mean=[0.0] * channels,
            latents_std=[1.0] * channels,
            shift_factor=0.0,
            scaling_factor=1.0,
            scale_factor_spatial=64,
            scale_factor_temporal=1,
        )
        self.mix = (nn.Conv2d if planar else nn.Conv3d)(picture_channels, channels, 1)
        self.shrink = nn.AvgPool2d(64) if planar else nn.AvgPool3d((1, 64, 64))
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def encode(self, image: Tensor) -> Any:
        latents = self.mix(self.shrink(image))
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda *_: latents, mode=lambda: latents))

    def decode(self, latents: Tensor, **_: Any) -> tuple[Tensor]:
        """The latents as an image, too pale to be clipped."""
        return (latents / 64,)


def shown(**fixed: Any) -> Callable[..., Tensor]:
    """A `Case.call` of a pipeline with `Shown`: its images made latents again."""

    def call(pipe: Any, scale: float, **arguments: Any) -> Tensor:
        return (run(pipe, scale, **{**fixed, **arguments}) - 0.5) * 128

    return call


def sound_vae() -> Any:
    """The autoencoder of stereo sound that Stable Audio and ACE-Step have."""
    return diffusers.AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=4,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )


def flux_vae(channels: int = 4, **more: Any) -> Any:
    """The autoencoder of SD3 and Flux: shifted latents, no quantisation layers."""
    shifted = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06, "scaling_factor": 1.5}
    return vae(channels, **{**shifted, **more})


BLOCKS: dict[str, Any] = {
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
