"""Ideogram 4: the unconditional prediction comes from another network; `g c + (1 - g) u`, then the sign is flipped."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, flux2, krea2, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded

LAYERS = 36  # the pipeline listens to thirteen of them, the last the thirty-sixth


def transformer() -> Any:
    return diffusers.Ideogram4Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=32,
        adaln_dim=16,
        llm_features_dim=13 * parts.WIDTH,
        mrope_section=(4, 2, 2),
    )


@seeded
def build() -> Any:
    return diffusers.Ideogram4Pipeline(
        **flux2.components(),
        text_encoder=krea2.text_encoder(LAYERS),
        tokenizer=parts.tokenizer(chat="{{ messages[0]['content'][0]['text'] }}"),
        transformer=transformer(),
        unconditional_transformer=transformer(),
    )


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "max_sequence_length": 24,
    "guidance_schedule": None,
}

FAMILY = Family(
    "Ideogram 4",
    (
        Case(
            "Ideogram4Pipeline",
            "ideogram4",
            build,
            calls(**TEXT),
            denoisers=("transformer", "unconditional_transformer"),
            style="two calls",
            order="cond uncond",
            combine="other",
            before="keeps the last tokens of c (the first are text); cast to float32",
            after="the sign is flipped",
        ),
    ),
)
