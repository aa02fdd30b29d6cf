"""Classes with a guider component, which guide() refuses: given `to_guider`, beside diffusers' own guider."""

from typing import Any

import diffusers
import transformers
from torch import Tensor

from cfglab.pipelines import Profile
from cfglab.pipelines.profiles.table import TRANSFORMER
from tests.pipelines.families import parts, parts_video, qwenimage
from tests.pipelines.families.parts import pil, seeded, told
from tests.pipelines.modular import hunyuan
from tests.pipelines.refused_tries import Try, without_scale

ENCODED = {"prompt": None, **told(mask="_attention_mask"), "output_type": "latent"}


def known(name: str) -> Try:
    """A class that other tests run with guiders of several kinds."""

    def call(pipe: Any, _scale: float) -> Tensor:
        return parts.tensor(hunyuan.draw(pipe, name))

    return Try(lambda: hunyuan.build(name, None), call, Profile(**TRANSFORMER), guider=True)


@seeded
def refiner() -> Any:
    """HunyuanImage's refiner, which makes a video of one frame from the image, with a network of three axes."""
    transformer = diffusers.HunyuanImageTransformer2DModel(
        **{**hunyuan.NETWORK, "text_embed_2_dim": None},
        in_channels=16,
        out_channels=8,
        num_single_layers=1,
        patch_size=(1, 1, 1),
        guidance_embeds=True,
        rope_axes_dim=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLHunyuanImageRefiner(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=2,
    )
    pipe = diffusers.HunyuanImageRefinerPipeline(
        tokenizer=parts.tokenizer(64),
        text_encoder=qwenimage.text_encoder(),
        scheduler=parts.flow_scheduler(),
        transformer=parts.loud(transformer, "context_embedder", "add_v", "to_out", gain=3.0),
        vae=vae,
    )
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx, pipe.tokenizer_max_length = "{}", 0, 32
    return pipe


@seeded
def video_from_image() -> Any:
    """HunyuanVideo 1.5 with an encoder of its first frame."""
    text = hunyuan.video(None)
    config = transformers.SiglipVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    pipe = diffusers.HunyuanVideo15ImageToVideoPipeline(
        **text.components,
        image_encoder=transformers.SiglipVisionModel(config),
        feature_extractor=transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}),
    )
    pipe.system_message, pipe.prompt_template_encode_start_idx = "", 0
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length, pipe.vision_num_semantic_tokens = 32, 16, 4
    return pipe


def motif(cls: str) -> Any:
    """A builder of this class of Motif-Video, which is given the encodings of its texts."""

    @seeded
    def built() -> Any:
        transformer = diffusers.MotifVideoTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=1,
            text_embed_dim=parts.WIDTH,
            rope_axes_dim=(4, 6, 6),
        )
        return getattr(diffusers, cls)(
            scheduler=parts.flow_scheduler(),
            vae=parts_video.wan_vae(),
            text_encoder=None,
            tokenizer=None,
            transformer=parts.loud(parts.awake(transformer), "context_embedder", "add_v", "to_out", gain=3.0),
            guider=None,
            feature_extractor=None,
        )

    return built


SQUARE: dict[str, Any] = {"height": 16, "width": 16}
VIDEO: dict[str, Any] = {**ENCODED, **SQUARE, "num_frames": 5}

WITH_GUIDER: dict[str, Try] = {
    "HunyuanImagePipeline": known("HunyuanImage"),
    "HunyuanImageRefinerPipeline": Try(
        refiner,
        without_scale(prompt=parts.PROMPT, negative_prompt="grey", image=pil(16), output_type="latent", **SQUARE),
        Profile(**TRANSFORMER),
        guider=True,
    ),
    "HunyuanVideo15Pipeline": known("HunyuanVideo 1.5"),
    "HunyuanVideo15ImageToVideoPipeline": Try(
        video_from_image,
        without_scale(prompt=parts.PROMPT, negative_prompt="grey", image=pil(16), num_frames=5, output_type="latent"),
        Profile(**TRANSFORMER),
        guider=True,
    ),
    "MotifVideoPipeline": Try(motif("MotifVideoPipeline"), without_scale(**VIDEO), Profile(**TRANSFORMER), guider=True),
    "MotifVideoImage2VideoPipeline": Try(
        motif("MotifVideoImage2VideoPipeline"),
        without_scale(**VIDEO, image=pil(16)),
        Profile(**TRANSFORMER),
        guider=True,
    ),
}
"""Class -> how it was tried."""
