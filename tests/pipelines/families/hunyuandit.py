"""HunyuanDiT: v prediction, and variance channels that are dropped before the combine."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, calls, picture, seeded

NETWORK: dict[str, Any] = {
    "sample_size": 8,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "in_channels": 4,
    "cross_attention_dim": parts.WIDTH,
    "cross_attention_dim_t5": parts.WIDTH,
    "pooled_projection_dim": 16,
    "hidden_size": 32,
    "activation_fn": "gelu-approximate",
}


def bert() -> Any:
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=parts.VOCABULARY,
            hidden_size=parts.WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
            max_position_embeddings=128,
        )
    )


def build(cls: str, *, beside: bool = False, **more: Any) -> Any:
    """A builder of this class, with a ControlNet if `beside`."""

    @seeded
    def made() -> Any:
        transformer = diffusers.HunyuanDiT2DModel(**NETWORK, num_layers=4)
        aside = {}
        if beside:
            network = diffusers.HunyuanDiT2DControlNetModel(
                **NETWORK, transformer_num_layers=4, conditioning_channels=3
            )
            aside = {"controlnet": awake(network, 0.2)}
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "attn2.to_v", "attn2.to_out", "text_embedder", gain=4.0),
            scheduler=diffusers.DDPMScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.02,
                prediction_type="v_prediction",
                clip_sample=False,
            ),
            vae=parts.vae(),
            text_encoder=bert(),
            tokenizer=parts.tokenizer(77),
            text_encoder_2=parts.t5(),
            tokenizer_2=parts.tokenizer(256, end=True),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **aside,
            **more,
        )

    return made


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "use_resolution_binning": False,
}
FACTS: dict[str, Any] = {
    "denoisers": ("transformer",),
    "prediction": "v",
    "variance": "discarded",
    "before": "drops the variance channels",
    "after": "guidance_rescale",
}

FAMILY = Family(
    "HunyuanDiT",
    (
        Case("HunyuanDiTPipeline", "hunyuandit", build("HunyuanDiTPipeline"), calls(**TEXT), **FACTS),
        Case(
            "HunyuanDiTControlNetPipeline",
            "hunyuandit",
            build("HunyuanDiTControlNetPipeline", beside=True),
            calls(**TEXT, control_image=picture()),
            **FACTS,
            helpers=("controlnet",),
        ),
        Case(
            "HunyuanDiTPAGPipeline",
            "hunyuandit",
            build("HunyuanDiTPAGPipeline", pag_applied_layers=["blocks.1"]),
            calls(**TEXT, pag_scale=2.0),
            **FACTS,
            style="three parts",
            combine="three parts",
        ),
    ),
)
