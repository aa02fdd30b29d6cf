"""A guided denoiser without a network: a Guide combines two exact predictions, step by step."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.guidance.names import Space
from cfglab.mixtures.noise_paths import noise_of
from cfglab.mixtures.text_conditioned import TextConditionedMixture
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

    from cfglab.guidance import Perturbation


class Denoiser(Protocol):
    """A Mixture, or another object that predicts."""

    def predict(self, x: "Tensor", step: Step, space: Space) -> "Tensor":
        """The prediction for x.

        Args:
            x: (n, ...).
            step: The step, with sigma and alpha.
            space: The parameterization.

        Returns:
            A tensor of the shape and dtype of x.
        """


class MixtureCall(NamedTuple):
    """One denoiser call for all samples of a run.

    Attributes:
        step: The index of the step.
        sigma: Noise over signal.
        w: The scale, the mean over the samples.
        difference: The mean L2 norm of cond - uncond; NaN if one of them was not run.
        cosine: The mean cosine of the angle between them; NaN if one of them was not run.
        rows_run: Rows run, of all samples.
        rows_saved: Rows skipped, of all samples.
    """

    step: int
    sigma: float
    w: float
    difference: float
    cosine: float
    rows_run: int
    rows_saved: int


class GuidedMixture:
    """The guided prediction of one run of n samples with one guidance.

    No two samples are equal, so rows are not shared. Unneeded predictions are skipped.

    Args:
        cond: The conditional denoiser.
        uncond: The unconditional denoiser.
        guidance: The guidance.
        space: The parameterization in which the predictions are combined.
        count: n, the number of samples.

    Attributes:
        calls: The records of the denoiser calls.
    """

    def __init__(self, cond: Denoiser, uncond: Denoiser, guidance: Guidance, space: Space, count: int) -> None:
        self.cond, self.uncond, self.space = cond, uncond, space
        self.calls: list[MixtureCall] = []
        guide = guidance.start(space)
        self._guides = [guide, *(guidance.start(space) for _ in range(count - 1))] if guide.per_image else [guide]

    def __call__(self, x: "Tensor", step: Step) -> "tuple[Tensor, Tensor]":
        """x0 and epsilon, both (n, ...)."""
        from cfglab.guidance.parameterization import convert

        guided = self.predict(x, step)
        a, n = noise_of(step)
        x0 = convert(guided, x, step, self.space, "x0")
        return x0, guided if self.space == "epsilon" else (x - a * x0) / n

    def predict(self, x: "Tensor", step: Step) -> "Tensor":
        """The guided prediction for x.

        Args:
            x: (n, ...), at the noise level of the step.
            step: The step, with sigma and alpha.

        Returns:
            (n, ...), in the run's parameterization.

        Raises:
            InputError: The guidance needs a further text, or cannot be computed in this parameterization.
        """
        import torch

        chunk = len(x) // len(self._guides)
        parts, means, rows_run, rows_planned = [], [], 0, 0
        for guide, rows in zip(self._guides, x.split(chunk), strict=True):
            plan = guide.plan(step)
            uncond = self._predict(self.uncond, rows, step, None) if plan.uncond else None
            cond = self._predict(self.cond, rows, step, None) if plan.cond else None
            extras = {
                perturbation: self._predict(getattr(self, perturbation.source), rows, step, perturbation)
                for perturbation in plan.passes
            }
            parts.append(guide.combine(uncond, cond, step, rows, extras))
            means.append(
                [torch.as_tensor(guide.w, dtype=torch.float64).mean().item(), *_difference_and_cosine(uncond, cond)]
            )
            rows_run += (plan.uncond + plan.cond + len(extras)) * len(rows)
            rows_planned += (2 + len(extras)) * len(rows)
        w, difference, cosine = torch.tensor(means, dtype=torch.float64).mean(0).tolist()
        self.calls.append(
            MixtureCall(step.index, float(step.sigma or 0.0), w, difference, cosine, rows_run, rows_planned - rows_run)
        )
        return torch.cat(parts)

    def _predict(self, denoiser: Denoiser, x: "Tensor", step: Step, variation: "Perturbation | None") -> "Tensor":
        if variation is None:
            return denoiser.predict(x, step, self.space)
        if getattr(variation, "prompt", None) is not None and not getattr(variation, "beside", False):
            raise InputError(
                f"{variation!r} on a {type(denoiser).__name__}: it asks for a prediction for a further text, and there "
                "are two here, with and without the class; use a pipeline, guide(pipe, …)."
            )
        texts = denoiser.texts(len(x)) if isinstance(denoiser, TextConditionedMixture) else {}
        inputs: Any = variation.inputs(x, step.timestep, texts)
        with variation.applied(denoiser) as changed:
            return changed.predict(inputs[0], step, self.space, **inputs[2])


def _difference_and_cosine(uncond: "Tensor | None", cond: "Tensor | None") -> tuple[float, float]:
    """Mean length of cond - uncond, and mean cosine of their angle."""
    from torch.nn.functional import cosine_similarity

    if uncond is None or cond is None:
        return math.nan, math.nan
    u, c = uncond.flatten(1), cond.flatten(1)
    return (c - u).norm(dim=1).mean().item(), cosine_similarity(c, u, dim=1).mean().item()
