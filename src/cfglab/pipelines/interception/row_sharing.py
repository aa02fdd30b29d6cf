"""Whether a run may skip rows and run equal rows once.

It may if no part of the network reads several rows together and every argument is known. Otherwise all rows run, and
one warning gives the reason."""

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from cfglab.denoising.trace import StepRecord
from cfglab.guidance import Perturbation
from cfglab.guidance.perturbations.weak_models import WeakModelPass, weak_model
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.row_mixing import Watched

_DETERMINED = {
    *("DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    *("DEISMultistepScheduler", "UniPCMultistepScheduler"),
    *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
}
"""Samplers that add no noise, as their configuration says."""

_EDITS_LATENTS = re.compile(
    r"(?!num_images|image_guidance|callback_steps|\w*_tensor_inputs)\w*(image|mask|video|callback)\w*"
)
"""Arguments by which the loop of a pipeline may treat equal images in different ways."""


def is_determined(pipe: Any, arguments: dict[str, Any]) -> bool:
    """Whether equal images with equal predictions stay equal: no noise, no callback, no image to be edited.

    Args:
        pipe: The pipeline.
        arguments: The arguments of its call by name.

    Returns:
        True for the pipelines and samplers of diffusers of which it is known.
    """
    scheduler = pipe.scheduler
    config: Any = getattr(scheduler, "config", {})
    return (
        type(scheduler).__name__ in _DETERMINED
        and all(type(value).__module__.startswith("diffusers.") for value in (pipe, scheduler))
        and not str(config.get("algorithm_type", "")).startswith("sde")
        and not config.get("stochastic_sampling")
        and not arguments.get("eta")
        and not any(value is not None and _EDITS_LATENTS.fullmatch(name) for name, value in arguments.items())
    )


class Sharing:
    """Whether a run may skip rows and run equal ones once.

    Args:
        pipe: The pipeline.
        names: The components to watch.
        share: The user's `share_rows`: True and False are followed, None leaves it to the networks.
        cached: Whether the denoiser has a cache over the steps.
    """

    def __init__(self, pipe: Any, names: tuple[str, ...], share: bool | None, cached: bool) -> None:
        self._pipe, self._share = pipe, share
        networks = {name: getattr(pipe, name, None) for name in names}
        self._watched = {name: Watched(network) for name, network in networks.items() if isinstance(network, nn.Module)}
        self._weak_networks: dict[str, Watched] = {}
        self._is_read = False
        self.reason = ""
        """Why all rows are run, from the call at which it was found to the end of the run; "" where they are not."""
        self.advice = "pass share_rows=True to guide() if the rows are independent all the same"
        if share is False:
            self.reason = "share_rows=False"
        elif cached:
            self.reason, self.advice = "the denoiser has a cache over the steps, which", ""

    def together(
        self, call: DenoiserCall, variations: Iterable[Perturbation | None] = (), *, helper: bool = False
    ) -> bool:
        """Whether a call runs all rows. Asked at every call: hooks and processors may be set during a run.

        Args:
            call: The call.
            variations: The perturbed passes of its step.
            helper: True for the call of a ControlNet.

        Returns:
            True if all rows run.
        """
        if not self.reason and self._share is None and not self._is_read:
            for name, watched in self._watched.items():
                if reason := watched.reason():
                    self.reason = f"in {name} {reason}"
                    break
        self._is_read = helper  # the denoiser's call follows at once
        for variation in variations:
            if not self.reason and self._share is None and isinstance(variation, WeakModelPass):
                self._read_weak_model(variation.model, call.module)
        if not self.reason and (name := call.unknown):
            self.reason = f"{name!r} among the arguments of {type(call.module).__name__}"
            self.advice = f"pass a Profile with rows=({name!r},) or whole=({name!r},) to guide() if you know"
        return bool(self.reason)

    def warn(self) -> bool:
        """Warn that all rows run, and why.

        Returns:
            False if there is no reason to warn, or the user chose it.
        """
        if not self.reason or self._share is False:
            return False
        doubt = "may hold rows or not" if "among the arguments" in self.reason else "may mix the rows of a batch"
        advice = f"; {self.advice}" if self.advice else ""
        warnings.warn(f"every row is run at every step of this run: {self.reason} {doubt}{advice}.", stacklevel=2)
        return True

    def _read_weak_model(self, name: str, denoiser: nn.Module) -> None:
        """A weaker network of a transform may mix rows where the denoiser does not."""
        network = weak_model(name, denoiser)
        if not isinstance(network, nn.Module):
            self.reason = f"the weak model {name} is no module that can be read, and"
        elif reason := self._weak_networks.setdefault(name, Watched(network)).reason():
            self.reason = f"in the weak model {name} {reason}"


def all_rows(record: StepRecord, plain: float, rows_run: float, perturbed_rows: int | None) -> dict[str, Any]:
    """The row counts of a record if all rows were run.

    Args:
        record: The record.
        plain: The rows per image that the pipeline has for it.
        rows_run: The rows per image that were run.
        perturbed_rows: The rows per image of perturbed passes; None if they ran the rows of the record.

    Returns:
        The fields of the record to replace.
    """
    perturbed_per_image = [
        sum(share) - 2 if perturbed_rows is None else float(perturbed_rows) for share in record.shares
    ]
    images = len(perturbed_per_image)
    return {
        "rows_run": round(images * rows_run + sum(perturbed_per_image)),
        "rows_saved": round(images * (plain - rows_run)),
        "rows_varied": round(sum(perturbed_per_image)),
        "shares": tuple((rows_run + perturbed, plain - rows_run) for perturbed in perturbed_per_image),
    }


def has_cache(module: nn.Module) -> bool:
    """Whether blocks of this denoiser keep results of an earlier step (FirstBlockCache, PAB, ...).

    Args:
        module: The denoiser.

    Returns:
        True if a cache is enabled or one of diffusers' caching hooks is set.
    """
    if getattr(module, "is_cache_enabled", False):
        return True
    return any("cache" in name or "broadcast" in name for name in _hook_names(module))


def _hook_names(module: nn.Module) -> Iterator[str]:
    """The names of diffusers' hooks on a module and all in it; `module.modules()` takes ten times as long."""
    pending = [module]
    while pending:
        part = pending.pop()
        if (registry := vars(part).get("_diffusers_hook")) is not None:
            yield from registry.hooks
        pending += part.children()
