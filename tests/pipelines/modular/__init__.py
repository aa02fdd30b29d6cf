"""Modular pipelines made of the parts of the tiny classic ones, so that both run the same networks."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.pipelines.families import Case, case, flux2, ltx, parts, qwenimage, sd3, sdxl, wan, z_image


@dataclass(frozen=True)
class Modular:
    """One Modular pipeline: its blocks, the case of the classic pipeline that is the same, and how both are called."""

    module: str
    blocks: str
    classic: str
    call: dict[str, Any]
    negative: str | None = "grey"
    guiders: tuple[str, ...] = ("guider",)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        return case(self.classic)

    def build(self, classic: Any = None) -> Any:
        """The Modular pipeline that ends with the latents, of the parts of `classic` (a fresh one if not given)."""
        wan_text = importlib.import_module("diffusers.modular_pipelines.wan.encoders")
        vars(wan_text).setdefault("ftfy", SimpleNamespace(fix_text=str))  # which it calls, installed or not
        blocks = getattr(importlib.import_module(f"diffusers.modular_pipelines.{self.module}"), self.blocks)()
        del blocks.sub_blocks["decode"]
        for encoder in blocks.sub_blocks["text_encoder"].sub_blocks.values():
            if hasattr(encoder, "prompt_template_encode"):  # as in the classic tiny pipeline
                encoder.prompt_template_encode, encoder.prompt_template_encode_start_idx = "{}", 0
        pipe = blocks.init_pipeline()
        components = (classic or self.case.build()).components
        pipe.vae = components["vae"]  # for the sizes of its images
        pipe.update_components(**{name: part for name, part in components.items() if name in pipe.components and part})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def use(self, pipe: Any, guider: Any) -> Any:
        """`pipe` with this guider in each place."""
        pipe.update_components(**dict.fromkeys(self.guiders, guider))
        return pipe

    def run(self, pipe: Any, *, steps: int = 3, seed: int = 0, **more: Any) -> list[Tensor]:
        """The latents after each call of scheduler.step."""
        call = {name: value for name, value in self.call.items() if name not in ("output_type", "scale_argument")}
        call |= {"negative_prompt": self.negative} if self.negative and "negative_prompt" not in call else {}
        call.pop("negative", None)
        call |= {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(seed)} | more
        with parts.calm(seed), recorded(pipe.scheduler) as latents:
            pipe(**call)
        return latents

    def run_classic(self, pipe: Any, w: float, **more: Any) -> list[Tensor]:
        """The same of the classic pipeline, whose own scale says what w says here."""
        negative = {} if self.negative is None else {"negative": self.negative}
        with recorded(pipe.scheduler) as latents:
            self.case.call(pipe, w - self.case.offset, **negative, **self.more, **more)
        return latents


@contextmanager
def recorded(scheduler: Any) -> Iterator[list[Tensor]]:
    """What `scheduler.step` gives, call by call."""
    plain, latents = scheduler.step, []

    def step(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        latents.append(output[0].clone())
        return output

    scheduler.step = step
    try:
        yield latents
    finally:
        del scheduler.step


MODULAR = {
    "SDXL": Modular(
        "stable_diffusion_xl",
        "StableDiffusionXLAutoBlocks",
        "StableDiffusionXLPipeline",
        {**sdxl.LATENT, "height": 16, "width": 16},
        more={"height": 16, "width": 16},
    ),
    "SDXL ControlNet": Modular(
        "stable_diffusion_xl",
        "StableDiffusionXLAutoBlocks",
        "StableDiffusionXLControlNetPipeline",
        {**sdxl.LATENT, "control_image": parts.pil(), "height": 16, "width": 16},
        more={"image": parts.pil()},
    ),
    "SD3": Modular("stable_diffusion_3", "StableDiffusion3AutoBlocks", "StableDiffusion3Pipeline", sd3.TEXT),
    "Qwen-Image": Modular("qwenimage", "QwenImageAutoBlocks", "QwenImagePipeline", qwenimage.TEXT),
    "Wan": Modular("wan", "WanBlocks", "WanPipeline", wan.CALL),
    "Wan 2.2": Modular("wan", "Wan22Blocks", "WanPipeline-two transformers", wan.CALL, guiders=("guider", "guider_2")),
    "LTX": Modular("ltx", "LTXBlocks", "LTXPipeline", ltx.CALL),
    "LTX image": Modular(
        "ltx",
        "LTXImage2VideoBlocks",
        "LTXImageToVideoPipeline",
        {**ltx.CALL, "image": parts.pil(32)},
        more={"image": parts.pil(32)},
    ),
    "Flux 2 Klein": Modular("flux2", "Flux2KleinBaseAutoBlocks", "Flux2KleinPipeline", flux2.TEXT, negative=None),
    "Flux 2 Klein edit": Modular(
        "flux2",
        "Flux2KleinBaseAutoBlocks",
        "Flux2KleinPipeline",
        {**flux2.TEXT, "image": parts.pil(64)},
        negative=None,
        more={"image": parts.pil(64)},
    ),
    "Z-Image": Modular("z_image", "ZImageAutoBlocks", "ZImagePipeline", z_image.TEXT),
}
