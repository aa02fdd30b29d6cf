"""`MinimalDiffusion` by its published name: one prompt, one image, over `cfglab.pipelines`."""

from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from PIL.Image import Image

from cf_guidance.transforms import GuidanceTfm
from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines import check_prompt, guide, load
from cfglab.pipelines.loading.quiet import StableDiffusionPipeline
from cfglab.schedules import Schedule
from min_diffusion.parts import CalledByIndex, GuideTfm, Part, copied_state, karras_sigmas, load_better_vae

__all__ = ["MinimalDiffusion"]

STATIC_SCALE = 7.5
PRECISIONS = ("fp16", "fp32")
NOT_CALLED = (
    "load_text_pieces",
    "load_vae",
    "load_unet",
    "load_scheduler",
    "to_device",
    "diffuse_step",
    "image_from_latents",
)
OLD_SAMPLER_NAMES = {"dpm_multi": "dpm++2m", "euler_ancestral": "euler-a"}


class MinimalDiffusion:
    """A Stable Diffusion model that draws one prompt under a guidance transform.

    Both published ways to construct it work: `MinimalDiffusion(name, device, dtype, generator=g)` (November 2022,
    samples with LMS) and `MinimalDiffusion(name, device, dtype, revision, …)` (0.0.3, samples with Euler).

    Args:
        model_name: a model on the hub (naming it is consent to download), a local folder, or "scenes", the bundled one.
        device: "cpu", "cuda", …
        dtype: torch.float32, torch.float16 or torch.bfloat16.
        revision: branch, tag or commit of a model on the hub. A local folder has none, and "fp16" and "fp32", which the
            notebooks name where there is no such branch, are left to `dtype`: there it only selects Euler.
        generator: where the starting latents come from. Its state is copied here, so that nothing that happens later
            (loading, drawing) changes them. Without it they are drawn from torch's own generator when they are needed,
            so `torch.manual_seed(s)` before the first `generate` chooses them, as in 0.0.3.
        use_k_diffusion: refused; `scheduler_kls` names the sampler.
        better_vae: "ema" or "mse" for the autoencoders of stability.ai, or a local folder with one.
        unet_attn_slice: attention in slices: less memory, slower.
        scheduler_kls: "lms", "euler", "euler_ancestral", "dpm_multi", or any sampler that cfglab knows by name.

    `init_latents` are the starting latents, (1, channels, height, width) in latents, float32 on the CPU, shared by all
    images. They are drawn at the first image and where another size is asked for: one size always starts from the
    same latents, until `set_initial_latents` is called.

    A subclass may override `load`, `generate`, `encode_text`, `get_initial_latents` and `set_initial_latents`; one that
    overrides a method which nothing calls here raises InputError.
    """

    tokenizer, text_encoder, vae, unet, scheduler = Part(), Part(), Part(), Part(), Part()
    guide_tfm: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if unused := [name for name in NOT_CALLED if name in vars(cls)]:
            raise InputError(
                f"class {cls.__name__} overrides {', '.join(unused)}: nothing calls that here, a pipeline of diffusers "
                "does the work; change its parts after load() (model.vae, .unet, .scheduler, .text_encoder), or "
                "override generate."
            )

    def __init__(
        self,
        model_name: str,
        device: str | torch.device,
        dtype: torch.dtype,
        revision: str | torch.Generator | EllipsisType | None = ...,
        generator: torch.Generator | None = None,
        use_k_diffusion: str = "",
        better_vae: str = "",
        unet_attn_slice: bool = True,
        scheduler_kls: str | None = None,
    ) -> None:
        if isinstance(revision, torch.Generator):  # the fourth by position in November 2022
            generator, revision = revision, ...
        if use_k_diffusion:
            raise InputError(
                f"use_k_diffusion={use_k_diffusion!r}: samplers of k-diffusion are not used here; "
                "name one of diffusers with scheduler_kls, as in scheduler_kls='heun'."
            )
        self.model_name = model_name
        self.device = device
        self.dtype = dtype
        self.revision = None if revision is ... else revision
        self.generator = generator
        self.better_vae = better_vae
        self.unet_attn_slice = unet_attn_slice
        self.scheduler_kls = scheduler_kls or ("lms" if revision is ... else "euler")
        self.pipe: StableDiffusionPipeline | None = None
        self.init_latents: torch.Tensor | None = None
        self.use_k_diffusion = use_k_diffusion
        self._drawn: dict[tuple[int, int], torch.Tensor] = {}
        self._noise = copied_state(generator)

    def load(
        self, unet_attn_slice: bool | None = None, better_vae: str | None = None, *, allow_pickle: bool = False
    ) -> None:
        """Load the model; `generate` does it if nobody did. The arguments (November 2022) replace the constructor's.

        `allow_pickle` reads a model that has no safetensors, with weights-only loading. Raises what `cfglab.load` does.
        """
        if unet_attn_slice is not None:
            self.unet_attn_slice = unet_attn_slice
        if better_vae is not None:
            self.better_vae = better_vae
        with torch.random.fork_rng(devices=[]):  # what loading draws is not the user's
            self.pipe = self._load_pipe(allow_pickle)

    def _load_pipe(self, allow_pickle: bool) -> StableDiffusionPipeline:
        pipe = load(
            self.model_name,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            sampler=OLD_SAMPLER_NAMES.get(self.scheduler_kls, self.scheduler_kls),
            revision=None if self.revision in PRECISIONS or Path(self.model_name).exists() else self.revision,
            allow_pickle=allow_pickle,
        )
        if self.better_vae:
            pipe.vae = load_better_vae(self.better_vae, pipe)
        if self.unet_attn_slice:
            pipe.enable_attention_slicing()
        return pipe

    def loaded(self) -> Any:
        """The diffusers pipeline underneath, loaded if it was not."""
        if self.pipe is None:
            self.load()
        return self.pipe

    def generate(
        self,
        prompt: str,
        guide_tfm: GuideTfm | Guidance | Schedule | float | str | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int = 50,
        use_karras_sigmas: bool = False,
        *,
        negative_prompt: str = "",
        generator: torch.Generator | None = None,
    ) -> Image:
        """Draw `prompt` in `steps` steps, `width` by `height` pixels (default: the model's own size).

        Args:
            guide_tfm: called with the unconditional prediction, the conditional one, both (1, channels, …), and the
                index of the step; returns the guided prediction. The index runs from 0 to `steps` - 1, one a step, also
                where the sampler calls the model twice in a step. A guidance of cfglab, its schedule, its text or a
                number will do too. Default: the scale 7.5 at every step.
            use_karras_sigmas: the sampler's noise levels as in Karras et al. (2022). In 0.0.3 only samplers of
                k-diffusion read it.
            generator: for noise that the sampler adds on the way ("euler_ancestral"); `init_latents` stay as they are.

        Raises InputError for a schedule shorter than the run, for a size other than that of latents that were set, and
        for a sampler without Karras' noise levels where they are asked for.
        """
        if not isinstance(prompt, str):
            raise InputError(f"prompt {prompt!r}: one text draws one image; call generate once for each.")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"{steps!r} steps: a run has at least one step, a whole number; ask for 1 or more.")
        if isinstance(guide_tfm, GuidanceTfm):
            guide_tfm.scheduler("g", steps - 1)
        pipe = self.loaded()
        latents = self._starting_latents(width, height)
        self.guide_tfm = guide_tfm
        with karras_sigmas(pipe, use_karras_sigmas), guide(pipe, _as_guidance(guide_tfm)):
            picture: Image = pipe(
                prompt_embeds=self.encode_text(prompt),
                negative_prompt_embeds=self.encode_text(negative_prompt),
                latents=latents.to(pipe.device, self.dtype),
                height=latents.shape[-2] * pipe.vae_scale_factor,
                width=latents.shape[-1] * pipe.vae_scale_factor,
                num_inference_steps=steps,
                generator=generator,
            ).images[0]
        return picture

    def encode_text(self, prompts: str | list[str], maxlen: int | None = None) -> torch.Tensor:
        """The text encoder's output, (texts, tokens, features).

        A text longer than `maxlen` tokens is cut; without `maxlen`, a text longer than the encoder reads is refused
        with an InputError that says what would be lost.
        """
        pipe = self.loaded()
        if maxlen is None:
            maxlen = int(pipe.tokenizer.model_max_length)
            for text in [prompts] if isinstance(prompts, str) else prompts:
                check_prompt(pipe, text)
        inputs = pipe.tokenizer(prompts, padding="max_length", max_length=maxlen, truncation=True, return_tensors="pt")
        with torch.no_grad():
            encoded: torch.Tensor = pipe.text_encoder(inputs.input_ids.to(pipe.device))[0]
        return encoded

    def set_initial_latents(self, latents: torch.Tensor | None) -> None:
        """Start every image from these latents, (1, channels, height, width); None: from drawn ones again."""
        self.init_latents = latents
        self._drawn = {}

    def get_initial_latents(self, height: int, width: int) -> torch.Tensor:
        """Starting latents of that size in pixels: float32, on the CPU.

        The same at every call where the model was given a generator, drawn from torch's own at every call where not.
        """
        factor = self.loaded().vae_scale_factor
        unit = max(8, factor)
        for name, pixels in (("height", height), ("width", width)):
            if pixels < unit or pixels % unit:
                raise InputError(
                    f"{name}={pixels}: a multiple of {unit} pixels, {unit} or more; leave it out for the model's own."
                )
        noise = None
        if self._noise is not None:
            noise = torch.Generator()
            noise.set_state(self._noise)
        return torch.randn((1, self.unet.config.in_channels, height // factor, width // factor), generator=noise)

    def _starting_latents(self, width: int | None, height: int | None) -> torch.Tensor:
        """`init_latents`: those that were set, or drawn ones of this size."""
        factor = self.loaded().vae_scale_factor
        latents = self.init_latents
        if latents is not None and not any(latents is drawn for drawn in self._drawn.values()):
            size = (latents.shape[-1] * factor, latents.shape[-2] * factor)
            wanted = (width or size[0], height or size[1])
            if latents.ndim != 4 or len(latents) != 1 or wanted != size:
                raise InputError(
                    f"an image of {wanted[0]} x {wanted[1]} pixels from latents of shape {tuple(latents.shape)}: "
                    f"(1, channels, height / {factor}, width / {factor}) fits; set others, or None to draw them."
                )
            return latents
        own = self.unet.config.sample_size
        rows, columns = (own, own) if isinstance(own, int) else own
        size = (width or columns * factor, height or rows * factor)
        if size not in self._drawn:
            self._drawn[size] = self.get_initial_latents(size[1], size[0])
        self.init_latents = self._drawn[size]
        return self.init_latents


def _as_guidance(guide_tfm: Any) -> Any:
    """What `cfglab.guide` takes: its own values as they are, a transform of the notebook called by the index."""
    if guide_tfm is None:
        return STATIC_SCALE
    if isinstance(guide_tfm, Guidance | Schedule | float | int | str):
        return guide_tfm
    return CalledByIndex(guide_tfm)
