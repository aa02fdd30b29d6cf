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
FRAMES: dict[str, Any] = {"blocks": ("encoder_hidden_states",)}

TOKENS: dict[str, Any] = {**TRANSFORMER, "space": "logits"}
AMUSED: dict[str, Any] = {**TOKENS, "rows": ("micro_conds", "pooled_text_emb")}

UNVERIFIED: dict[str, dict[str, Any]] = {
    # -- Stable Diffusion and SDXL -------------------------------------------------------------------------------------
    "AltDiffusionImg2ImgPipeline StableDiffusionInpaintPipelineLegacy StableDiffusionModelEditingPipeline "
    "StableDiffusionControlNetXSPipeline StableDiffusionXLControlNetXSPipeline PaintByExamplePipeline "
    "StableUnCLIPImg2ImgPipeline BlipDiffusionPipeline": {},
    "BlipDiffusionControlNetPipeline": {"helpers": ("controlnet",)},
    "AltDiffusionPipeline StableDiffusionLDM3DPipeline": RESCALED,
    # -- tokens --------------------------------------------------------------------------------------------------------
    "AmusedImg2ImgPipeline": AMUSED,
    "VQDiffusionPipeline": TOKENS,
    # -- video ---------------------------------------------------------------------------------------------------------
    "AnimateDiffControlNetPipeline AnimateDiffVideoToVideoControlNetPipeline AnimateDiffSparseControlNetPipeline "
    "PIAPipeline": FRAMES,
    "AnimateDiffPAGPipeline": {**FRAMES, "parts": ("uncond", "cond", "perturbed")},
    "AnimateDiffSDXLPipeline": {**FRAMES, **RESCALED},
    "TextToVideoSDPipeline VideoToVideoSDPipeline": {},
    "I2VGenXLPipeline": {"alike": False},
    "ConsisIDPipeline": COGVIDEO,
    "EasyAnimatePipeline EasyAnimateInpaintPipeline EasyAnimateControlPipeline": {
        **TRANSFORMER,
        **RESCALED,
        "variance": "twice",
    },
    "HunyuanSkyreelsImageToVideoPipeline": {**TRUE, "embedded": "guidance"},
    "Kandinsky5T2VPipeline Kandinsky5I2VPipeline Kandinsky5T2IPipeline Kandinsky5I2IPipeline "
    "SkyReelsV2ImageToVideoPipeline WanAnimatePipeline": TWO,
    "LucyEditPipeline": EXPERTS,
    "AnyFlowPipeline": TRANSFORMER,
    # -- images ------------------------------------------------------------------------------------------------------
    "KandinskyImg2ImgPipeline KandinskyInpaintPipeline": {"variance": "half"},
    "KandinskyPriorPipeline": {"denoisers": ("prior",)},
    "FluxControlImg2ImgPipeline FluxControlInpaintPipeline SanaSprintImg2ImgPipeline": EMBEDDED,
    "FluxControlNetInpaintPipeline": {**EMBEDDED, "helpers": ("controlnet",)},
}
