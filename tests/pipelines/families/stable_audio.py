"""Stable Audio Open: sound, in an EDM parametrisation whose sampler draws its noise with torchsde."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
from tests.pipelines.families.parts_video import video_calls


@seeded
def text() -> Any:
    transformer = diffusers.StableAudioDiTModel(
        sample_size=8,
        in_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_key_value_attention_heads=1,
        num_attention_heads=2,
        out_channels=4,
        cross_attention_dim=16,
        time_proj_dim=8,
        global_states_input_dim=64,
        cross_attention_input_dim=parts.WIDTH,
    )
    return diffusers.StableAudioPipeline(
        **parts_video.text(),
        transformer=parts.loud(transformer, "attn2", "cross_attention_proj"),
        vae=parts.sound_vae(),
        projection_model=diffusers.StableAudioProjectionModel(
            text_encoder_dim=parts.WIDTH, conditioning_dim=parts.WIDTH, min_value=0, max_value=32
        ),
        scheduler=diffusers.CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    )


FAMILY = Family(
    "Stable Audio",
    (
        Case(
            "StableAudioPipeline",
            "stable_audio",
            text,
            video_calls(
                "num_waveforms_per_prompt",
                prompt=PROMPT,
                negative="grey",
                output_type="latent",
                audio_end_in_s=2.0,
            ),
            denoisers=("transformer",),
            prediction="v",
            requires="torchsde",
        ),
    ),
)
