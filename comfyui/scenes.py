"""The bundled model of cfglab as MODEL, CLIP and VAE of ComfyUI, so that a workflow runs without a download."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .passes import PASS

RGB_FACTORS = (
    (0.1045, 0.1558, 0.2866),
    (-0.0609, -0.0725, 0.0774),
    (0.1456, 0.0919, 0.1625),
    (-0.3904, -0.0394, 0.0566),
    (-0.1470, -0.1954, 0.2750),
    (0.1141, 0.2306, 0.0227),
    (-0.0104, 0.0026, 0.0046),
    (-0.0423, -0.0470, 0.0256),
)
RGB_BIAS = (0.4347, 0.3779, 0.3014)
"""Red, green and blue in [-1, 1] from the eight channels of a latent, for previews while an image is sampled: the least
squares fit from the scaled latents of 512 rendered scenes to the scenes at an eighth of their size."""


class Network(torch.nn.Module):
    """A UNet of diffusers with the call of ComfyUI's networks. It applies cfglab's own perturbed passes."""

    applies_passes = True

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        transformer_options: Any = (),
        **_: Any,
    ) -> Tensor:
        wanted, prompt = dict(transformer_options).get(PASS, (None, None))
        texts: dict[str, Any] = {"encoder_hidden_states": context}
        if wanted is None:
            return self.unet(x, timesteps, **texts, return_dict=False)[0]
        if prompt is not None:
            texts["prompted"] = {"encoder_hidden_states": prompt.to(context).expand(len(context), -1, -1)}
        sample, timesteps, texts = wanted.inputs(x, timesteps, texts)
        with wanted.applied(self.unet) as unet:
            return unet(sample, timesteps, **texts, return_dict=False)[0]


class TextEncoder:
    """What CLIPTextEncode calls."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def tokenize(self, text: str, **_: Any) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str, **_: Any) -> list[Any]:
        with torch.no_grad():
            context, _none = self.pipe.encode_prompt(tokens, self.pipe.device, 1, False)
        return [[context.cpu(), {}]]


class Decoder:
    """What VAEDecode and VAEEncode call."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae

    @torch.no_grad()
    def decode(self, samples: Tensor, **_: Any) -> Tensor:
        images = self.vae.decode(samples.to(self.vae.device, self.vae.dtype)).sample
        return (images / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu().float()

    @torch.no_grad()
    def encode(self, pixels: Tensor, **_: Any) -> Tensor:
        images = pixels[..., :3].movedim(-1, 1).to(self.vae.device, self.vae.dtype)
        return self.vae.encode(images * 2 - 1).latent_dist.mode().cpu()


def latent_format(vae: Any) -> Any:
    """The latent format of ComfyUI for a VAE of diffusers with the channels of the bundled model's."""
    from comfy.latent_formats import LatentFormat

    made = LatentFormat()
    made.latent_channels, made.scale_factor = vae.config.latent_channels, vae.config.scaling_factor
    made.latent_rgb_factors = [list(row) for row in RGB_FACTORS]
    made.latent_rgb_factors_bias = list(RGB_BIAS)
    return made


@lru_cache(maxsize=1)
def load_scenes() -> tuple[Any, TextEncoder, Decoder]:
    """(MODEL, CLIP, VAE) of the bundled model: 128 x 128 pixels from an EmptyLatentImage of 128 x 128.

    EmptyLatentImage makes four channels of zeros, and ComfyUI's samplers repeat them to the eight of the model.
    """
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    import cfglab

    pipe = cfglab.load("scenes", device="cpu")
    configuration = comfy.supported_models.SD15({"disable_unet_model_creation": True})
    configuration.latent_format = latent_format(pipe.vae)
    configuration.set_inference_dtype(torch.float32, None)
    with torch.inference_mode(False):
        model = comfy.model_base.BaseModel(configuration)
        model.diffusion_model = Network(pipe.unet)
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, *devices), TextEncoder(pipe), Decoder(pipe.vae)
