"""Small models of ComfyUI's own classes with weights from a seed, and one sampling of them."""

import math
from typing import Any

import comfy.conds
import comfy.ldm.chroma.model
import comfy.ldm.flux.model
import comfy.ldm.lumina.model
import comfy.ldm.modules.diffusionmodules.mmdit
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.model
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from comfy.model_base import ModelType
from torch import Tensor

CPU = torch.device("cpu")
WIDTH = 32
"""Of the text's encoding."""


def _filled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights from a seed: a random network of ComfyUI is uninitialised memory."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise / math.sqrt(fan) if fan else 0.1 * noise + ("weight" in name or "scale" in name))
        for buffer in network.buffers():
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
    return network.eval().requires_grad_(False)


def unet(seed: int = 0) -> torch.nn.Module:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    network = UNetModel(
        image_size=16,
        in_channels=4,
        model_channels=32,
        out_channels=4,
        num_res_blocks=[1, 1],
        channel_mult=(1, 2),
        num_heads=2,
        use_spatial_transformer=True,
        transformer_depth=[1, 1],
        transformer_depth_middle=1,
        transformer_depth_output=[1, 1, 1, 1],
        context_dim=WIDTH,
        legacy=False,
        dtype=torch.float32,
        device=CPU,
        operations=comfy.ops.disable_weight_init,
    )
    return _filled(network, seed)


class OfNetwork(comfy.model_base.BaseModel):
    """A model around a given network: the text's encoding goes to it, and a pooled one where it takes one."""

    pooled = numbered = False
    guidance: float | None = None

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        if (cross_attn := kwargs.get("cross_attn")) is not None:
            kind = comfy.conds.CONDRegular if self.pooled or self.numbered else comfy.conds.CONDCrossAttn
            out["c_crossattn"] = kind(cross_attn)
            if self.numbered:
                out["num_tokens"] = comfy.conds.CONDConstant(cross_attn.shape[1])
        if self.guidance is not None:
            out["guidance"] = comfy.conds.CONDRegular(torch.FloatTensor([self.guidance]))
        return out

    def encode_adm(self, **kwargs: Any) -> Tensor | None:
        return kwargs.get("pooled_output", torch.full((1, WIDTH), 0.3)) if self.pooled else None


def patcher(kind: ModelType, network: torch.nn.Module | None = None, pooled: bool = False, **latents: int) -> Any:
    configuration = comfy.supported_models.SD15({"disable_unet_model_creation": True})
    configuration.set_inference_dtype(torch.float32, None)
    configuration.sampling_settings = {"shift": 3.0} if kind in (ModelType.FLOW, ModelType.FLUX) else {}
    model = OfNetwork(configuration, kind)
    model.diffusion_model = unet() if network is None else network
    model.pooled = pooled
    if pooled:
        model.adm_channels = WIDTH
    for name, value in latents.items():
        setattr(model.latent_format, name, value)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


FLUX: dict[str, Any] = {
    "context_in_dim": WIDTH,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 4,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
}
"""The sizes of Flux and of Chroma."""


def transformer(name: str) -> Any:
    """A MODEL of one of ComfyUI's transformers: its real layout at a small size."""
    ops: dict[str, Any] = {"dtype": torch.float32, "device": CPU, "operations": comfy.ops.disable_weight_init}
    match name:
        case "Flux":
            network = comfy.ldm.flux.model.Flux(
                in_channels=4,
                out_channels=4,
                vec_in_dim=WIDTH,
                **FLUX,
                guidance_embed=False,
                **ops,
            )
            return patcher(ModelType.FLUX, _filled(network), pooled=True)
        case "Chroma":
            network = comfy.ldm.chroma.model.Chroma(
                in_channels=4 * 4,
                out_channels=4 * 4,
                **FLUX,
                in_dim=64,
                out_dim=64,
                hidden_dim=32,
                n_layers=1,
                **ops,
            )
            model = patcher(ModelType.FLUX, _filled(network))
            model.model.guidance = 0.0
            return model
        case "Lumina 2":
            network = comfy.ldm.lumina.model.NextDiT(
                patch_size=2,
                in_channels=4,
                dim=64,
                n_layers=2,
                n_refiner_layers=1,
                n_heads=4,
                n_kv_heads=2,
                qk_norm=True,
                cap_feat_dim=WIDTH,
                axes_dims=[4, 6, 6],
                axes_lens=[32, 32, 32],
                **ops,
            )
            model = patcher(ModelType.FLOW, _filled(network))
            model.model.numbered = True
            return model
        case "SD3" | "SD3.5":
            network = comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper(
                input_size=None,
                patch_size=2,
                in_channels=4,
                depth=2,
                mlp_ratio=2.0,
                adm_in_channels=WIDTH,
                context_embedder_config={
                    "target": "torch.nn.Linear",
                    "params": {"in_features": WIDTH, "out_features": 128},
                },
                num_patches=64,
                x_block_self_attn_layers=[0] if name == "SD3.5" else [],
                pos_embed_max_size=8,
                **ops,
            )
            return patcher(ModelType.FLOW, _filled(network), pooled=True)
        case "Qwen-Image":
            network = comfy.ldm.qwen_image.model.QwenImageTransformer2DModel(
                patch_size=2,
                in_channels=16,
                out_channels=4,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=4,
                joint_attention_dim=WIDTH,
                axes_dims_rope=(4, 6, 6),
                **ops,
            )
            return patcher(ModelType.FLUX, _filled(network), latent_dimensions=3)
        case "Wan":
            network = comfy.ldm.wan.model.WanModel(
                in_dim=4, dim=96, ffn_dim=128, freq_dim=32, text_dim=WIDTH, out_dim=4, num_heads=4, num_layers=2, **ops
            )
            return patcher(ModelType.FLOW, _filled(network), latent_dimensions=3)
    raise ValueError(name)


def condition(seed: int, **more: Any) -> list[Any]:
    """CONDITIONING: an encoding from a seed."""
    return [[torch.randn(1, 7, WIDTH, generator=torch.Generator().manual_seed(seed)), more]]


POSITIVE, NEGATIVE = condition(1), condition(2)


def sample(
    model: Any,
    cfg: float = 1.0,
    sampler: str = "euler",
    *,
    steps: int = 6,
    images: int = 1,
    seed: int = 0,
    positive: Any = None,
    negative: Any = None,
    denoise: float = 1.0,
    latent: Tensor | None = None,
    shape: tuple[int, ...] = (4, 16, 16),
    noise: Tensor | None = None,
    scheduler: str = "simple",
) -> Tensor:
    """What KSampler gives."""
    latent = torch.zeros(images, *shape) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        scheduler,
        POSITIVE if positive is None else positive,
        NEGATIVE if negative is None else negative,
        latent,
        denoise=denoise,
        disable_pbar=True,
        seed=seed,
    )
