"""A guidance of cfglab in SD.Next: copy this file into its folder `scripts`, and `pip install cfglab` beside it."""

import sys

import gradio as gr
from modules import scripts_manager, shared
from modules.logger import log

import cfglab
from cfglab.errors import CfglabError

AXIS = "[cfglab] Guidance"
FIELD = "cfglab guidance"
"""The field of the infotext, which `cfglab import` reads."""


class GuidanceScript(scripts_manager.Script):
    """Attaches the guidance to the pipeline before the images are generated, and takes it off afterwards."""

    def __init__(self):
        super().__init__()
        self.pipe = None

    def title(self):
        return "cfglab guidance"

    def show(self, is_img2img):
        return scripts_manager.AlwaysVisible

    def ui(self, _is_img2img):
        add_axis()
        with gr.Accordion("cfglab guidance", open=False):
            text = gr.Textbox(label="Guidance", placeholder="cosine(max=7.5, min=1, k=0.3) | apg()", value="", lines=1)
        return [text]

    def process(self, p, text="", *_args, **_kwargs):
        text = str(getattr(p, "cfglab_guidance", None) or text or "").strip()
        self.take_off()
        if not text:
            return
        try:
            cfglab.attach(shared.sd_model, text)
        except CfglabError as error:  # one line, and no image without the guidance that was asked for
            log.error(f"cfglab: {error}")
            shared.state.interrupted = True
            return
        self.pipe = shared.sd_model
        p.extra_generation_params[FIELD] = text

    def postprocess(self, p, processed, *_args, **_kwargs):
        self.take_off()

    def take_off(self):
        """Leave the pipeline as it was, also after a run that was interrupted."""
        if self.pipe is not None:
            cfglab.detach(self.pipe)
            self.pipe = None


def add_axis():
    """The axis of the XYZ grid, once."""
    for name, grid in list(sys.modules.items()):
        if "xyz_grid_classes" in name and all(option.label != AXIS for option in grid.axis_options):
            grid.axis_options.append(grid.AxisOption(AXIS, str, lambda p, x, xs: setattr(p, "cfglab_guidance", x)))
