"""Cosmos: both predictions are made x0, or given the known frames, before they are combined as c + g (c - u).

Cosmos 3 combines as u + g (c - u), and its network reads one sequence of text and video."""

from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.models.controlnets import controlnet_cosmos
from torch import Tensor, nn

from tests.pipelines.families import Case, Family, parts, parts_video, qwenimage
from tests.pipelines.families.parts import PROMPT, pil, seeded
from tests.pipelines.families.parts_video import video_calls, wan_vae

CALL: dict[str, Any] = {
    "prompt": PROMPT,
    "negative": "grey",
    "output_type": "latent",
    "height": 32,
    "width": 32,
    "max_sequence_length": 16,
}
VIDEO = {**CALL, "num_frames": 5}


class Unchecked(nn.Module):
    """In place of the guardrail, which has weights of its own."""

    dtype, device = torch.float32, torch.device("cpu")

    def check_text_safety(self, _prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def transformer(channels: int = 16, width: int = parts.WIDTH, **more: Any) -> Any:
    """A network that reads `channels` and predicts those of the latents."""
    made = diffusers.CosmosTransformer3DModel(
        in_channels=channels,
        out_channels=channels // 4 * 4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=1,
        text_embed_dim=width,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
        **more,
    )
    return parts.loud(made, "attn2", gain=6.0)


def first(cls: str, channels: int) -> Any:
    """A builder of a pipeline of the first version: EDM's preconditioning."""

    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(
            **parts_video.text(),
            transformer=transformer(channels),
            vae=diffusers.AutoencoderKLCosmos(
                in_channels=3,
                out_channels=3,
                latent_channels=4,
                encoder_block_out_channels=(8, 8, 8, 8),
                decode_block_out_channels=(8, 8, 8, 8),
                attention_resolutions=(8,),
                resolution=64,
                num_layers=1,
                patch_size=4,
                patch_type="haar",
                scaling_factor=1.0,
                spatial_compression_ratio=4,
                temporal_compression_ratio=4,
            ),
            scheduler=diffusers.EDMEulerScheduler(
                sigma_max=80, sigma_data=0.5, prediction_type="epsilon", final_sigmas_type="sigma_min"
            ),
            safety_checker=Unchecked(),
        )

    return made


def second(cls: str, channels: int) -> Any:
    """A builder of a pipeline of the second version: a flow network in a sampler that counts noise over signal."""

    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(
            **parts_video.text(),
            transformer=transformer(channels),
            vae=wan_vae(),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
            safety_checker=Unchecked(),
        )

    return made


@seeded
def predict() -> Any:
    return diffusers.Cosmos2_5_PredictBasePipeline(
        text_encoder=qwenimage.text_encoder(),
        tokenizer=parts.tokenizer(512),
        transformer=transformer(17, 2 * parts.WIDTH),
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        safety_checker=Unchecked(),
    )


def resized(mask: Tensor, size: list[int], **_: Any) -> Tensor:
    """In place of torchvision's function, which the ControlNet makes its mask smaller with."""
    return nn.functional.interpolate(mask, size)


@seeded
def transfer() -> Any:
    """Version 2.5 with a ControlNet, which makes a long video chunk by chunk."""
    controlnet_cosmos.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resized), InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )
    width = 2 * parts.WIDTH
    controlnet = diffusers.CosmosControlNetModel(
        n_controlnet_blocks=1,
        in_channels=18,
        latent_channels=18,
        model_channels=32,
        num_attention_heads=2,
        attention_head_dim=16,
        mlp_ratio=1,
        text_embed_dim=width,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
    )
    others = predict().components
    others["transformer"] = transformer(17, width, controlnet_block_every_n=1)
    return diffusers.Cosmos2_5_TransferPipeline(**others, controlnet=parts.awake(controlnet, 0.3))


@seeded
def omni() -> Any:
    """Cosmos 3, whose network can make sound and actions beside the video."""
    transformer = diffusers.Cosmos3OmniTransformer(
        head_dim=8,
        hidden_size=parts.WIDTH,
        intermediate_size=37,
        latent_channel=16,
        patch_latent_dim=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        rope_axes_dim=(2, 1, 1),
        vocab_size=parts.VOCABULARY,
        action_dim=2,
        action_gen=True,
    )
    return diffusers.Cosmos3OmniPipeline(
        transformer=parts.loud(transformer, "embed_tokens"),
        text_tokenizer=parts.tokenizer(512),
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        enable_safety_checker=False,
        default_use_system_prompt=False,
    )


def case(cls: str, build: Any, call: Any, **more: Any) -> Case:
    return Case(
        cls,
        "cosmos",
        build,
        call,
        **{
            "offset": 1.0,
            "denoisers": ("transformer",),
            "style": "two calls",
            "order": "cond uncond",
            "combine": "c + g (c - u)",
            "before": "made x0 or given the known frames",
            "exact": False,
            **more,
        },
    )


def third(variant: str = "", **more: Any) -> Case:
    """Cosmos 3 from a text, and from what else `more` gives it."""
    call = {name: value for name, value in VIDEO.items() if name != "max_sequence_length"}
    return case(
        "Cosmos3OmniPipeline",
        omni,
        parts.calls(**{**call, **more}),
        offset=0.0,
        combine="u + g (c - u)",
        before="converted to float32, given zeros at the known frames",
        exact=True,
        variant=variant,
    )


TRANSFER = case(
    "Cosmos2_5_TransferPipeline",
    transfer,
    video_calls(**{**CALL, "max_sequence_length": 320}, controls=[pil(32)] * 9, num_frames=9, num_frames_per_chunk=5),
    helpers=("controlnet",),
    runs=2,
    single=True,
)
"""Not among the cases, whose tests it is too slow for: tests/pipelines/test_cosmos_transfer.py runs it."""

FAMILY = Family(
    "Cosmos",
    (
        case("CosmosTextToWorldPipeline", first("CosmosTextToWorldPipeline", 4), video_calls(**VIDEO), converts=True),
        case(
            "CosmosVideoToWorldPipeline",
            first("CosmosVideoToWorldPipeline", 5),
            video_calls(**VIDEO, image=pil(32)),
            converts=True,
        ),
        case("Cosmos2TextToImagePipeline", second("Cosmos2TextToImagePipeline", 16), parts.calls(**CALL)),
        case(
            "Cosmos2VideoToWorldPipeline",
            second("Cosmos2VideoToWorldPipeline", 17),
            video_calls(**VIDEO, image=pil(32)),
        ),
        case(
            "Cosmos2_5_PredictBasePipeline",
            predict,
            video_calls(**{**VIDEO, "max_sequence_length": 320}, video=[pil(32)] * 5, num_latent_conditional_frames=1),
        ),
        third(),
        third("one frame", num_frames=1),
        third("image", image=pil(32)),
        third("video", video=[pil(32)] * 5, condition_frame_indexes_vision=(0,)),
    ),
)
