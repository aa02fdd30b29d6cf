"""ACE-Step: music, (images, time, channels), guided by an APG of its own, every channel over time."""

from typing import Any

import diffusers
from diffusers.pipelines.ace_step import AceStepConditionEncoder

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@seeded
def build() -> Any:
    transformer = diffusers.AceStepTransformer1DModel(
        **SIZES, num_hidden_layers=2, in_channels=12, audio_acoustic_hidden_dim=4
    )
    return diffusers.AceStepPipeline(
        vae=parts.sound_vae(),
        text_encoder=parts.language("Qwen3"),
        tokenizer=parts.tokenizer(512),
        transformer=parts.loud(parts.awake(transformer), "cross_attn"),
        condition_encoder=AceStepConditionEncoder(
            **SIZES,
            text_hidden_dim=parts.WIDTH,
            timbre_hidden_dim=4,
            num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


FAMILY = Family(
    "ACE-Step",
    (
        Case(
            "AceStepPipeline",
            "ace_step",
            build,
            calls(prompt=PROMPT, lyrics="la", audio_duration=4.0, output_type="latent", max_text_length=512),
            denoisers=("transformer",),
            order="cond uncond",
            combine="other",
            transforms="apg(as_in=ace_step)",
            shares=False,
        ),
    ),
)
