"""Stable Audio 3: sound as channels over time, unguided (and so distilled) unless a scale above 1 is asked for."""

from typing import Any

import diffusers
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, seeded
from tests.pipelines.families.parts_video import video_calls


@seeded
def text() -> Any:
    transformer = diffusers.StableAudio3DiTModel(
        io_channels=8,
        embed_dim=32,
        depth=1,
        num_heads=4,
        cond_token_dim=parts.WIDTH,
        global_cond_dim=parts.WIDTH,
        local_add_cond_dim=5,
        timestep_features_dim=16,
        ff_mult=2,
        num_memory_tokens=3,
        use_differential_attention=False,
    )
    return diffusers.StableAudio3Pipeline(
        transformer=awake(parts.loud(transformer, "cross", "cond", gain=3.0), 0.2),
        vae=diffusers.AutoencoderSAME(
            audio_channels=2,
            patch_size=2,
            encoder_channels=8,
            encoder_c_mults=(2,),
            encoder_strides=(2,),
            encoder_transformer_depths=(1,),
            latent_dim=8,
            use_differential_attention=False,
            dim_heads=4,
            ff_mult=2,
            sampling_rate=16,
        ),
        text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(end=True),
        duration_embedder=StableAudio3DurationEmbedder(output_dim=parts.WIDTH, fourier_dim=16),
        scheduler=parts.flow_scheduler(num_train_timesteps=1, shift=1.0),
    )


FAMILY = Family(
    "Stable Audio 3",
    (
        Case(
            "StableAudio3Pipeline",
            "stable_audio_3",
            text,
            video_calls("num_waveforms_per_prompt", prompt=PROMPT, negative="grey", output_type="latent", duration=2.0),
            denoisers=("transformer",),
        ),
    ),
)
