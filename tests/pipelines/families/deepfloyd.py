"""DeepFloyd IF: pixels instead of latents; a learned variance that the sampler uses, from the conditional rows."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, seeded


def components(**more: Any) -> dict[str, Any]:
    """What every pipeline of the family is made of; `more` goes to the UNet."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        **{"in_channels": 3, **more},
        out_channels=6,
        cross_attention_dim=parts.WIDTH,
        encoder_hid_dim=parts.WIDTH,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=8,
    )
    return {
        "text_encoder": parts.t5(),
        "tokenizer": parts.tokenizer(end=True),
        "unet": parts.loud(unet, "add_k_proj", "add_v_proj", "add_embedding", "encoder_hid_proj", gain=3.0),
        "scheduler": diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
        ),
        "watermarker": None,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def build(cls: str) -> Any:
    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(**components())

    return made


def enlarge(cls: str) -> Any:
    """A builder of an upscaler: the small image is a further input, its noise level too."""

    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(
            **components(in_channels=6, class_embed_type="timestep"),
            image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        )

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "pt", "clean_caption": False}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(8), "strength": 0.7}
LARGE: dict[str, Any] = {**TEXT, "image": picture(4), "noise_level": 50}


def case(cls: str, build: Any, **fixed: Any) -> Case:
    return Case(cls, "deepfloyd_if", build, calls(**fixed), prediction="epsilon", variance="used")


FAMILY = Family(
    "DeepFloyd IF",
    (
        case("IFPipeline", build("IFPipeline"), **TEXT),
        case("IFImg2ImgPipeline", build("IFImg2ImgPipeline"), **IMAGE),
        case("IFInpaintingPipeline", build("IFInpaintingPipeline"), **IMAGE, mask_image=mask(8)),
        case("IFSuperResolutionPipeline", enlarge("IFSuperResolutionPipeline"), **LARGE),
        case(
            "IFImg2ImgSuperResolutionPipeline",
            enlarge("IFImg2ImgSuperResolutionPipeline"),
            **LARGE,
            original_image=picture(8),
            strength=0.7,
        ),
        case(
            "IFInpaintingSuperResolutionPipeline",
            enlarge("IFInpaintingSuperResolutionPipeline"),
            **LARGE,
            original_image=picture(8),
            mask_image=mask(8),
            strength=0.7,
        ),
    ),
)
