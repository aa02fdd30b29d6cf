"""A guidance of cfglab in reForge: as `extensions/cfglab/scripts/cfglab_guidance.py`, with `pip install cfglab`."""

import gradio as gr
import torch
from ldm_patched.modules import model_sampling, samplers
from modules import scripts

from cfglab import Guidance, Host, SigmaSteps
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.errors import CfglabError

KINDS = (("CONST", "flow", "flow"), ("V_PREDICTION", "vp", "v"), ("EPS", "vp", "epsilon"))


class GuidanceScript(scripts.Script):
    """Patches a clone of the UNet before every sampling: the hooks of that sampling alone."""

    def title(self):
        return "cfglab guidance"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, *_args, **_kwargs):
        with gr.Accordion(open=False, label=self.title()):
            return [gr.Textbox(label="Guidance", placeholder="cosine(max=7.5, min=1, k=0.3) | apg()", value="")]

    def process_before_every_sampling(self, p, text="", *_args, **_kwargs):
        if not (text := (text or "").strip()):
            return
        unet = p.sd_model.forge_objects.unet.clone()
        hooks = Hooks(p, text, unet)
        unet.set_model_sampler_calc_cond_batch_function(hooks.calc)
        unet.set_model_sampler_post_cfg_function(hooks.post, disable_cfg1_optimization=True)
        after = unet.model_options["sampler_post_cfg_function"]  # the guided prediction first, then other patches
        unet.model_options["sampler_post_cfg_function"] = [after[-1], *after[:-1]]
        p.sd_model.forge_objects.unet = unet
        p.extra_generation_params["cfglab guidance"] = text


class Hooks:
    """One sampling: `calc` runs the predictions that the step needs, `post` gives the guided one. All are x0."""

    def __init__(self, p, text, unet):
        self.p, self.rows, self.calls, self.fault = p, None, 0, None
        try:
            self.guidance = Guidance(text)
            sampling = unet.get_model_object("model_sampling")
            kind = next((k for k in KINDS if isinstance(sampling, getattr(model_sampling, k[0]))), None)
            if kind is None or isinstance(sampling, model_sampling.EDM):
                raise CfglabError(f"{type(sampling).__name__} has another noise path; use an EPS, V or flow model.")
            self.path, self.model, self.data = *kind[1:], float(getattr(sampling, "sigma_data", 1.0))
            Host("reForge").check(self.guidance, self.path)
        except CfglabError as error:  # raised at the first call, where the page shows it
            self.fault = error

    def calc(self, args):
        if self.fault is not None:
            raise RuntimeError(f"cfglab: {self.fault}")
        x, (cond, uncond), images = args["input"], args["conds"], len(args["input"])
        if self.rows is None:
            sigmas = self.p.sampler.get_sigmas(self.p, self.p.steps).tolist()
            self.steps = SigmaSteps(sigmas, self.path, sigma_data=self.data)
            self.rows = GuidedRows([self.guidance] * images, "x0", model=self.model)
        ending = getattr(self.p.sampler, "funcname", "") == "sample_heun" and self.calls % 2 == 1
        step, self.calls = self.steps.at(float(args["sigma"][0]), ending=ending), self.calls + 1
        rows = self.rows.needed_rows(step)[None]
        with_cond, with_uncond = max(rows, default=-1) >= images, min(rows, default=images) < images
        needed = [cond if with_cond else None, uncond if with_uncond else None]
        out = samplers.calc_cond_batch(args["model"], needed, x, args["sigma"], args["model_options"])
        pair = torch.cat([out[1], out[0]])
        seen = self.steps.network_input(x, step)
        self.guided, _ = self.rows.predict(
            step, torch.cat([seen, seen]), (), lambda rows, _: pair if rows is None else pair[rows], separate=True
        )
        return [out[0 if with_cond else 1], out[1 if with_uncond else 0]]

    def post(self, args):
        return self.guided
