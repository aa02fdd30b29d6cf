"""Profiles of pipeline classes that the tests do not run: read from diffusers' source, and checked against the tensors
at the first call as all are."""

from typing import Any

RESCALED: dict[str, Any] = {"post_combine": "rescale", "fixed": (("guidance_rescale", 0.0),)}
TRANSFORMER: dict[str, Any] = {"denoisers": ("transformer",)}
TWO: dict[str, Any] = {**TRANSFORMER, "layout": "two calls", "parts": ("cond", "uncond")}
TRUE: dict[str, Any] = {**TWO, "scale": "true_cfg_scale", "negatives": ("negative_prompt", "negative_prompt_embeds")}
EMBEDDED: dict[str, Any] = {**TRANSFORMER, "layout": "embedded", "embedded": "guidance", "off": None}
COGVIDEO: dict[str, Any] = {
    **TRANSFORMER,
    "wide": True,
    "refused": (("use_dynamic_cfg", False, "a schedule of the scale"),),
}
EXPERTS: dict[str, Any] = {
    **TWO,
    "denoisers": ("transformer", "transformer_2"),
    "refused": (("guidance_scale_2", None, "a schedule over both experts, such as constant(4).then(3, at=0.5)"),),
}
TOKENS: dict[str, Any] = {**TRANSFORMER, "space": "logits"}
AMUSED: dict[str, Any] = {**TOKENS, "rows": ("micro_conds", "pooled_text_emb")}

UNVERIFIED: dict[str, dict[str, Any]] = {
    "ConsisIDPipeline": COGVIDEO,
    "EasyAnimateControlPipeline": {**TRANSFORMER, **RESCALED},
}
