"""Tiny random models of diffusers' pipelines: one module a family, one `Case` a pipeline class.

A module of this package (except `parts`, what the families share) has one `FAMILY = Family(name, cases)`; it is found
by its being here. Nothing is read from the network; every weight is random, drawn from a fixed seed.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import diffusers

from cfglab.guidance import Guidance

Pipe = Any
Style = Literal["batched", "lists", "three parts", "two calls", "embedded"]
Order = Literal["uncond cond", "cond uncond", "other"]
Combine = Literal["u + g (c - u)", "u + (c - u) g", "c + g (c - u)", "lerp", "three parts", "none", "other"]
Prediction = Literal["epsilon", "v", "sample", "flow", "config"]


@dataclass(frozen=True)
class Case:
    """One pipeline class: how a tiny one is built and called, and what its own source does with guidance.

    `call(pipe, scale, *, steps=3, callback=None, images=1, negative=None, seed=0, **more)` runs the pipeline with a
    fixed generator and returns its latents (or, where it cannot return latents, its images) as one tensor, images
    first; `more` goes to the pipeline as it is and wins over what the case passes. `scale` is the pipeline's own:
    both of `scales` switch guidance on, and `scales[0] + offset` in cfglab's meaning of the word (1 is no guidance).
    """

    cls: str
    family: str
    build: Callable[[], Pipe]
    call: Callable[..., Any]
    scale_argument: str = "guidance_scale"
    scales: tuple[float, float] = (3.0, 5.0)
    off: float | None = 1.0  # the pipeline's own scale that switches its guidance off; None: it has none
    offset: float = 0.0  # our w = the pipeline's scale + offset
    denoisers: tuple[str, ...] = ("unet",)  # components, in the order in which they are used
    helpers: tuple[str, ...] = ()  # components called with the same rows before the denoiser (ControlNets)
    style: Style = "batched"
    order: Order = "uncond cond"  # rows of a batch, or calls of a step
    combine: Combine = "u + g (c - u)"
    prediction: Prediction = "flow"
    transforms: str = ""  # the methods that its own formula is made of beyond the scale
    variance: Literal["none", "discarded", "used"] = "none"  # a second half of the channels
    before: str = ""  # what is done to u and c before they are combined
    after: str = ""  # what is done to the combined prediction before scheduler.step
    exact: bool = True  # scheduler.step gets the combined prediction, but for dropped channels or tokens and the sign
    converts: bool = False  # scheduler.step is called twice a step, first to make x0
    apart: bool = False  # every frame has a copy of the sampler
    shares: bool = True  # rows may be left out
    runs: int = 1  # how often the steps are run for one call: chunks of a long video
    single: bool = False  # fails where more than one is asked for each prompt, by its own fault
    one: bool = False  # makes one for each prompt, whatever num_videos_per_prompt says
    requires: str = ""  # a package without which diffusers does not offer this pipeline
    variant: str = ""  # where one class is built in two ways
    slow: bool = False

    @property
    def name(self) -> str:
        """The class, with its variant."""
        return f"{self.cls}-{self.variant}" if self.variant else self.cls

    def guidance(self, schedule: Any) -> Guidance:
        """The guidance that is its own formula with these scales, in our meaning of the word."""
        return Guidance(schedule, Guidance(f"1 | {self.transforms}").transforms if self.transforms else ())

    def accepts(self, argument: str) -> bool:
        """Whether the pipeline takes this argument (callback_on_step_end, num_images_per_prompt, negative_prompt)."""
        with warnings.catch_warnings():  # of modules that are imported only now
            warnings.simplefilter("ignore")
            return argument in inspect.signature(getattr(diffusers, self.cls).__call__).parameters


@dataclass(frozen=True)
class Family:
    name: str
    cases: tuple[Case, ...]


@cache
def families() -> tuple[Family, ...]:
    """Every family of this package, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("parts"))
    return tuple(importlib.import_module(f"{__name__}.{name}").FAMILY for name in modules)


def cases() -> tuple[Case, ...]:
    """Every case, family by family."""
    return tuple(case for family in families() for case in family.cases)


def case(name: str) -> Case:
    """The case of that name (its class, with its variant); KeyError if there is none."""
    return {case.name: case for case in cases()}[name]
