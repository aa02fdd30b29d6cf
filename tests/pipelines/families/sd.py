"""Stable Diffusion 1 and 2: text, image, inpainting (both kinds), depth, edits, upscalers, variations, GLIGEN."""

from typing import Any

import diffusers
import torch
import transformers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, calls, mask, picture, pil, seeded


def components(**more: Any) -> dict[str, Any]:
    """What every pipeline of the family is made of; `more` goes to the UNet."""
    return {
        "vae": parts.vae(),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "unet": parts.unet(**more),
        "scheduler": parts.sd_scheduler(),
    }


UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
LATENT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}


@seeded
def text() -> Any:
    return diffusers.StableDiffusionPipeline(**components(), **UNCHECKED)


@seeded
def velocity() -> Any:
    pipe = diffusers.StableDiffusionPipeline(**components(), **UNCHECKED)
    pipe.scheduler = parts.sd_scheduler(prediction_type="v_prediction")
    return pipe


@seeded
def with_picture() -> Any:
    pipe = diffusers.StableDiffusionPipeline(
        **components(),
        **{**UNCHECKED, "feature_extractor": parts.clip_pictures()},
        image_encoder=parts.clip_vision(),
    )
    pipe.load_ip_adapter(adapter(pipe.unet), subfolder=None, weight_name=None)
    return pipe


def adapter(unet: Any, tokens: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    """Random IP-Adapter weights of this UNet, in the published layout."""
    width = unet.config.cross_attention_dim
    weights = {}
    keys = [name for name in unet.attn_processors if "attn2" in name]
    for place, name in enumerate(keys):
        inner = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        weights[f"{2 * place + 1}.to_k_ip.weight"] = torch.randn(inner, width)
        weights[f"{2 * place + 1}.to_v_ip.weight"] = torch.randn(inner, width)
    projection = {
        "proj.weight": torch.randn(tokens * width, parts.WIDTH) * 0.2,
        "proj.bias": torch.zeros(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": projection, "ip_adapter": weights}


@seeded
def boxes() -> Any:
    return diffusers.StableDiffusionGLIGENPipeline(**components(attention_type="gated"), **UNCHECKED)


@seeded
def masked() -> Any:
    return diffusers.StableDiffusionDiffEditPipeline(
        **components(), inverse_scheduler=diffusers.DDIMInverseScheduler(), **UNCHECKED
    )


@seeded
def image() -> Any:
    return diffusers.StableDiffusionImg2ImgPipeline(**components(), **UNCHECKED)


@seeded
def inpaint() -> Any:
    return diffusers.StableDiffusionInpaintPipeline(**components(in_channels=9), **UNCHECKED)


@seeded
def inpaint_blended() -> Any:
    return diffusers.StableDiffusionInpaintPipeline(**components(), **UNCHECKED)


@seeded
def edit() -> Any:
    return diffusers.StableDiffusionInstructPix2PixPipeline(**components(in_channels=8, out_channels=4), **UNCHECKED)


@seeded
def depth() -> Any:
    estimator = transformers.DPTForDepthEstimation(
        transformers.DPTConfig(
            image_size=16,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[4, 4, 4, 4],
            fusion_hidden_size=8,
            reassemble_factors=[4, 2, 1, 0.5],
        )
    )
    return diffusers.StableDiffusionDepth2ImgPipeline(
        **components(in_channels=5, out_channels=4),
        depth_estimator=estimator,
        feature_extractor=transformers.DPTImageProcessorPil(size={"height": 16, "width": 16}),
    )


@seeded
def upscale() -> Any:
    made = components(in_channels=7, out_channels=4, num_class_embeds=1000)
    made |= {"vae": parts.vae(scaling_factor=0.08333), "scheduler": parts.sd_scheduler(prediction_type="v_prediction")}
    return diffusers.StableDiffusionUpscalePipeline(
        **made, low_res_scheduler=diffusers.DDPMScheduler(), max_noise_level=350
    )


@seeded
def latent_upscale() -> Any:
    unet = diffusers.UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=(32, 32, 64, 64),
        time_cond_proj_dim=128 + parts.WIDTH,
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=parts.WIDTH,
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
        in_channels=8,
        mid_block_type=None,
        only_cross_attention=False,
        out_channels=5,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
    )
    made = components() | {
        "unet": parts.loud(unet, "attn2"),
        "scheduler": diffusers.EulerDiscreteScheduler(prediction_type="sample"),
    }
    return diffusers.StableDiffusionLatentUpscalePipeline(**made)


@seeded
def variation() -> Any:
    return diffusers.StableDiffusionImageVariationPipeline(
        vae=parts.vae(),
        image_encoder=parts.clip_vision(),
        unet=parts.unet(),
        scheduler=parts.sd_scheduler(),
        safety_checker=None,
        feature_extractor=parts.clip_pictures(),
        requires_safety_checker=False,
    )


def edit_inside(pipe: Any, scale: float, *, steps: int = 3, **arguments: Any) -> torch.Tensor:
    """DiffEdit with the latents of an image at every step."""
    latents = picture(8, 4).repeat(steps, 1, 1, 1)[None]
    fixed = {"mask_image": mask(8)[:, 0], "image_latents": latents, "inpaint_strength": 1.0}
    return parts.run(pipe, scale, steps=steps, **{**LATENT, **fixed, **arguments})


FAMILY = Family(
    "Stable Diffusion",
    (
        Case("StableDiffusionPipeline", "sd", text, calls(**LATENT), prediction="epsilon", after="guidance_rescale"),
        Case(
            "StableDiffusionPipeline",
            "sd",
            velocity,
            calls(**LATENT),
            prediction="v",
            after="guidance_rescale",
            variant="v",
        ),
        Case(
            "StableDiffusionPipeline",
            "sd",
            with_picture,
            calls(**LATENT, ip_adapter_image=pil(32)),
            prediction="epsilon",
            variant="IP-Adapter",
        ),
        Case(
            "StableDiffusionGLIGENPipeline",
            "sd",
            boxes,
            calls(**LATENT, gligen_phrases=["a fox"], gligen_boxes=[[0.1, 0.1, 0.6, 0.6]]),
            prediction="epsilon",
        ),
        Case(
            "StableDiffusionDiffEditPipeline",
            "sd",
            masked,
            edit_inside,
            prediction="epsilon",
            exact=False,
            after="scheduler.step, then the rest of the image is put back",
        ),
        Case(
            "StableDiffusionImg2ImgPipeline",
            "sd",
            image,
            calls(**LATENT, image=picture(), strength=0.7),
            prediction="epsilon",
        ),
        Case(
            "StableDiffusionInpaintPipeline",
            "sd",
            inpaint,
            calls(**LATENT, image=picture(), mask_image=mask(), height=16, width=16),
            prediction="epsilon",
        ),
        Case(
            "StableDiffusionInpaintPipeline",
            "sd",
            inpaint_blended,
            calls(**LATENT, image=picture(), mask_image=mask(), height=16, width=16, strength=0.7),
            prediction="epsilon",
            variant="blended",
        ),
        Case(
            "StableDiffusionInstructPix2PixPipeline",
            "sd",
            edit,
            calls(**LATENT, image=picture(), image_guidance_scale=1.5),
            prediction="epsilon",
            style="three parts",
            order="other",
            combine="three parts",
        ),
        Case(
            "StableDiffusionDepth2ImgPipeline",
            "sd",
            depth,
            calls(**LATENT, image=pil(16), strength=0.7),
            prediction="epsilon",
        ),
        Case(
            "StableDiffusionUpscalePipeline",
            "sd",
            upscale,
            calls(**LATENT, image=picture(8), noise_level=20),
            prediction="v",
        ),
        Case(
            "StableDiffusionLatentUpscalePipeline",
            "sd",
            latent_upscale,
            calls(**LATENT, image=picture(16)),
            prediction="sample",
            variance="discarded",
            before="drops the last channel and preconditions: skip(sigma) * latents + out(sigma) * network",
            exact=False,
        ),
        Case(
            "StableDiffusionImageVariationPipeline",
            "sd",
            variation,
            calls(image=pil(32), output_type="latent", negative=OMIT),
            prediction="epsilon",
        ),
    ),
)
