"""DreamLite: text to an image, or an edit of one that lies beside the latents, in the right half of the width."""

from collections.abc import Callable
from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, krea2, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded
from tests.pipelines.families.qwenimage_edit import Sight


class Sharp(Sight):
    """Qwen 3's processor, whose patches are larger."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = transformers.Qwen2VLImageProcessorPil(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        read = super().__call__(*arguments, **named)
        return transformers.BatchFeature({**read, "mm_token_type_ids": (read["input_ids"] == parts.IMAGE_TOKEN).int()})


def build(cls: str) -> Callable[[], Any]:
    """A builder of this class."""

    @seeded
    def made() -> Any:
        unet = diffusers.DreamLiteUNetModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
            up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
            cross_attention_dim=parts.WIDTH,
            attention_head_dim=2,
            norm_num_groups=8,
            encoder_hid_dim=parts.WIDTH,
            encoder_hid_dim_type="text_proj_rms",
            addition_embed_type="time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16,
        )
        vae = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
        text_encoder = krea2.text_encoder()
        text_encoder.config.image_token_id = parts.IMAGE_TOKEN
        pipe = getattr(diffusers, cls)(
            text_encoder=text_encoder,
            tokenizer=parts.tokenizer(512),
            processor=Sharp(),
            vae=vae,
            unet=parts.loud(unet, "attn2"),
            scheduler=parts.flow_scheduler(),
        )
        pipe.prompt_template_encode_generate, pipe.prompt_template_encode_generate_start_idx = "{}</s>", 0
        pipe.prompt_template_encode_edit_start_idx = 0
        return pipe

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "negative": "grey", "height": 16, "width": 16, "output_type": "latent"}

FAMILY = Family(
    "DreamLite",
    (
        Case(
            "DreamLitePipeline",
            "dreamlite",
            build("DreamLitePipeline"),
            calls(**TEXT),
            off=None,
            variance="discarded",
            before="keeps the left half of u and c (the right half is the image to be edited)",
            exact=False,
            single=True,  # the size is not repeated
        ),
        Case(
            "DreamLitePipeline",
            "dreamlite",
            build("DreamLitePipeline"),
            calls(**TEXT, image=pil(16), image_guidance_scale=1.5),
            off=None,
            style="three parts",
            order="other",
            combine="three parts",
            variance="discarded",
            before="keeps the left half of each part (the right half is the image to be edited)",
            exact=False,
            single=True,
            variant="edit",
        ),
    ),
)
