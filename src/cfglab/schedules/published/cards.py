"""The facts about the published schedules for the methods page, by their name in text."""

from types import MappingProxyType

from cfglab.method_card import Card, Implementation

_WANG = "2404.13040"
_W0 = "none: w0 is the model's constant scale"
_REVERSED = Implementation(
    "A1111, sd-webui-incantations", "counts the other way, so that what rises in the paper falls there"
)

CARDS = MappingProxyType(
    {
        "constant": Card(
            title="Classifier-free guidance",
            says="The same scale at every step.",
            formula="w",
            paper="2207.12598",
            source="there c + omega (c - u), so omega = w - 1; u + w (c - u) is that of 2205.11487",
            defaults="none: it depends on the model; 7.5 is usual for Stable Diffusion 1.x",
            hosts=(
                Implementation("diffusers", "guidance_scale is w; some pipelines (Z-Image, Cosmos, Krea 2) have w - 1"),
                Implementation("ComfyUI"),
            ),
        ),
        "wang_linear": Card(
            title="Linear weight schedule",
            says="Guidance rises linearly.",
            formula="1 + 2 (w0 - 1) i / N",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults=_W0,
            hosts=(_REVERSED,),
        ),
        "wang_cosine": Card(
            title="Cosine weight schedule",
            says="Guidance rises along half a cosine.",
            formula="1 + (w0 - 1) (1 - cos(pi i / N))",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults=_W0,
            hosts=(_REVERSED,),
        ),
        "wang_inverse_linear": Card(
            title="Inverse linear weight schedule",
            says="Guidance falls linearly.",
            formula="1 + 2 (w0 - 1) (1 - i / N)",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults=_W0,
        ),
        "wang_sine": Card(
            title="Sine weight schedule",
            says="Guidance falls along half a cosine.",
            formula="1 + (w0 - 1) (1 + cos(pi i / N))",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults=_W0,
        ),
        "wang_v": Card(
            title="V-shaped weight schedule",
            says="High, low, high.",
            formula="1 + 4/3 (w0 - 1) max(i / N, 1 - i / N)",
            paper=_WANG,
            source="its weights omega are w - 1; the factor of the area is derived here",
            defaults=_W0,
        ),
        "wang_lambda": Card(
            title="Lambda-shaped weight schedule",
            says="Low, high, low.",
            formula="1 + 4 (w0 - 1) min(i / N, 1 - i / N)",
            paper=_WANG,
            source="its weights omega are w - 1; the factor of the area is derived here",
            defaults=_W0,
        ),
        "wang_clamp_linear": Card(
            title="Clamped linear weight schedule",
            says="The linear one, never below a floor.",
            formula="max(low, 1 + 2 (w0 - 1) i / N)",
            paper=_WANG,
            source="figure 1; its weights omega are w - 1",
            defaults="none: both depend on the model; figure 1 has w0 15, low 2",
            hosts=(_REVERSED,),
        ),
        "wang_clamp_cosine": Card(
            title="Clamped cosine weight schedule",
            says="The cosine one, never below a floor.",
            formula="max(low, 1 + (w0 - 1) (1 - cos(pi i / N)))",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults="none: both depend on the model",
            hosts=(_REVERSED,),
        ),
        "pcs": Card(
            title="Powered-cosine weight schedule",
            says="Guidance rises to the constant scale, early or late by the power.",
            formula="1 + (w0 - 1) (1 - cos(pi (i / N)^s)) / 2",
            paper=_WANG,
            source="its weights omega are w - 1",
            defaults="s 1 is the plain cosine; the paper tunes s per model",
        ),
        "limited_interval": Card(
            title="Guidance in a limited interval",
            says="Guidance in the middle of the noise levels, none outside.",
            formula="w where low < sigma <= high, off elsewhere",
            paper="2404.07724",
            source="kynkaat/guidance-interval; sigma is noise over signal",
            rows="2 inside, 1 outside",
            defaults="w 2, sigma 0.19 to 1.61: EDM2-XXL on ImageNet-512 for FID",
            hosts=(
                Implementation("diffusers", "guiders: start and stop as fractions of the steps, no sigma"),
                Implementation("ComfyUI", "percent of the run to sigma, by ConditioningSetTimestepRange"),
            ),
        ),
        "cutoff": Card(
            title="Step AG: a cut-off",
            says="Guidance in the first part of the run only.",
            formula="w where i / N < at, off from there",
            paper="2506.08351",
            source="the abstract",
            rows="2, then 1",
            defaults="none: w and the moment depend on the model",
            hosts=(
                Implementation(
                    "diffusers", "cut-off callbacks act when a step ends: one step more; they fail for batches above 1"
                ),
            ),
        ),
        "cfg_skip": Card(
            title="Skipped steps",
            says="Guidance in a share of the steps; a mode names the part that is skipped.",
            formula="w in int(N ratio) steps, off in the others",
            source="musubi-tuner, wan_generate_video.py",
            rows="2 in the guided steps, 1 in the others",
            defaults="none: w and the ratio depend on the model",
            hosts=(Implementation("musubi-tuner", "--cfg_skip_mode with --cfg_apply_ratio, for Wan and others"),),
        ),
        "phases": Card(
            title="Phases of noise",
            says="A scale for each phase of the run; phases end at noise levels.",
            formula="scales[i] as long as sigma >= sigma[i]",
            source="Wan2GP; Wan 2.2 in diffusers",
            rows="2; 1 in phases with w = 1",
            defaults="none: the levels are those of the model's experts",
            hosts=(
                Implementation(
                    "Wan2GP", "guidance phases; its switch threshold is a flow time: sigma = t / (1000 - t)"
                ),
                Implementation("diffusers", "guidance_scale and guidance_scale_2 of Wan 2.2, at boundary_ratio"),
            ),
        ),
        "late_start": Card(
            title="Late start",
            says="No guidance in the first part of the run.",
            formula="off, then w where i / N >= at",
            source="A1111's skip_early_cond, pull request 15607",
            rows="1, then 2",
            defaults="none",
            hosts=(Implementation("A1111", "as a setting"),),
        ),
        "beta": Card(
            title="Beta-CFG's time curve",
            says="A hump over the run; purely unconditional at both ends.",
            formula="scale Beta(a, b).pdf(i / (N - 1))",
            paper="2502.10574",
            source="ddim_geo_beta of gmum/beta-CFG; the norm of the update is `update_power`",
            defaults="a 2, b 3: the example of the code",
        ),
        "c2fg": Card(
            title="C2FG",
            says="Guidance grows exponentially towards the image.",
            formula="max exp(-rate (1 - i / N))",
            paper="2603.08155",
            source="its omega0 exp(lambda (1 - t)), as two descriptions quote it: max = omega0 e^lambda, rate = lambda",
            defaults="none: the paper chooses both per model, from lambda 0.03 to 1",
        ),
        "cfg_plus_plus": Card(
            title="CFG++",
            says="Denoise with guidance, renoise without: as a schedule of plain guidance.",
            formula="lam sigma / (sigma - sigma_down)",
            paper="2406.08070",
            source="its renoising, rewritten as a scale; exact for DDIM and Euler with linear combines",
            defaults="none: lam is between 0 and 1, 0.6 in the paper's example",
            hosts=(Implementation("ComfyUI", "samplers of their own, *_cfg_pp; exact ones are this"),),
        ),
        "cogvideox": Card(
            title="CogVideoX's dynamic guidance, as meant",
            says="Guidance rises late.",
            formula="1 + scale (1 - cos(pi (i / N)^5)) / 2",
            source="the class DynamicCFG of the authors' code, given the step",
            defaults="scale 6: the pipelines'",
        ),
        "cogvideox_shipped": Card(
            title="CogVideoX's dynamic guidance, as shipped",
            says="Guidance jumps between 1 and 1 + scale, to reproduce images.",
            formula="1 + scale (1 - cos(pi ((N - timestep) / N)^5)) / 2",
            source="use_dynamic_cfg of diffusers 0.42.1 (issue 9641)",
            defaults="scale 6: the pipelines'",
            hosts=(Implementation("diffusers"),),
        ),
        "ideogram4": Card(
            title="Ideogram 4's list",
            says="7, and 3 in the last steps.",
            formula="45 x 7, 3 x 3",
            source="diffusers 0.42.1, pipeline_ideogram4",
            defaults="for 48 steps; another list for 20",
            hosts=(
                Implementation("diffusers", "an unconditional network of its own"),
                Implementation("stable-diffusion.cpp", "3x3+7x45"),
            ),
        ),
    }
)
"""Title, formula and source of every published schedule; `constant` is plain guidance."""
