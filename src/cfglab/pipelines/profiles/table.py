"""The profiles of diffusers' pipeline classes, by name. What a row does not say is the generic rule of `Profile`."""

from functools import cache
from typing import Any

from cfglab.pipelines.profiles.profile import Profile

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
COSMOS3: dict[str, Any] = {
    **TWO,
    "sample": "vision_tokens",
    "wide": True,
    "whole": (
        *("input_ids", "text_indexes", "position_ids", "vision_sequence_indexes", "vision_mse_loss_indexes"),
        *("vision_token_shapes", "vision_noisy_frame_indexes"),
        *("sound_tokens", "sound_token_shapes", "sound_sequence_indexes", "sound_mse_loss_indexes"),
        *("sound_timesteps", "sound_noisy_frame_indexes"),
        *("action_tokens", "action_token_shapes", "action_sequence_indexes", "action_mse_loss_indexes"),
        *("action_timesteps", "action_noisy_frame_indexes", "action_domain_ids"),
    ),
    "excluded": (
        ("enable_sound", False, "then predicts the sound beside the video, and only one prediction of a call is held"),
        ("action", None, "then predicts actions beside the video, and only one prediction of a call is held"),
    ),
}
"""The network reads one sequence of text, video, sound and actions, of one sample."""
TOKENS: dict[str, Any] = {**TRANSFORMER, "space": "logits"}
AMUSED: dict[str, Any] = {**TOKENS, "rows": ("micro_conds", "pooled_text_emb")}

CONTROLLED: dict[str, Any] = {"helpers": ("controlnet",)}
COND_FIRST: dict[str, Any] = {"parts": ("cond", "uncond")}
PERTURBED: dict[str, Any] = {"parts": ("uncond", "cond", "perturbed"), "third_from": ("pag_scale",)}
FRAMES: dict[str, Any] = {"blocks": ("encoder_hidden_states",)}
PIX2PIX: dict[str, Any] = {"parts": ("cond", "uncond", "neither"), "alike": False, "image_off": 1.0}
SKIPPED = ("skip_guidance_layers", None, "a transform that skips layers")
SD3: dict[str, Any] = {**TRANSFORMER, "refused": (SKIPPED,)}
FLUX: dict[str, Any] = {**TRUE, "embedded": "guidance"}
QWEN: dict[str, Any] = {**TRUE, "post_combine": "token norm"}
Z_IMAGE: dict[str, Any] = {
    **TRANSFORMER,
    **COND_FIRST,
    "lists": True,
    "off": 0.0,
    "wide": True,
    "negated": True,
    "post_combine": "ceiling",
    "fixed": (("cfg_normalization", False),),
    "refused": (("cfg_truncation", 1.0, ".inside(...) of a schedule"),),
}
UNUSED: dict[str, Any] = {**TRANSFORMER, "variance": "half"}

WITH_SOUND: dict[str, Any] = {
    **TRANSFORMER,
    "layout": "with sound",
    "wide": True,
    "off": None,
    "fixed": (("guidance_scale", 2.0), ("audio_guidance_scale", 2.0)),
}

DEFAULTS: dict[str, Any] = {}
GENERIC = """
StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline StableDiffusionDepth2ImgPipeline
StableDiffusionUpscalePipeline StableDiffusionImageVariationPipeline StableDiffusionAdapterPipeline
StableDiffusionGLIGENPipeline StableUnCLIPPipeline StableUnCLIPImg2ImgPipeline StableDiffusionDiffEditPipeline
LDMTextToImagePipeline KolorsPipeline KolorsImg2ImgPipeline AudioLDMPipeline AudioLDM2Pipeline MusicLDMPipeline
TextToVideoSDPipeline VideoToVideoSDPipeline I2VGenXLPipeline StableDiffusionControlNetXSPipeline
StableDiffusionXLControlNetXSPipeline PaintByExamplePipeline BlipDiffusionPipeline AltDiffusionImg2ImgPipeline
StableDiffusionModelEditingPipeline
"""

ROWS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(GENERIC.split(), DEFAULTS),
    # -- Stable Diffusion and SDXL -------------------------------------------------------------------------------------
    "StableDiffusionPipeline StableDiffusionXLPipeline StableDiffusionXLImg2ImgPipeline "
    "StableDiffusionXLInpaintPipeline StableDiffusionXLAdapterPipeline StableDiffusionLDM3DPipeline "
    "AltDiffusionPipeline": RESCALED,
    "StableDiffusionInpaintPipelineLegacy": {
        "excluded": (("add_predicted_noise", False, "then reads the unconditional prediction after the combine"),)
    },
    "StableDiffusionControlNetPipeline StableDiffusionControlNetImg2ImgPipeline "
    "StableDiffusionControlNetInpaintPipeline StableDiffusionXLControlNetPipeline "
    "StableDiffusionXLControlNetImg2ImgPipeline StableDiffusionXLControlNetUnionPipeline "
    "StableDiffusionXLControlNetUnionImg2ImgPipeline BlipDiffusionControlNetPipeline": CONTROLLED,
    "StableDiffusionXLControlNetInpaintPipeline StableDiffusionXLControlNetUnionInpaintPipeline": {
        **CONTROLLED,
        **RESCALED,
    },
    "StableDiffusionLatentUpscalePipeline": {"variance": 4, "space": "model"},
    "StableDiffusionInstructPix2PixPipeline": PIX2PIX,
    "StableDiffusionXLInstructPix2PixPipeline": {**PIX2PIX, **RESCALED},
    "StableDiffusionPAGPipeline StableDiffusionPAGInpaintPipeline StableDiffusionXLPAGPipeline "
    "StableDiffusionXLPAGImg2ImgPipeline StableDiffusionXLPAGInpaintPipeline": {**PERTURBED, **RESCALED},
    "StableDiffusionPAGImg2ImgPipeline KolorsPAGPipeline": PERTURBED,
    "StableDiffusionControlNetPAGPipeline StableDiffusionControlNetPAGInpaintPipeline "
    "StableDiffusionXLControlNetPAGPipeline StableDiffusionXLControlNetPAGImg2ImgPipeline": {**PERTURBED, **CONTROLLED},
    # -- tokens --------------------------------------------------------------------------------------------------------
    "AmusedPipeline AmusedImg2ImgPipeline AmusedInpaintPipeline": AMUSED,
    "VQDiffusionPipeline": TOKENS,
    # -- batched transformers ------------------------------------------------------------------------------------------
    "AllegroPipeline AuraFlowPipeline BriaFiboPipeline PRXPipeline StableAudioPipeline "
    "StableAudio3Pipeline": TRANSFORMER,
    "ErnieImagePipeline": TRANSFORMER,
    "AceStepPipeline": {
        **TRANSFORMER,
        **COND_FIRST,
        "refused": (
            ("cfg_interval_start", 0.0, ".inside(...) of a schedule"),
            ("cfg_interval_end", 1.0, ".inside(...) of a schedule"),
        ),
        "excluded": (
            (
                "audio_cover_strength",
                1.0,
                "then calls its network for another text as well, and mixes both predictions",
            ),
        ),
    },
    "PRXPixelPipeline": {**TRANSFORMER, "space": "x0"},
    "BriaPipeline": {**TRANSFORMER, "refused": (("normalize", False, "rescale"),)},
    "CogView3PlusPipeline": {**TRANSFORMER, "wide": True},
    "SanaPipeline SanaVideoPipeline SanaImageToVideoPipeline": {**TRANSFORMER, "wide": True, "variance": "twice"},
    "SanaControlNetPipeline": {**TRANSFORMER, **CONTROLLED, "wide": True, "variance": "twice"},
    "SanaPAGPipeline": {**TRANSFORMER, **PERTURBED, "wide": True, "variance": "twice"},
    "StableDiffusion3Pipeline": SD3,
    "StableDiffusion3Img2ImgPipeline StableDiffusion3InpaintPipeline": TRANSFORMER,
    "StableDiffusion3ControlNetPipeline StableDiffusion3ControlNetInpaintingPipeline": {**TRANSFORMER, **CONTROLLED},
    "StableDiffusion3PAGPipeline StableDiffusion3PAGImg2ImgPipeline": {**TRANSFORMER, **PERTURBED},
    "PixArtAlphaPipeline PixArtSigmaPipeline LattePipeline": {**TRANSFORMER, "variance": "twice"},
    "PixArtSigmaPAGPipeline": {**TRANSFORMER, **PERTURBED, "variance": "twice"},
    "HunyuanDiTPipeline": {**UNUSED, **RESCALED},
    "HunyuanDiTControlNetPipeline": {**UNUSED, **RESCALED, **CONTROLLED, "alike": False},
    "HunyuanDiTPAGPipeline": {**UNUSED, **RESCALED, **PERTURBED},
    "HiDreamImagePipeline": {**TRANSFORMER, "dims": (("encoder_hidden_states_llama3", 1),), "negated": True},
    "OmniGenPipeline": {
        **TRANSFORMER,
        "parts": ("cond", "neither", "uncond"),
        "third_from": ("input_images",),
        "image_scale": "img_guidance_scale",
        "off": None,  # the numbers of rows are keys of input_image_sizes: with images to edit, all rows run
    },
    "DreamLitePipeline": {
        "parts": ("neither", "uncond", "cond"),
        "third_from": ("image",),
        "off": None,
        "variance": "last half",
        "alike": False,
    },
    "DiTPipeline": {**UNUSED, **COND_FIRST},
    "LuminaPipeline": {**TRANSFORMER, **COND_FIRST, "variance": 3, "negated": True},
    "ZImagePipeline ZImageImg2ImgPipeline ZImageInpaintPipeline": Z_IMAGE,
    "ZImageControlNetPipeline ZImageControlNetInpaintPipeline": {**Z_IMAGE, **CONTROLLED},
    "VersatileDiffusionTextToImagePipeline VersatileDiffusionImageVariationPipeline": {"denoisers": ("image_unet",)},
    # -- pixels, priors, cascades --------------------------------------------------------------------------------------
    "IFPipeline IFImg2ImgPipeline IFInpaintingPipeline IFSuperResolutionPipeline IFImg2ImgSuperResolutionPipeline "
    "IFInpaintingSuperResolutionPipeline": {"variance": "half"},
    "KandinskyPipeline KandinskyImg2ImgPipeline KandinskyInpaintPipeline KandinskyV22Pipeline "
    "KandinskyV22Img2ImgPipeline KandinskyV22InpaintPipeline KandinskyV22ControlnetPipeline "
    "KandinskyV22ControlnetImg2ImgPipeline": {"variance": "half"},
    "KandinskyPriorPipeline KandinskyV22PriorPipeline KandinskyV22PriorEmb2EmbPipeline": {"denoisers": ("prior",)},
    "ShapEPipeline ShapEImg2ImgPipeline": {"denoisers": ("prior",), "variance": "last half"},
    "Kandinsky3Pipeline Kandinsky3Img2ImgPipeline": {"injected": "quarter", "fixed": (("guidance_scale", 3.0),)},
    "StableCascadePriorPipeline WuerstchenPriorPipeline": {**COND_FIRST, "denoisers": ("prior",)},
    "StableCascadeDecoderPipeline WuerstchenDecoderPipeline": {**COND_FIRST, "denoisers": ("decoder",)},
    # -- two calls a step ----------------------------------------------------------------------------------------------
    "FluxPipeline FluxImg2ImgPipeline FluxInpaintPipeline HunyuanVideoPipeline HunyuanVideoImageToVideoPipeline "
    "HunyuanVideoFramepackPipeline HunyuanSkyreelsImageToVideoPipeline": FLUX,
    "FluxControlNetPipeline": {**FLUX, **CONTROLLED},
    "FluxKontextPipeline FluxKontextInpaintPipeline": {**FLUX, "image_ids": "img_ids"},
    "Flux2KleinPipeline Flux2KleinInpaintPipeline": {**TWO, "image_ids": "img_ids"},
    "ChromaPipeline ChromaImg2ImgPipeline ChromaInpaintPipeline OvisImagePipeline": TWO,
    "QwenImagePipeline QwenImageImg2ImgPipeline QwenImageInpaintPipeline": QWEN,
    "QwenImageControlNetPipeline QwenImageControlNetInpaintPipeline": {**QWEN, **CONTROLLED},
    "QwenImageEditPipeline QwenImageEditPlusPipeline QwenImageEditInpaintPipeline": {**QWEN, "image_ids": "img_shapes"},
    "GlmImagePipeline": {
        **TWO,
        "wide": True,
        "whole": ("kv_caches",),
        "excluded": (
            (
                "image",
                None,
                "then calls its network before the first step too, to fill a cache that only one call reads",
            ),
        ),
    },
    "Kandinsky6TI2VAPipeline": {
        **TWO,
        "excluded": (
            (
                "sample_audio",
                False,
                "then predicts the sound beside the video in each of two calls, of which one prediction can be held",
            ),
        ),
    },
    "CogView4Pipeline CogView4ControlPipeline": TWO,
    "Lumina2Pipeline": {
        **TWO,
        "negated": True,
        "post_combine": "row norm",
        "fixed": (("cfg_normalization", False),),
        "refused": (("cfg_trunc_ratio", 1.0, ".inside(...) of a schedule"),),
    },
    "LongCatImagePipeline": {**TWO, "post_combine": "token ceiling", "fixed": (("enable_cfg_renorm", False),)},
    "LongCatImageEditPipeline": {**TWO, "image_ids": "img_ids"},
    "LongCatAudioDiTPipeline": TWO,
    "BriaFibo2Pipeline": {**TWO, "wide": True},
    "BriaFiboEditPipeline": {**TRANSFORMER, "image_ids": "img_ids"},
    "QwenImage21Pipeline": {**TRUE, "image_ids": "img_last"},
    "QwenImageLayeredPipeline": {
        **TRUE,
        "image_ids": "img_layers",
        "post_combine": "row norm",
        "fixed": (("cfg_normalize", False),),
    },
    "JoyImageEditPipeline": {**TWO, "post_combine": "item norm"},
    "JoyImageEditPlusPipeline": {**TRANSFORMER, "post_combine": "item norm", "rows": ("shape_list",)},
    "NucleusMoEImagePipeline": {**TWO, "negated": True, "post_combine": "token norm"},
    "Krea2Pipeline": {**TWO, "off": 0.0, "whole": ("position_ids",)},
    "Ideogram4Pipeline": {
        **TWO,
        "denoisers": ("transformer", "unconditional_transformer"),
        "networks": (("transformer", "cond"), ("unconditional_transformer", "uncond")),
        "off": None,
        "wide": True,
        "negated": True,
        "fixed": (("guidance_scale", 1.0), ("guidance_schedule", None)),
        "refused": (("guidance_schedule", ..., "table([...]) with a scale a step"),),
    },
    # -- the scale is an input -----------------------------------------------------------------------------------------
    "FluxControlPipeline FluxControlImg2ImgPipeline FluxControlInpaintPipeline FluxFillPipeline Flux2Pipeline "
    "SanaSprintPipeline SanaSprintImg2ImgPipeline VisualClozeGenerationPipeline": EMBEDDED,
    "FluxControlNetImg2ImgPipeline FluxControlNetInpaintPipeline": {**EMBEDDED, **CONTROLLED},
    # -- video ---------------------------------------------------------------------------------------------------------
    "AnimateDiffPipeline AnimateDiffVideoToVideoPipeline PIAPipeline": FRAMES,
    "AnimateDiffControlNetPipeline AnimateDiffVideoToVideoControlNetPipeline AnimateDiffSparseControlNetPipeline": {
        "blocks": (*FRAMES["blocks"], "down_block_additional_residuals", "mid_block_additional_residual")
    },
    "AnimateDiffSDXLPipeline": {**FRAMES, **RESCALED},
    "AnimateDiffPAGPipeline": {**FRAMES, **PERTURBED},
    "AnyFlowPipeline": TRANSFORMER,
    "EasyAnimatePipeline EasyAnimateInpaintPipeline": {**TRANSFORMER, **RESCALED},
    "CogVideoXPipeline CogVideoXImageToVideoPipeline CogVideoXVideoToVideoPipeline "
    "CogVideoXFunControlPipeline": COGVIDEO,
    "MochiPipeline": {**TRANSFORMER, "wide": True},
    "LTXPipeline LTXImageToVideoPipeline": {**TRANSFORMER, **RESCALED, "wide": True},
    "LTXConditionPipeline": {**TRANSFORMER, **RESCALED, "negated": True},
    "SanaWMPipeline": {
        **TRANSFORMER,
        "negated": True,
        "rows": ("camera_conditions", "chunk_plucker", "mask"),
        "whole": ("img_hw",),
    },
    "LTX2Pipeline LTX2ImageToVideoPipeline LTX2ConditionPipeline LTX2InContextPipeline": WITH_SOUND,
    "LTX2HDRPipeline": {**WITH_SOUND, "fixed": (("guidance_scale", 2.0),)},
    "WanVideoToVideoPipeline WanAnimatePipeline ChronoEditPipeline HeliosPipeline SkyReelsV2Pipeline "
    "SkyReelsV2ImageToVideoPipeline Kandinsky5T2VPipeline Kandinsky5I2VPipeline Kandinsky5T2IPipeline "
    "Kandinsky5I2IPipeline": TWO,
    "SkyReelsV2DiffusionForcingPipeline SkyReelsV2DiffusionForcingImageToVideoPipeline "
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": {
        **TWO,
        "repeats": True,
        "refused": (("ar_step", 0, "a schedule; with it every frame has a step of its own"),),
    },
    "CosmosTextToWorldPipeline CosmosVideoToWorldPipeline Cosmos2TextToImagePipeline Cosmos2VideoToWorldPipeline "
    "Cosmos2_5_PredictBasePipeline": TWO,
    "Cosmos2_5_TransferPipeline": {**TWO, **CONTROLLED},
    "Cosmos3OmniPipeline": COSMOS3,
    "WanPipeline WanImageToVideoPipeline WanVACEPipeline LucyEditPipeline": EXPERTS,
    "StableVideoDiffusionPipeline": {
        "scale": "max_guidance_scale",
        "alike": False,
        "refused": (
            ("min_guidance_scale", 1.0, "per_frame(map='...', dim=1), with a share of the scale for each frame"),
        ),
    },
}

# Read from diffusers' source, run by no test, and checked against the tensors at the first call as all are.
UNVERIFIED: dict[str, dict[str, Any]] = {
    "ConsisIDPipeline": COGVIDEO,
    "EasyAnimateControlPipeline": {**TRANSFORMER, **RESCALED},
}


@cache
def profiles() -> dict[str, Profile]:
    """Every profile by the name of its class."""
    return {name: Profile(**row) for names, row in (ROWS | UNVERIFIED).items() for name in names.split()}
