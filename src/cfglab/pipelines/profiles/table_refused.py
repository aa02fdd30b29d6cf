"""Pipeline classes that guide() refuses, and why.

Each of them was built tiny on diffusers 0.42.1, run, and guided all the same by the rule that its source suggests or by
its guider component; tests/pipelines/refused.json says what happened (`python -m tests.pipelines.refused`). Of every
class a test reads the fact that its reason states in the installed source.
"""

ONE = "it makes one prediction a step and combines nothing"
GUIDER = "it has a guider component: give it one, pipe.guider = to_guider(guidance)."
PARTS = "it is made of two pipelines: guide the one inside, its prior_pipe or decoder_pipe."

_REASONS: dict[str, str] = {
    # -- guided in another way ----------------------------------------------------------------------------------------
    "HunyuanImagePipeline HunyuanImageRefinerPipeline HunyuanVideo15Pipeline HunyuanVideo15ImageToVideoPipeline "
    "MotifVideoPipeline MotifVideoImage2VideoPipeline": GUIDER,
    "KandinskyCombinedPipeline KandinskyImg2ImgCombinedPipeline KandinskyInpaintCombinedPipeline "
    "KandinskyV22CombinedPipeline KandinskyV22Img2ImgCombinedPipeline KandinskyV22InpaintCombinedPipeline "
    "StableCascadeCombinedPipeline WuerstchenCombinedPipeline": PARTS,
    "VisualClozePipeline": (
        "it is made of two pipelines: guide the ones inside, its generation_pipe and upsampling_pipe."
    ),
    # -- nothing to combine -------------------------------------------------------------------------------------------
    "DDIMPipeline DDPMPipeline PNDMPipeline ScoreSdeVePipeline KarrasVePipeline DanceDiffusionPipeline LDMPipeline "
    "LDMSuperResolutionPipeline RePaintPipeline ConsistencyModelPipeline": f"{ONE}: there is no text, and no guidance.",
    "LatentConsistencyModelPipeline LatentConsistencyModelImg2ImgPipeline": (
        f"{ONE}: the scale is an embedding that the network adds to its time."
    ),
    "Flux2KleinKVPipeline DreamLiteMobilePipeline StableAudio3InpaintPipeline StableAudio3AudioToAudioPipeline "
    "LTX2DFRPipeline LTX2DFRTemporalRefinePipeline": (
        f"{ONE}: it is for weights distilled without guidance, and has no scale."
    ),
    "Kandinsky6SRPipeline": f"{ONE}: it makes a given video larger, without a text and without a scale.",
    "MarigoldDepthPipeline MarigoldNormalsPipeline MarigoldIntrinsicsPipeline": (
        f"{ONE}: its text is empty and its condition is an image, to be measured."
    ),
    "FluxPriorReduxPipeline": "it encodes an image and denoises nothing: guide the FluxPipeline that reads it.",
    "LTXLatentUpsamplePipeline LTX2LatentUpsamplePipeline LTX2VideoDiffusionDecodePipeline": (
        "it upsamples or decodes what another pipeline has made: guide that one."
    ),
    # -- not diffusion of an image, video or sound --------------------------------------------------------------------
    "DiffusionGemmaPipeline LLaDA2Pipeline": f"{ONE}: it writes text, a block of tokens at a time, and has no scale.",
    "RFD4ProteinaPipeline": f"{ONE}: it makes the atoms of a protein, and has no scale.",
    # -- several terms of its own -------------------------------------------------------------------------------------
    "LEditsPPPipelineStableDiffusion LEditsPPPipelineStableDiffusionXL SemanticStableDiffusionPipeline": (
        "it adds one masked difference for each editing prompt: its batch has as many parts as prompts."
    ),
    "StableDiffusionPipelineSafe": "its third part, a safety concept, changes the scale at every position.",
    "CycleDiffusionPipeline": "its batch has four parts, of a source and a target prompt, which it combines apart.",
    "UniDiffuserPipeline": "its network predicts image and text together, and which pair it makes decides the formula.",
    "AnyFlowFARPipeline": (
        "its network is called between the parts of a video too, to fill a cache that later calls read in rows."
    ),
    "HeliosPyramidPipeline": (
        "each stage of its pyramid has another size and steps of its own, so that a schedule has no run to follow, and "
        "its formula is CFG-Zero* where the weights ask for it."
    ),
    "LTXI2VLongMultiPromptPipeline": (
        "its windows leave out steps of their sampler, and may change the prompt between them."
    ),
    # -- several calls, or other latents, a step ----------------------------------------------------------------------
    "StableDiffusionAttendAndExcitePipeline StableDiffusionPix2PixZeroPipeline": (
        "it runs the network at other times too, for gradients or maps."
    ),
    "StableDiffusionSAGPipeline": ("it is a guidance itself: guide a StableDiffusionPipeline with sag() instead."),
    "StableDiffusionPanoramaPipeline StableDiffusionParadigmsPipeline TextToVideoZeroPipeline "
    "TextToVideoZeroSDXLPipeline": ("it denoises several windows, steps or frames at a time in loops of its own."),
    "StableDiffusionGLIGENTextImagePipeline": ("it makes two calls of both rows and uses one row of each."),
    "UnCLIPPipeline UnCLIPImageVariationPipeline": (
        "it runs a prior, a decoder or a super-resolution network one after the other in one call, each with a scale "
        "and a sampler of its own."
    ),
    "VersatileDiffusionDualGuidedPipeline": (
        "diffusers 0.42.1 cannot run it: the blocks of its UNet hand a mask to attention that does not take one."
    ),
    "ZImageOmniPipeline": "its rows are lists of images, those to be edited before that which is made.",
}
REFUSED: dict[str, str] = {name: reason for names, reason in _REASONS.items() for name in names.split()}
"""Why a class is refused, by its name: one sentence that ends the error's line."""
