"""Classes that guide() refuses and that make something else than an image from a text (text, the atoms of a protein),
or that make a given video larger, longer, or decode it."""

from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from torch import Tensor

from cfglab.pipelines import Profile
from cfglab.pipelines.profiles.table import TRANSFORMER
from tests.pipelines.families import ltx2, parts
from tests.pipelines.families.parts import PROMPT, picture, seeded
from tests.pipelines.refused_networks import ENCODED, SIZE, sampled
from tests.pipelines.refused_tries import Try, without_scale

ALONE = Profile(**TRANSFORMER, off=None)
"""For a pipeline with no scale."""


@seeded
def blocks_of_text() -> Any:
    """DiffusionGemma, which writes eight tokens at a time."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.DiffusionGemmaConfig(
        text_config={
            **heads,
            "global_head_dim": 8,
            "num_global_key_value_heads": 2,
            "vocab_size": parts.VOCABULARY,
            "hidden_size": parts.WIDTH,
            "intermediate_size": 37,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 64,
            "num_experts": 2,
            "top_k_experts": 1,
            "moe_intermediate_size": 16,
        },
        vision_config={**heads, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1, "patch_size": 8},
        canvas_length=8,
    )
    return diffusers.DiffusionGemmaPipeline(
        model=transformers.DiffusionGemmaForBlockDiffusion(config),
        scheduler=diffusers.BlockRefinementScheduler(),
        processor=parts.tokenizer(),
    )


@seeded
def atoms() -> Any:
    """RFD4-Proteina, which denoises the backbone of a protein and a latent of every residue side by side."""
    residues, token_types, slots = 147, 7, 37
    shared = {"latent_dim": 4, "token_dim": 16, "nheads": 2, "pair_repr_dim": 8, "token_type_emb_dim": 4}
    transformer = diffusers.RFD4ProteinaTransformer(
        **shared,
        nlayers=2,
        dim_cond=16,
        cath_emb_dim=4,
        t_emb_dim=8,
        xt_pair_dist_dim=8,
        tri_mult_c=8,
        feats_seq=("xt_bb_ca", "xt_local_latents", "token_type"),
        feats_pair_repr=("xt_bb_ca_pair_dists", "molecule_idx_pair"),
    )
    vae = diffusers.RFD4ProteinaAutoencoder(
        **shared,
        nlayers=1,
        dim_cond=8,
        atom37_mask=[[True] * slots] * residues,
        allowed_residue_types=[[True] * residues] * token_types,
    )
    sampler = {"tsr_k": 2.0, "tsr_sigma": 1.0, "tail_steps": 0}
    return diffusers.RFD4ProteinaPipeline(
        transformer=transformer,
        vae=vae,
        bb_ca_scheduler=diffusers.RFD4ProteinaScheduler(schedule_mode="log", noise_mode="1/t", **sampler),
        local_latents_scheduler=diffusers.RFD4ProteinaScheduler(schedule_mode="power", noise_mode="tan", **sampler),
        recycle_depths=[1, 1, 1],
    )


@seeded
def larger_video() -> Any:
    """Kandinsky 6's super-resolution, whose sparse attention runs as it is on tiles of 8x8 tokens."""
    transformer = diffusers.Kandinsky6SRTransformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        time_dim=16,
        model_dim=16,
        ff_dim=16,
        num_visual_blocks=1,
        axes_dims=(4, 6, 6),
        nabla_window=(1, 1, 1),
        tile_sizes=((32, 32),),
    )
    vae = diffusers.Kandinsky6SRVAE(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=1,
        temporal_compression_start_level=0,
    )
    return diffusers.Kandinsky6SRPipeline(transformer=transformer, vae=vae, scheduler=parts.flow_scheduler())


@seeded
def longer_video() -> Any:
    """LTX-2 DFR's refinement, which doubles the frames of a video and denoises them in two tiles."""
    whole = ltx2.components()
    whole["transformer"] = diffusers.LTX2VideoTransformer3DModel.from_config(
        whole["transformer"].config, use_keyframes_abs_pos_embedding=True
    )
    whole["scheduler"] = diffusers.LTXEulerAncestralRFScheduler(eta=0.5)
    upsampler = LTX2LatentUpsamplerModel(
        in_channels=4, mid_channels=32, num_blocks_per_stage=1, spatial_upsample=False, temporal_upsample=True
    )
    return diffusers.LTX2DFRTemporalRefinePipeline(**whole, temporal_latent_upsampler=upsampler)


@seeded
def decoded_video() -> Any:
    """LTX-2's diffusion decoder, with three steps of its own; its windows of attention run as they are."""
    decoder = diffusers.LTX2VideoDiffusionDecoderModel(
        latent_channels=4,
        decoder_head_dim=8,
        decoder_stage_channels=(16, 16, 16, 16, 8),
        decoder_stage_depths=(1, 1, 1, 1, 1),
        decoder_stage_kernels=((3, 3, 3),) * 4,
        decoder_upsample_strides=((1, 1, 1), (1, 1, 1), (2, 1, 1), (1, 2, 2)),
        decoder_upsample_channel_reductions=(1, 1, 1, 2),
        decoder_stage5_kernel=(3, 3, 3),
        decoder_t_emb_dim=16,
        decoder_num_inference_steps=3,
        temporal_compression_ratio=2,
        spatial_compression_ratio=8,
    )
    return diffusers.LTX2VideoDiffusionDecodePipeline(diffusion_decoder=decoder, scheduler=parts.flow_scheduler())


def noise(*shape: int) -> Tensor:
    """Latents of a video or of a sound."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


TOKENS = torch.ones(1, 6).bool()
"""Six tokens of a protein, all of them to be made."""

MEDIA: dict[str, Try] = {
    "DiffusionGemmaPipeline": Try(
        blocks_of_text,
        without_scale(prompt=PROMPT, gen_length=8, confidence_threshold=None, output_type="seq"),
        Profile(denoisers=("model",), off=None),
    ),
    "Kandinsky6SRPipeline": Try(
        larger_video,
        without_scale(video=picture(16).repeat(5, 1, 1, 1), resolution_scale=2, output_type="pt"),
        ALONE,
    ),
    "LTX2DFRTemporalRefinePipeline": Try(
        longer_video,
        sampled(
            **ENCODED,
            **SIZE,
            latents=noise(1, 4, 5, 4, 4),
            keyframes_latents=noise(1, 4, 2, 4, 4),
            keyframe_positions=[4, 8],
            audio_latents=noise(1, 2, 9, 2),
            num_frames=9,
            sigmas=[1.0, 0.7, 0.3],
        ),
        ALONE,
    ),
    "LTX2VideoDiffusionDecodePipeline": Try(
        decoded_video,
        sampled(latents=noise(1, 4, 3, 4, 4), output_type="pt"),
        Profile(denoisers=("diffusion_decoder",), off=None),
    ),
    "RFD4ProteinaPipeline": Try(
        atoms,
        sampled(
            padding_mask=TOKENS,
            is_in_context_conditioning=~TOKENS,
            supports_local_latent=TOKENS,
            token_type=torch.zeros_like(TOKENS, dtype=torch.long),
            conditioning_features={
                "condition_sequence_1_residue": torch.zeros_like(TOKENS, dtype=torch.long),
                "molecule_iid": torch.zeros_like(TOKENS, dtype=torch.long),
            },
        ),
        ALONE,
    ),
}
"""Class -> how it was tried."""
