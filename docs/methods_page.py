"""docs/methods.md: every published method, written from its card and its class, with its image where there is one."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cfglab.guidance import TRANSFORMS, Transform
from cfglab.guidance.methods.not_implemented import LEFT_OUT
from cfglab.method_card import Card
from cfglab.report.markdown import code
from cfglab.schedules import PUBLISHED, SHAPES
from cfglab.schedules.printer import number
from cfglab.schedules.published.cards import CARDS
from docs.oracles import ORACLES, TESTS, measured

PAGE = Path(__file__).parent / "methods.md"
IMAGES = "images/methods"

GROUPS: dict[str, tuple[str, ...]] = {
    "Schedules": tuple(CARDS),
    "Scales that read the predictions": ("magnitude_aware", "update_power", "feedback", "adaptive", "reuse"),
    "Scales that are maps": ("per_position", "per_frame", "per_channel"),
    "Lengths and limits": (
        "prediction_norm",
        "update_norm",
        "full_norm",
        "cfg_norm",
        "rescale",
        "imagen_threshold",
        "mimic_threshold",
        "skimmed",
        "mahiro",
    ),
    "Directions and frequencies": (
        "apg",
        "cfg_zero_star",
        "tcfg",
        "adg",
        "nrs",
        "tag",
        "fdg",
        "fresca",
        "smc_cfg",
        "momentum",
        "higs",
        "sg_prev",
        "epsilon_scaling",
        "tsr",
    ),
    "Several conditions": (
        "perp_neg",
        "composed",
        "and_salt",
        "and_topk",
        "snf",
        "contrastive_cfg",
        "dng",
        "dual_cfg",
        "image_guidance",
        "audio_guidance",
        "modality_guidance",
        "nag",
        "vsf",
        "pladis",
    ),
    "Weaker models": ("autoguidance", "pag", "seg", "sag", "tpg", "swg", "skip_layers", "s2", "tsg", "sg"),
    "Noisy conditions": ("icg", "cads"),
}

INTRO = """\
# Methods

Every published method of guidance that cfglab has: what it does, its formula, the space its tensors are in, how many
denoiser rows a guided step costs, where its defaults come from, and how other programs differ from it. `u` and `c` are
the unconditional and the conditional prediction, `w` the scale of `u + w (c - u)` (w = 1 is no guidance), `g` the
guided prediction, `D` a prediction of the clean image, `i / N` the elapsed fraction of the run. Plain guidance costs
2 rows. A pipeline that reads the conditional prediction after its combine costs one more where a method replaces that
prediction ([which ones](pipelines.md#when-rows-are-left-out-and-shared)).

Schedules say what w is; any number of transforms follows, each after a bar: `limited_interval(w=5) | apg() | pag(s=2)`.
What its symbols mean is in its docstring: `help(cfglab.guidance.APG)`. Every transform has `strength` (0 is plain
guidance) and may be used in another `space` where that has a meaning. On a flow, which does not determine epsilon at
pure noise where it begins, a method whose space is epsilon acts on the velocity. A method *asks for* what has no
default: the paper chooses it per model, or it could not be checked. Where a method begins and ends, counted against
the code of its authors, is [one table](#first-and-last-steps); what it was compared with, and by how much it differs,
[another one](#oracles); what could not be had at all stands [at the end](#not-here).

This page is written by `make docs` from the code; the images by `python docs/methods_images.py`.
"""

STEPS = """\
## First and last steps

Steps are counted from 0, i is the step and N their number. A window of cfglab holds its start and not its end:
`start <= i / N < stop`. Each row was compared with the code that it names; where the code counts otherwise, the last
column says what to write here for the same steps.

| method | here | their code | the same there |
|---|---|---|---|
| `cfg_zero_star` | zero while i < `zero_steps`, 1 by default | WeichenFan/CFG-Zero-star: zero while \
i <= `zero_steps`, 0 by default | `as_in=authors`; the defaults agree |
| | | diffusers' guider: zero while i < `zero_init_steps`, 1 by default | as it is |
| `limited_interval` | low < sigma <= high, at every evaluation | kynkaat/guidance-interval: indices 17 to 22 of 32, \
both ends in, one decision for the two evaluations of a Heun step | `constant(2).inside(steps=(17, 23))`, to \
the last evaluation |
| `cutoff` | off from i = N at | diffusers' cut-off callbacks act at the end of step int(N at): that step is still \
guided | one step more where N at is a whole number |
| `late_start` | on from i / N >= at | A1111, Forge: off while i / N <= at | one step later where N at is a whole \
number |
| windows of guiders | `.inside(progress=(start, stop))`: from the next whole step on | diffusers: \
int(N start) <= i < int(N stop), from the step before on | `.inside(steps=(a, b))` |
| `skip_layers` | N start <= i < N stop | Stability-AI/sd3.5 and diffusers' SD 3 pipeline: N start < i < N stop | \
the same but where N start is a whole number, as at 100 steps: there and at start=0 one step less |
| | | diffusers' guider: int(N start) < i < int(N stop) | where N stop \
is no whole number, as at 28 steps, one step less |
| | | ComfyUI: sigma(stop) <= sigma <= sigma(start), both ends in | by its sigmas |
| `pag`, `seg` | every step | diffusers' PAG pipelines, SusungHong/SEG-SDXL: every step | as it is |
| `apg` | the first average is the first update | the listing of the paper, diffusers and ComfyUI: the same; diffusers \
and ComfyUI begin again with each run, as here | as it is |
| `momentum` | the first average is the first prediction: no change at step 0 | pamparamm/sd-perturbed-attention: the \
same | as it is |
| `adaptive` | c alone from the step *after* cos >= similarity | asagi4/ComfyUI-Adaptive-Guidance: the same | as it is |
| `cads` | t = 1 - i / N; all of the noise at t >= tau2, none at t <= tau1 | v0xie/sd-webui-cads: the same | as it is |
| `beta` | Beta.pdf(i / (N - 1)): 0 at the first and the last step | gmum/beta-CFG: the same | as it is |
| `cogvideox` | i / N, never 1 | class DynamicCFG of the authors: the same | as it is |
| `cfg_plus_plus` | the last step ends at the sampler's last level | CFGpp-diffusion/CFGpp: the same, and it decodes \
the prediction of the last step without noise | as it is with a sampler that ends at 0 |
| `epsilon_scaling` | every step, divided by `factor` | forever208/ADM-ES: the same | as it is |
| `imagen_threshold` | s = max(limit, quantile) | diffusers' schedulers: s = quantile held between 1 and \
`sample_max_value` | a limit of 1, where `sample_max_value` is large |
| `mimic_threshold` | torch's quantile of the centred values | mcmonkeyprojects/sd-dynamic-thresholding: the same; its \
scales may follow a curve of the timestep | as it is, for constant scales |
| `smc_cfg` | at the first step e' is e | hanyang-21/CFG-Ctrl, pamparamm/sd-perturbed-attention: the same | as it is |
| `higs` | the first step changes nothing, then for t_min < t <= t_max | two implementations of the paper: the same | \
as it is |
| `sg_prev` | from the second step on, where t < `max_t` | maple-research-lab/Self-Guidance: the same | as it is |
| `sg`, `tpg`, `swg` | every step | maple-research-lab/Self-Guidance, TaatiTeam/Token-Perturbation-Guidance, \
HHU-MMBS/swg_bmvc2025_official: the same | as it is |
| `tsr` | every step but pure noise | temporalscorerescaling/TSR: the same; ComfyUI also leaves sigma = 0 alone | \
as it is |
| `nag` | at every s | the authors' processor: only where s > 1 | s above 1 |
| `vsf` | every step | weathon/VSF: the same | as it is |
"""

ORACLES_HEAD = """\
## Oracles

What each method was compared with, and the largest difference, as a part of the largest expected value (in pipelines:
of the norm of the result). "Written out" is published code that the test has again, in numbers of its own. Numbers are
float64, where a last bit is about 1e-16 and a few operations make 1e-15 of it, or float32 where it is said, with 1e-7
and 1e-6. 0 is every bit. Measured on diffusers 0.42.1 by `python -m docs.oracles`, which runs the tests of the last
column with every comparison noted; `make test` runs the same tests.
"""

RECIPES = {
    "Segmented guidance (SGG)": (
        "constant(4.5).then(1, at=0.5) | skip_layers(s=3, layers=(7, 8, 9), start=0.5, stop=1)",
        "2603.20584",
        "CFG in the first half of the run, skip-layer guidance alone in the second: Westlake-AGI-Lab/SGG for SD 3.5 at "
        "28 steps. The unconditional row stops where the weak one begins.",
    ),
    "CFG and SG-prev of self-guidance": (
        "7.5 | pag(s=0.3) | sg_prev()",
        "2412.05827",
        "the authors' configuration for Stable Diffusion 1.4 with an ODE sampler.",
    ),
    "Token perturbation without a prompt": (
        "1 | tpg(s=3)",
        "2506.10036",
        "the authors' example: unconditional generation, no classifier-free guidance.",
    ),
}
"""Published combinations: the text, the paper, and what it is."""

BEST_OF = """\
## Choosing among seeds

CFG-Rejection ([arXiv:2505.23343](https://arxiv.org/abs/2505.23343)) drops seeds whose accumulated difference between
the conditional and the unconditional prediction is small in the first steps. It changes no prediction, so it is a
function and no transform: `cfglab.generate(pipe, prompt, 5, best_of=8)` runs the first steps of 8 seeds and generates
the one with the largest mean of `|c - u|`, the number that a trace has for every step. The authors' code takes the mean
over the first 5 to 20 steps in what the network predicts, and multiplies it by sigma for SDXL. In an experiment it is a
field of a setting, `best_of: 8`, and may be an axis; its effect on `scenes` is [measured](findings/best-of.md).
"""

TOKENS = """\
## Models of tokens

Masked and autoregressive models predict logits. Their guidance is the same line, `u + w (c - u)` on logits, because
their samplers draw from the softmax: it is `p_c^w p_u^(1 - w)`, normalized for each token. So guidance cannot change
how fast tokens are unmasked; the normalization that 2507.08965 adds to guided rates is there already. `guide()` runs
aMUSEd and VQ-Diffusion with any schedule. Logits have no epsilon, x0, v or flow: a transform in one of these is
refused. With `space=model` it acts on raw logits, where norms depend on a constant that the softmax ignores. What
schedules do to the distribution is computed exactly in the [laboratory](laboratory.md#tokens).
"""

SPACES = {"epsilon": "epsilon", "x0": "x0", "v": "v", "flow": "flow", "model": "any, it does not matter"}

METHODS = [name for names in GROUPS.values() for name in names]
"""Every method of the page, in its order."""

HIDDEN = ("per_frame", "image_guidance", "audio_guidance", "modality_guidance")
SHOWN = [name for name in METHODS if name not in HIDDEN]
"""Those that the bundled model can show: it makes no videos, has no sound and edits no images."""


def methods_page() -> str:
    """The page, as Markdown."""
    parts = [INTRO]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        parts.append(_overview(names))
        parts += [_section(name) for name in names]
    parts += [_recipes(), BEST_OF, TOKENS, STEPS, _oracles(), _not_here()]
    return "\n".join(parts)


def _recipes() -> str:
    """The published combinations of several methods."""
    lines = ["## Combinations\n", "| combination | as text | paper | what it is |", "|---|---|---|---|"]
    for title, (text, paper, says) in RECIPES.items():
        lines.append(f"| {title} | {code(text)} | [arXiv:{paper}](https://arxiv.org/abs/{paper}) | {says} |")
    return "\n".join([*lines, ""])


def _oracles() -> str:
    """What every method was compared with."""
    lines = ["| method | compared with | largest difference | tests |", "|---|---|---|---|"]
    found = measured()
    for name in METHODS:
        for index, (oracle, difference) in enumerate(zip(ORACLES[name], found[name], strict=True)):
            method = f"`{name}`" if not index else ""
            lines.append(f"| {method} | {oracle.what} | {difference:g} | `{TESTS.name}/{oracle.file}` |")
    return "\n".join([ORACLES_HEAD, *lines, ""])


def card_of(name: str) -> Card:
    """The card of a schedule or transform by its name in text."""
    card = CARDS[name] if name in CARDS else TRANSFORMS[name].card
    assert card is not None
    return card


def _overview(names: Iterable[str]) -> str:
    rows = [f"| [{card_of(name).title}](#{anchor(card_of(name).title)}) | {card_of(name).says} |" for name in names]
    return "\n".join(["| method | what it does |", "|---|---|", *rows, ""])


def _section(name: str) -> str:
    card = card_of(name)
    facts = [
        f"`{_signature(name)}`",
        *([f"[arXiv:{card.paper}](https://arxiv.org/abs/{card.paper})"] if card.paper else []),
        f"{card.rows} rows",
        *([] if name in CARDS else [f"space: {_space(TRANSFORMS[name])}"]),
    ]
    lines = [f"### {card.title}\n", " · ".join(facts) + "\n", f"{card.says}\n", f"    {card.formula}\n"]
    if needed := _needed(name):
        lines.append(f"- Asks for: {', '.join(f'`{one}`' for one in needed)}")
    lines.append(f"- Defaults: {card.defaults}")
    if card.source:
        lines.append(f"- Source: {card.source}")
    lines += [f"- {host.name}: {host.differs or 'the same'}" for host in card.hosts]
    image = f"{IMAGES}/{name}.png"
    if (PAGE.parent / image).exists():
        lines.append(f"\n![{card.title} beside plain guidance]({image})")
    return "\n".join([*lines, ""])


def _signature(name: str) -> str:
    """Its text with every default written out, … for what has to be said."""
    fields = ", ".join(
        f"{field}={'…' if default is ... else _said(default)}" for field, default in _fields(name).items()
    )
    return f"{name}({fields})" if name != "constant" else "7.5"


def _needed(name: str) -> list[str]:
    return [] if name == "constant" else [field for field, default in _fields(name).items() if default is ...]


def _fields(name: str) -> dict[str, Any]:
    """Field -> default, ... for one that has none."""
    if name in PUBLISHED:
        parameters = inspect.signature(PUBLISHED[name]).parameters.values()
        return {one.name: ... if one.default is one.empty else one.default for one in parameters}
    owner = SHAPES[name] if name in SHAPES else TRANSFORMS[name]
    hidden = {"kind", "space", "strength"} - ({"strength"} if _own_strength(owner) else set())
    fields = {field: info for field, info in owner.model_fields.items() if field not in hidden}
    return {field: ... if info.is_required() else info.default for field, info in fields.items()}


def _own_strength(owner: Any) -> bool:
    return "strength" in owner.model_fields and owner.model_fields["strength"].default != 1


def _space(transform: type[Transform]) -> str:
    return SPACES[str(transform.model_fields["space"].default)]


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_said, value))}{',' if len(value) == 1 else ''})"
    return value if isinstance(value, str) and value.isidentifier() else number(value)


def anchor(title: str) -> str:
    """How GitHub names the anchor of a heading."""
    return "".join(one for one in title.lower().replace(" ", "-") if one.isalnum() or one in "-_")


def _not_here() -> str:
    lines = ["## Not here\n", "| method | paper | why |", "|---|---|---|"]
    for one in LEFT_OUT:
        paper = f"[arXiv:{one.paper}](https://arxiv.org/abs/{one.paper})" if one.paper else ""
        lines.append(f"| {one.title} | {paper} | {one.reason} |")
    return "\n".join([*lines, ""])
