"""Sana: text, ControlNet, perturbed attention, video; Sana-Sprint reads the scale as an input."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, awake, calls, picture, pil, seeded
from tests.pipelines.families.parts_video import video_calls, wan_vae

NETWORK: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": parts.WIDTH,
    "sample_size": 8,
}


def vae() -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=[1, 1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def build(cls: str, *, beside: bool = False, sprint: bool = False, **more: Any) -> Any:
    """A builder of this class, with a ControlNet if `beside`."""

    @seeded
    def made() -> Any:
        special = {"guidance_embeds": True, "guidance_embeds_scale": 0.1} if sprint else {}
        transformer = diffusers.SanaTransformer2DModel(**NETWORK, **special)
        aside = {"controlnet": awake(diffusers.SanaControlNetModel(**NETWORK), 0.3)} if beside else {}
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "attn2.to_v", "attn2.to_out", "guidance_embedder", gain=6.0),
            scheduler=diffusers.SCMScheduler() if sprint else diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
            vae=vae(),
            text_encoder=parts.language("Gemma2"),
            tokenizer=parts.tokenizer(start=True),
            **aside,
            **more,
        )

    return made


def video(cls: str) -> Any:
    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(**video_parts())

    return made


def video_parts() -> dict[str, Any]:
    transformer = diffusers.SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=parts.WIDTH,
        sample_size=8,
        rope_max_seq_len=32,
    )
    return {
        "transformer": parts.loud(transformer, "attn2.to_v", "attn2.to_out", gain=6.0),
        "scheduler": parts.flow_scheduler(shift=7.0),
        "vae": wan_vae(),
        "text_encoder": parts.language("Gemma2"),
        "tokenizer": parts.tokenizer(start=True),
    }


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 32,
    "width": 32,
    "max_sequence_length": 24,
    "complex_human_instruction": None,
    "use_resolution_binning": False,
}
SUM = "cast to float32"
SPRINT: dict[str, Any] = {"off": None, "style": "embedded", "order": "other", "combine": "none"}

VIDEO = (
    Case(
        "SanaVideoPipeline",
        "sana",
        video("SanaVideoPipeline"),
        video_calls(**TEXT, frames=5),
        denoisers=("transformer",),
        before=SUM,
    ),
    Case(
        "SanaImageToVideoPipeline",
        "sana",
        video("SanaImageToVideoPipeline"),
        video_calls(**TEXT, frames=5, image=pil(32)),
        denoisers=("transformer",),
        before=SUM,
        after="the first frame (the image) is left out",
        exact=False,
        single=True,  # the image is not repeated
    ),
)

FAMILY = Family(
    "Sana",
    (
        *VIDEO,
        *(
            Case(cls, "sana", build(cls, **made), calls(**fixed), denoisers=("transformer",), **facts)
            for cls, made, fixed, facts in (
                ("SanaPipeline", {}, TEXT, {"before": SUM}),
                (
                    "SanaControlNetPipeline",
                    {"beside": True},
                    {**TEXT, "control_image": picture(32)},
                    {"before": SUM, "helpers": ("controlnet",)},
                ),
                (
                    "SanaPAGPipeline",
                    {"pag_applied_layers": ["transformer_blocks.1"]},
                    {**TEXT, "pag_scale": 2.0},
                    {"before": SUM, "style": "three parts", "combine": "three parts"},
                ),
                (
                    "SanaSprintPipeline",
                    {"sprint": True},
                    {**TEXT, "intermediate_timesteps": None, "negative": OMIT},
                    {"prediction": "v", **SPRINT},
                ),
                (
                    "SanaSprintImg2ImgPipeline",
                    {"sprint": True},
                    {
                        **TEXT,
                        "intermediate_timesteps": None,
                        "negative": OMIT,
                        "image": picture(32),
                        "strength": 0.7,
                    },
                    {"prediction": "v", **SPRINT},
                ),
            )
        ),
    ),
)
