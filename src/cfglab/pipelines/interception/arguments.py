"""What the arguments of diffusers' denoisers are: which hold rows, which hold none, by name and not by length.

A length proves nothing: two region weights, two layers of a control network and the axis of a small image are as long
as a batch of one image with and without its prompt.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor

TIMES = ("timestep", "timesteps", "t", "r", "timestep_ratio", "vision_timesteps")

FURTHER = ("skip_layers", "spatio_temporal_guidance_blocks", "isolate_modalities")
"""Arguments with which pipelines make a further pass of their own: of Stable Diffusion 3 and of LTX-2."""

CACHES = ("kv_cache", "kv_caches")
"""Objects that a call fills and later calls read: a perturbed pass is given a copy."""

ROWS = frozenset(
    (
        *TIMES,
        *("timestep_r", "r_timestep", "sigma", "audio_timestep", "audio_sigma"),
        # text
        *("encoder_hidden_states", "encoder_hidden_states_1", "encoder_hidden_states_2", "encoder_hidden_states_t5"),
        *("encoder_hidden_states_llama3", "encoder_hidden_states_image", "pooled_projections", "pooled_embeds"),
        *("text_encoder_layers", "text_embeds", "cap_feats", "siglip_feats", "global_hidden_states", "clip_text"),
        *("clip_text_pooled", "clip_img", "clip", "c", "proj_embedding", "class_labels", "text_bth", "text_lens"),
        *("input_ids", "prior_token_id", "prior_token_drop", "audio_encoder_hidden_states", "pooled_text_emb"),
        # masks
        *("attention_mask", "encoder_attention_mask", "encoder_attention_mask_1", "encoder_attention_mask_2"),
        *("encoder_hidden_states_mask", "encoder_mask", "text_embedding_mask", "text_embedding_mask_t5"),
        *("hidden_states_masks", "padding_mask", "conditioning_mask", "image_noise_mask", "condition_mask", "img_mask"),
        *("audio_encoder_attention_mask", "video_self_attention_mask", "video_keyframes_mask", "perturbation_mask"),
        # sizes, conditions, images beside the sample
        *("timestep_cond", "added_time_ids", "guidance", "additional_t_cond", "image_meta_size", "style", "fps"),
        *("micro_conds",),
        *("original_size", "target_size", "crop_coords", "image_embeds", "image_embeddings", "image_latents"),
        *("effnet", "x_cat", "sca", "crp", "pixels", "video_coords", "inpaint_latents", "control_latents", "id_cond"),
        *("id_vit_hidden", "pose_hidden_states", "face_pixel_values", "position_ids", "segment_ids", "indicator"),
        *("context_latents", "latent_cond", "local_add_cond", "audio_hidden_states", "audio_coords", "latents_clean"),
        *("latents_history_2x", "latents_history_4x", "latents_history_short", "latents_history_mid"),
        *("latents_history_long", "control_context"),
        # control networks
        *(
            "latents",  # beside those of the control
            "controlnet_cond",
            "controlnet_mode",
            "control_type",
            "control_hidden_states",
            "mid_block_additional_residual",
        ),
        *("down_block_additional_residuals", "down_intrablock_additional_residuals", "controlnet_block_samples"),
        *("controlnet_single_block_samples", "block_controlnet_hidden_states"),
    )
)
"""Arguments whose tensors hold rows on their first dimension where that is as long as the batch; shorter ones are the
same for every row."""

WHOLE = frozenset(
    (
        *("image_rotary_emb", "rotary_embedding", "img_ids", "txt_ids", "visual_rope_pos", "text_rope_pos"),
        *("rope_interpolation_scale", "scale_factor", "img_shapes", "img_sizes", "sparse_params", "ofs"),
        *("control_type_idx", "conditioning_scale", "control_hidden_states_scale", "skip_layers"),
        *("indices_latents", "indices_latents_clean", "indices_latents_history_2x", "indices_latents_history_4x"),
        *("indices_hidden_states", "indices_latents_history_short", "indices_latents_history_mid"),
        *("indices_latents_history_long", "visual_token_type_ids", "spatio_temporal_guidance_blocks"),
    )
)
"""Arguments that hold no rows in any model of diffusers, whatever their length."""

IN_GLIGEN: Mapping[str, Any] = dict.fromkeys(
    (
        *("boxes", "masks", "positive_embeddings", "objs", "phrases_masks", "image_masks"),
        *("phrases_embeddings", "image_embeddings"),
    ),
    True,
)
IN_ATTENTION: Mapping[str, Any] = {
    "attention_mask": True,
    "ip_adapter_image_embeds": True,
    "ip_hidden_states": True,
    "ip_adapter_masks": False,
    "gligen": IN_GLIGEN,
}
IN_CONDITIONS: Mapping[str, Any] = dict.fromkeys(
    ("text_embeds", "time_ids", "image_embeds", "hint", "image", "resolution", "aspect_ratio"), True
)
INSIDE: Mapping[str, Mapping[str, Any]] = {
    "cross_attention_kwargs": IN_ATTENTION,
    "joint_attention_kwargs": IN_ATTENTION,
    "attention_kwargs": IN_ATTENTION,
    "added_cond_kwargs": IN_CONDITIONS,
}
"""Dicts of further arguments, and which of their keys hold rows (True) or none (False). What else stands in them is
an attention processor's own business."""

_PLAIN = (bool, int, float, complex, str, bytes, Enum, torch.dtype, torch.device, type(None))


def kind_of(name: str) -> Any:
    """Whether an argument of a denoiser holds rows.

    Args:
        name: The name of the argument.

    Returns:
        True, False, a mapping of such values for a dict, or None if it is not known.
    """
    return True if name in ROWS else False if name in WHOLE else INSIDE.get(name)


def unknown_arguments(
    name: str, value: Any, kind: Any, rows: tuple[str, ...], rowless: tuple[str, ...]
) -> Iterator[str]:
    """The names in an argument whose values could hold rows although it is not known.

    Args:
        name: The name of the argument.
        value: Its value.
        kind: As `kind_of` returns it.
        rows: Names that a profile states to hold rows.
        rowless: Names that a profile states to hold none.

    Returns:
        The names.
    """
    if name in rows or name in rowless or kind is True or kind is False or isinstance(value, _PLAIN):
        return
    if isinstance(value, Mapping):
        kinds = kind if isinstance(kind, Mapping) else {}
        for key, item in value.items():
            yield from unknown_arguments(str(key), item, kinds.get(key), rows, rowless)
    elif isinstance(value, Tensor):
        if value.ndim > 0:
            yield name
    elif not (isinstance(value, list | tuple) and not value):
        yield name
