"""Qwen-Image: two calls a step, and the guided prediction is given the length of the conditional one."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, calls, mask, picture, seeded

NETWORK: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": parts.WIDTH,
    "axes_dims_rope": (8, 4, 4),
}


def text_encoder() -> Any:
    """Qwen 2.5 VL, seeing and reading."""
    text = {
        "vocab_size": parts.VOCABULARY,
        "hidden_size": parts.WIDTH,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 10000.0},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": parts.WIDTH,
        "fullatt_block_indexes": [0],
    }
    return transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=parts.IMAGE_TOKEN,
            video_token_id=parts.VIDEO_TOKEN,
            vision_start_token_id=parts.VISION_START,
            vision_end_token_id=parts.VISION_END,
        )
    )


def vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def build(cls: str, *, control: int | None = None, **more: Any) -> Any:
    """A builder of this class; with `control` a ControlNet reads so many channels beyond the latents."""

    @seeded
    def made() -> Any:
        transformer = diffusers.QwenImageTransformer2DModel(**NETWORK)
        aside: dict[str, Any] = {}
        if control is not None:
            network = diffusers.QwenImageControlNetModel(**NETWORK, extra_condition_channels=control)
            aside["controlnet"] = awake(network, 0.2)
        pipe = getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "txt_in", "add_v", "to_out", gain=6.0),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=vae(),
            text_encoder=text_encoder(),
            tokenizer=parts.tokenizer(1024),
            **aside,
            **more,
        )
        # the published template is longer than everything else here
        pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
        return pipe

    return made


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "scale_argument": "true_cfg_scale",
    "negative": "grey",
}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
LENGTH = "rescaled to the length of c, token by token"


def case(cls: str, fixed: dict[str, Any], **made: Any) -> Case:
    return Case(
        cls,
        "qwenimage",
        build(cls, **made),
        calls(**fixed),
        scale_argument="true_cfg_scale",
        denoisers=("transformer",),
        helpers=("controlnet",) if "control" in made else (),
        style="two calls",
        order="cond uncond",
        after=LENGTH,
        exact=False,
    )


FAMILY = Family(
    "Qwen-Image",
    (
        case("QwenImagePipeline", TEXT),
        case("QwenImageImg2ImgPipeline", IMAGE),
        case("QwenImageInpaintPipeline", {**IMAGE, "mask_image": mask()}),
        case("QwenImageControlNetPipeline", {**TEXT, "control_image": picture()}, control=0),
        case(
            "QwenImageControlNetInpaintPipeline",
            {**TEXT, "control_image": picture(), "control_mask": mask()},
            control=4,
        ),
    ),
)
