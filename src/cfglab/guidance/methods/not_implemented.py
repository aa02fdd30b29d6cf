"""Published methods that are not implemented, each with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NotImplementedMethod:
    """A method that is not implemented.

    Attributes:
        title: Its name.
        paper: Its arXiv id; None if there is no paper.
        reason: Why it is not implemented, one or more sentences.
    """

    title: str
    paper: str | None
    reason: str


LEFT_OUT = (
    NotImplementedMethod(
        "LinearAG",
        "2312.12487",
        "the unconditional prediction is a regression on earlier ones, whose coefficients are fitted per model and are "
        "not published. `adaptive` is the other method of that paper.",
    ),
    NotImplementedMethod(
        "Compress Guidance",
        "2408.11194",
        "what could be read of it prints the gradients of a classifier, used again or added up between the steps at "
        "which they are computed; what becomes of c - u there would be our reading. `reuse` is the form that uses it "
        "again, at every few steps.",
    ),
    NotImplementedMethod(
        "FasterCache's unconditional branch",
        "2410.19355",
        "the moment at which its two weights change places could not be read anywhere; diffusers has it as a hook.",
    ),
    NotImplementedMethod(
        "Annealing guidance scale",
        "2506.24108",
        "w comes of a trained network, published for SDXL only, and the sampler renoises as CFG++ does.",
    ),
    NotImplementedMethod(
        "Dynamic CFG via online feedback",
        "2509.16131",
        "a search at every step with evaluators trained for it; there is no code.",
    ),
    NotImplementedMethod(
        "Rectified-CFG++",
        "2510.07631",
        "a predictor and a corrector: the sampler's step is another one, not only the combination.",
    ),
    NotImplementedMethod(
        "Characteristic guidance",
        "2312.07586",
        "a fixed point with an unknown number of evaluations inside the step, not a combination of predictions.",
    ),
    NotImplementedMethod(
        "S-CFG",
        "2404.05384",
        "a scale per region, from segmentation by attention maps of the same step. `per_position` takes such a map.",
    ),
    NotImplementedMethod(
        "SAMG",
        "2604.26503",
        "only its abstract could be read: a low scale where the energy of c - u is high, a high one where it is low. "
        "How the paper normalises the energy and what is between the two scales could not be had, and the authors have "
        "no code. The two ports for ComfyUI choose for themselves: one has a line from 12 to 5 over the range of the "
        "energy of one image, one goes from 1.6 w to 2 w / 3. `per_position` takes a map that is given.",
    ),
    NotImplementedMethod(
        "Stage-wise weights (TV-CFG)",
        "2509.22007",
        "a triangle that peaks in the middle of the run, from 1 to 2 w0 - 1 and back, as it is described: that is "
        "`wang_lambda(w0)`, and `.matched_to(w0)` holds its mean. Its other peaks could not be checked.",
    ),
    NotImplementedMethod(
        "NGMS",
        None,
        "A1111 leaves the unconditional row out at every other step below a noise level; `reuse` saves the same rows, "
        "and keeps the last update instead of none.",
    ),
    NotImplementedMethod(
        "AutomaticCFG",
        None,
        "a scale per channel from the range of its values; it has no description but the code of its node.",
    ),
    NotImplementedMethod(
        "ERG",
        "2504.13987",
        "one half changes the temperature of attention inside the text encoder, which runs before there is a step; the "
        "other half, softmax(tau Q K / sqrt d), does so in layers of the denoiser from some step on. Which layers, "
        "temperatures and first step the authors use could not be read, they have no code, and the public ports choose "
        "for themselves: ACE-Step tau 0.01 in its blocks 15 to 19 and in both of its encoders, a node for SD "
        "scales the input of the queries of a few layers. `seg` and `tpg` are the neighbours that act in the denoiser.",
    ),
    NotImplementedMethod(
        "CFG-MP, CFG-MP+",
        "2601.21892",
        "iterations of the denoiser inside a step, with an acceleration of their own: the step of the sampler changes.",
    ),
    NotImplementedMethod(
        "FSG",
        "2510.21512",
        "fixed points over longer intervals in the first steps, by denoising and adding noise again inside a step.",
    ),
)
