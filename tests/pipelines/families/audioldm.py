"""AudioLDM 1 and 2 and MusicLDM: sound as spectrograms, (images, channels, time, bands)."""

from typing import Any

import diffusers
import transformers
from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import BLOCKS, seeded, told
from tests.pipelines.families.parts_video import video_calls

WIDTH = 16
BANDS = 8


def components(unet: Any) -> dict[str, Any]:
    """What all three have."""
    return {
        "vae": parts.vae(picture_channels=1),
        "unet": unet,
        "scheduler": parts.sd_scheduler(),
        "tokenizer": None,
        "vocoder": transformers.SpeechT5HifiGan(
            transformers.SpeechT5HifiGanConfig(
                model_in_dim=BANDS,
                sampling_rate=16000,
                upsample_initial_channel=8,
                upsample_rates=[2, 2],
                upsample_kernel_sizes=[4, 4],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1]],
            )
        ),
    }


def clap() -> Any:
    """CLAP's text encoder."""
    return transformers.ClapTextModelWithProjection(
        transformers.ClapTextConfig(
            vocab_size=64,
            hidden_size=WIDTH,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            projection_dim=WIDTH,
        )
    )


def class_unet() -> Any:
    """A UNet that is told the text as a class."""
    return parts.loud(
        diffusers.UNet2DConditionModel(
            **{**BLOCKS, "cross_attention_dim": BLOCKS["block_out_channels"]},
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=WIDTH,
            class_embeddings_concat=True,
        ),
        "class_embedding",
        gain=20.0,
    )


@seeded
def first() -> Any:
    return diffusers.AudioLDMPipeline(**components(class_unet()), text_encoder=clap())


@seeded
def music() -> Any:
    return diffusers.MusicLDMPipeline(**components(class_unet()), text_encoder=clap(), feature_extractor=None)


@seeded
def second() -> Any:
    unet = AudioLDM2UNet2DConditionModel(**{**BLOCKS, "cross_attention_dim": [[None, WIDTH, parts.WIDTH]] * 2})
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=WIDTH, n_head=2, n_layer=1, vocab_size=8, n_positions=16, bos_token_id=0, eos_token_id=1
        )
    )
    return diffusers.AudioLDM2Pipeline(
        **components(parts.loud(unet, "attn2")),
        text_encoder=None,
        text_encoder_2=parts.t5(),
        projection_model=AudioLDM2ProjectionModel(WIDTH, parts.WIDTH, WIDTH),
        language_model=gpt2,
        tokenizer_2=None,
        feature_extractor=None,
    )


GENERATED = {name.replace("prompt", "generated_prompt"): value for name, value in told(WIDTH).items()}
LENGTH: dict[str, Any] = {"audio_length_in_s": 16 * 4 / 16000, "output_type": "latent"}
"""16 columns of a spectrogram, of 4 samples each."""
CLASS = {name: value[:, 0] for name, value in told(WIDTH).items()}


def case(cls: str, build: Any, **told_as: Any) -> Case:
    """The case of one class."""
    return Case(
        cls,
        "audioldm2" if "2" in cls else "audioldm",
        build,
        video_calls("num_waveforms_per_prompt", **told_as, **LENGTH),
        prediction="epsilon",
    )


FAMILY = Family(
    "AudioLDM",
    (
        case("AudioLDMPipeline", first, **CLASS),
        case("MusicLDMPipeline", music, **CLASS),
        case("AudioLDM2Pipeline", second, **told(), **GENERATED),
    ),
)
