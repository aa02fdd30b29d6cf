"""The model of the playground, shared by everybody who has the page open: one call of it at a time."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cfglab import limits
from cfglab.errors import CfglabError, InputError, MachineError, is_memory_error
from cfglab.experiments.spec.document import check_steps
from cfglab.guidance import Guidance
from cfglab.pipelines.loading.samplers import SAMPLERS, make_sampler
from cfglab.scenes import ARGUMENTS
from cfglab.schedules.fields import nearest, shown

MODEL_SAMPLER = "the model's"
SAMPLER = "euler"
"""The sampler that the page begins with: models that predict the noise and those that predict a flow have it."""
STEPS = 150
"""The most steps of one image on the page."""
PREVIEWS = 6
"""How often an image is decoded before it is complete."""
PICTURED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")
"""The pipelines whose latents are decoded between two steps."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Images to generate: one for each guidance, from the same prompt and the same starting noise."""

    prompt: str
    guidances: tuple[Guidance, ...]
    seed: int = 0
    steps: int = 20
    sampler: str = SAMPLER

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= limits.LARGEST_SEED:
            raise InputError(f"seed {shown(self.seed)}: it is a whole number from 0 to 2^64 - 1; write 0.")
        check_steps(self.steps)
        if self.steps > STEPS:
            raise InputError(f"steps {shown(self.steps)}: this page runs at most {STEPS}; write 20.")
        if len(self.prompt) > limits.PROMPT_CHARACTERS:
            raise InputError(
                f"a prompt of {len(self.prompt):,} characters: it has at most {limits.PROMPT_CHARACTERS:,}; shorten it."
            )
        if self.sampler != MODEL_SAMPLER and self.sampler not in SAMPLERS:
            hint = nearest(self.sampler, SAMPLERS) or " name one."
            raise InputError(f"sampler {shown(self.sampler)}: there are {', '.join(SAMPLERS)};{hint}")
        for guidance in self.guidances:
            guidance.schedule.values(self.steps) if _needs_no_sigma(guidance) else None


@dataclass(frozen=True, slots=True)
class Frame:
    """What is there after a step: the images (None where this step was not decoded) and the trace so far."""

    step: int
    steps: int
    images: tuple[Any, ...] | None
    trace: Any
    seconds: float = 0.0
    done: bool = False


class _Stopped(Exception):
    """The page does not want the image any more."""


@dataclass
class Engine:
    """A model that is loaded when it is first needed.

    Attributes:
        model: "scenes", "scenes-flow", a model folder, or a hub id.
        device: a torch device, or "auto".
        dtype: "float32", "float16" or "bfloat16".
        hub: the options `revision` and `allow_pickle` of `cfglab.load`.
        lock: held while the model works.
    """

    model: str = "scenes"
    device: str = "auto"
    dtype: str = "float32"
    hub: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _pipe: Any = None
    _scheduler: Any = None

    def pipe(self) -> Any:
        """The pipeline; call it with the lock held.

        Raises:
            InputError: the model cannot be read.
            MachineError: the model does not fit into memory.
        """
        if self._pipe is None:
            from cfglab.pipelines import load

            pipe = load(self.model, device=self.device, dtype=self.dtype, **self.hub)
            if type(pipe).__name__ not in PICTURED:
                raise InputError(
                    f"model {self.model!r:.200}: a {type(pipe).__name__}, and the playground shows steps of "
                    f"{', '.join(PICTURED)}; cfglab run generates with this one."
                )
            pipe.set_progress_bar_config(disable=True)
            self._pipe, self._scheduler = pipe, pipe.scheduler
        return self._pipe

    def warm_up(self) -> threading.Thread:
        """Load the model in the background, so that the first image does not wait for it."""

        def load() -> None:
            with suppress(Exception), self.lock:  # what is wrong is shown when an image is asked for
                self.pipe()

        thread = threading.Thread(target=load, daemon=True, name="cfglab-load")
        thread.start()
        return thread

    def frames(self, request: ImageRequest) -> Iterator[Frame]:
        """Generate, step by step. Closing the iterator stops the model at the next step.

        Args:
            request: what to generate.

        Returns:
            An iterator of Frames; the last one is `done` and has all images.

        Raises:
            CfglabError: in one line, whatever went wrong.
        """
        frames: queue.Queue[Frame | BaseException] = queue.Queue()
        stop = threading.Event()

        def work() -> None:
            try:
                with self.lock:
                    if not stop.is_set():
                        self._generate(request, frames.put, stop)
            except _Stopped:
                pass
            except BaseException as error:
                frames.put(error)

        thread = threading.Thread(target=work, daemon=True, name="cfglab-generate")
        thread.start()
        try:
            while True:
                item = frames.get()
                if isinstance(item, BaseException):
                    raise explained(item) from item
                yield item
                if item.done:
                    return
        finally:
            stop.set()

    def _generate(self, request: ImageRequest, put: Any, stop: threading.Event) -> None:
        import torch

        from cfglab.pipelines import check_prompt, guide

        pipe = self.pipe()
        check_prompt(pipe, request.prompt)
        self.use_sampler(request.sampler)
        count = len(request.guidances)
        factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
        denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        size = denoiser.config.sample_size
        generators = [torch.Generator("cpu").manual_seed(request.seed) for _ in range(count)]
        shape = (1, denoiser.config.in_channels, size, size)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        every = max(1, -(-request.steps // PREVIEWS))
        begin = time.perf_counter()

        def after_step(_pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if stop.is_set():
                raise _Stopped
            if index + 1 < request.steps:
                images = decoded(pipe, tensors["latents"]) if (index + 1) % every == 0 else None
                put(Frame(index + 1, request.steps, images, trace, time.perf_counter() - begin))
            return {}

        with torch.no_grad(), guide(pipe, list(request.guidances)) as trace:
            latents = pipe(
                [request.prompt] * count,
                height=size * factor,
                width=size * factor,
                num_inference_steps=request.steps,
                guidance_scale=7.5,  # guide() sets the scale; this only has to be above 1
                latents=noise.to(pipe.device, denoiser.dtype),
                generator=generators,
                output_type="latent",
                callback_on_step_end=after_step,
                **ARGUMENTS.get(self.model, {}),
            ).images
            images = decoded(pipe, latents)
        put(Frame(request.steps, request.steps, images, trace, time.perf_counter() - begin, done=True))

    def use_sampler(self, name: str) -> None:
        """Give the pipeline a new scheduler. Call it with the lock held."""
        self.pipe().scheduler = self._sampler(name)

    def _sampler(self, name: str) -> Any:
        """A new scheduler for one call: the model's own, or another on its noise schedule."""
        if name == MODEL_SAMPLER:
            return type(self._scheduler).from_config(self._scheduler.config)
        return make_sampler(name, self._scheduler.config)


def decoded(pipe: Any, latents: Any) -> tuple[Any, ...]:
    """Latents (n, c, h, w) as PIL images."""
    import torch
    from PIL import Image

    config = pipe.vae.config
    latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    with torch.no_grad():
        pixels = pipe.vae.decode(latents.to(pipe.vae.dtype), return_dict=False)[0].float().cpu()
    levels = ((torch.nan_to_num(pixels) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return tuple(Image.fromarray(image.permute(1, 2, 0).numpy()) for image in levels)


def explained(error: BaseException) -> CfglabError:
    """An error as one line for the page."""
    if isinstance(error, CfglabError):
        return error
    if is_memory_error(error):
        return MachineError("the model does not fit into memory; close other programs, or start with a smaller model.")
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
    return MachineError(f"{type(error).__name__}: {line}; the server's terminal has more, the page goes on.")


def _needs_no_sigma(guidance: Guidance) -> bool:
    """Whether w can be computed without the noise levels of a run."""
    try:
        guidance.schedule.values(2)
    except InputError as error:
        return "sigma" not in str(error)
    return True
