"""What is claimed of every pipeline that the tests run, and where it is not bit for bit."""

from tests.pipelines.families import Case

ROUNDS = 5e-6
"""The largest relative difference after three steps at the scale 3 where the pipeline's own formula rounds otherwise
than `u + w (c - u)`."""

TIMES = 4
"""The difference of such a class over what one last bit more in every prediction makes of the untouched pipeline, at
any scale and after any number of steps; between 0.5 and 1.1 where it was measured."""

BY_CASE = {
    "StableDiffusionLatentUpscalePipeline": "preconditions u and c apart, here their combination",
    "Ideogram4Pipeline": "its formula is g c + (1 - g) u",
    "StableDiffusionInstructPix2PixPipeline": "adds its three terms in another order",
    "StableDiffusionXLInstructPix2PixPipeline": "adds its three terms in another order",
    "OmniGenPipeline": "adds its three terms in another order",
    "DreamLitePipeline-edit": "with an image it adds its three terms in another order",
    "AceStepPipeline": "projects in float64",
}
BY_CASE |= dict.fromkeys(
    (
        "LTX2Pipeline",
        "LTX2ImageToVideoPipeline",
        "LTX2ConditionPipeline",
        "LTX2InContextPipeline",
        "LTX2HDRPipeline",
    ),
    "it combines x0, here the velocity",
)
BY_FORMULA = {
    "lerp": "torch.lerp rounds otherwise",
    "c + g (c - u)": "its formula is c + g (c - u)",
}


def cause(case: Case) -> str:
    """Why guide() at the same scale differs in the last bits; "" where it does not."""
    return BY_CASE.get(case.name, BY_CASE.get(case.cls, BY_FORMULA.get(case.combine, "")))
