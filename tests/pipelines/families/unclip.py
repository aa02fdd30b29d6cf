"""Shap-E, whose prior denoises the weights of a radiance field, and Stable unCLIP, whose UNet follows a prior."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, sd
from tests.pipelines.families.parts import OMIT, PROMPT, calls, pil, seeded


def prior(**more: Any) -> Any:
    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1}
    network = diffusers.PriorTransformer(**{**sizes, "embedding_dim": parts.WIDTH, **more})
    return parts.loud(network, "encoder_hidden_states_proj", "embedding_proj", gain=3.0)


def shape(cls: str, **reader: Any) -> Any:
    """A builder of this class of Shap-E, whose condition `reader` reads."""

    @seeded
    def built() -> Any:
        from diffusers.pipelines.shap_e import ShapERenderer

        network = prior(
            num_embeddings=24,
            embedding_proj_dim=parts.WIDTH,
            time_embed_dim=4 * parts.WIDTH,
            clip_embed_dim=2 * parts.WIDTH,
            additional_embeddings=0,
            time_embed_act_fn="gelu",
            norm_in_type="layer",
            embedding_proj_norm_type=None if "text_encoder" in reader else "layer",
            encoder_hid_proj_type=None,
            added_emb_type=None,
        )
        return getattr(diffusers, cls)(
            prior=network,
            scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type="sample"),
            shap_e_renderer=ShapERenderer(
                param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=parts.WIDTH, d_hidden=8, n_output=12
            ),
            **{name: make() for name, make in reader.items()},
        )

    return built


def noised() -> dict[str, Any]:
    """What reads an image's encoding, and how noise is added to it."""
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    return {
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=parts.WIDTH),
        "image_noising_scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        **sd.components(class_embed_type="projection", projection_class_embeddings_input_dim=2 * parts.WIDTH),
    }


@seeded
def image_after_image() -> Any:
    return diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=parts.clip_pictures(), image_encoder=parts.clip_vision(), **noised()
    )


@seeded
def image_after_prior() -> Any:
    return diffusers.StableUnCLIPPipeline(
        prior_tokenizer=parts.clip_tokenizer(),
        prior_text_encoder=parts.clip_text(projection=parts.WIDTH),
        prior=prior(),
        prior_scheduler=diffusers.DDPMScheduler(
            variance_type="fixed_small_log", prediction_type="sample", beta_schedule="squaredcos_cap_v2"
        ),
        **noised(),
    )


FIELD: dict[str, Any] = {"output_type": "latent", "frame_size": 16, "negative": OMIT}
SHAPE: dict[str, Any] = {"denoisers": ("prior",), "prediction": "sample", "variance": "discarded"}

FAMILY = Family(
    "unCLIP",
    (
        Case(
            "ShapEPipeline",
            "shap_e",
            shape(
                "ShapEPipeline",
                text_encoder=lambda: parts.clip_text(projection=parts.WIDTH),
                tokenizer=parts.clip_tokenizer,
            ),
            calls(**FIELD, prompt=PROMPT),
            **SHAPE,
        ),
        Case(
            "ShapEImg2ImgPipeline",
            "shap_e",
            shape(
                "ShapEImg2ImgPipeline",
                image_encoder=parts.clip_vision,
                image_processor=parts.clip_pictures,
            ),
            calls(**FIELD, image=pil(32)),
            **SHAPE,
        ),
        Case(
            "StableUnCLIPPipeline",
            "stable_unclip",
            image_after_prior,
            calls(prompt=PROMPT, output_type="latent", height=16, width=16, prior_num_inference_steps=2),
            prediction="epsilon",
        ),
        Case(
            "StableUnCLIPImg2ImgPipeline",
            "stable_unclip",
            image_after_image,
            calls(prompt=PROMPT, image=pil(32), output_type="latent", height=16, width=16),
            prediction="epsilon",
        ),
    ),
)
