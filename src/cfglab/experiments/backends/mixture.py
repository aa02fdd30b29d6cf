"""The backend of a mixture such as `mixture:tree`: a cell is a set of samples. Importing loads no torch.

A prompt names a class, `class 0`. The image of a cell shows 256 samples of this class, from 256 seeds that belong to
the cell, and its metrics are exact. Settings, pairs, resuming and the report work as with images of a pipeline.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.backends.base import BatchResult
from cfglab.experiments.backends.scatter_plot import class_density, scatter_plot
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import (
    LARGEST_SIGMA,
    MIXTURE_METHODS,
    MIXTURE_PREFIX,
    MIXTURE_SAMPLES,
    SMALLEST_SIGMA,
    mixture_facts,
)
from cfglab.experiments.spec.prompts import NOISES, refuse_same_noise
from cfglab.experiments.storage.traces import CellTrace
from cfglab.mixtures import toys
from cfglab.schedules.fields import shown

if TYPE_CHECKING:
    from cfglab.mixtures.metrics import ExactMetrics
    from cfglab.mixtures.mixture import Mixture

WEAK_VARIANCE = 0.006
"""The variance that the weak model `blurred` adds."""


def sample_seeds(seed: int) -> list[int]:
    """Return the seeds of the samples of a cell: MIXTURE_SAMPLES from MIXTURE_SAMPLES * seed on, modulo 2**63."""
    return [(seed * MIXTURE_SAMPLES + sample) % 2**63 for sample in range(MIXTURE_SAMPLES)]


class MixtureBackend:
    """The backend of a mixture.

    Args:
        model: a name such as `mixture:tree`.
        device: "cpu", or "auto", which is the same.

    Raises:
        InputError: with the nearest name, if there is no such mixture; or for another device.
    """

    device = "cpu"

    def __init__(self, model: str, device: str = "auto") -> None:
        from cfglab.guidance import register_weak_model

        if device not in ("auto", self.device):
            raise InputError(f"device {shown(device)}: a mixture runs on the CPU; use auto or cpu.")
        mixture_facts(model)
        self.toy = toys.toy(model.removeprefix(MIXTURE_PREFIX))
        register_weak_model("blurred", lambda mixture: mixture.blurred(WEAK_VARIANCE))
        self._metrics: dict[int, ExactMetrics] = {}
        self._densities: dict[tuple[int, int], NDArray[np.float32]] = {}

    def check_experiment(self, experiment: Experiment) -> None:
        """Raise InputError if a mixture does not have a field of the experiment, such as its sampler or a prompt."""
        if setting := next((setting for setting in experiment.settings if setting.best_of > 1), None):
            raise InputError(
                f"setting {setting.name!r}: best_of chooses one starting noise, and a cell of a mixture has many; "
                "leave it out."
            )
        if experiment.sampler not in MIXTURE_METHODS:
            raise InputError(
                f"sampler {experiment.sampler!r}: a mixture has {', '.join(MIXTURE_METHODS)}; name one of them."
            )
        if experiment.dtype != "float32":  # the default
            raise InputError(f"dtype {experiment.dtype!r}: a mixture computes in float64; leave it out.")
        if experiment.compile:
            raise InputError("compile: a mixture has no network to compile; leave it out.")
        if experiment.arguments:
            raise InputError("arguments: a mixture is no pipeline and has none; leave them out.")
        if experiment.width != experiment.height:
            raise InputError("width and height of a mixture's image are one size; leave them out.")
        refuse_same_noise(experiment.seeds, NOISES // MIXTURE_SAMPLES)
        self.check_prompts(experiment.prompts, experiment.negative)

    def check_prompts(self, prompts: Iterable[str], negative: str) -> None:
        """Raise InputError for a prompt that names no class; an empty negative prompt is no class."""
        for prompt in (*prompts, *([negative] if negative else ())):
            self.label(prompt)

    def label(self, prompt: str) -> int:
        """Return the class that a prompt names.

        Raises:
            InputError: if the prompt is not `class N` with a class of the mixture.
        """
        match, count = re.fullmatch("class ([0-9]{1,9})", prompt), self.toy.mixture.classes
        if not match or int(match[1]) >= count:
            raise InputError(
                f"prompt {shown(prompt)}: a mixture is told a class; write 'class 0' to 'class {count - 1}'."
            )
        return int(match[1])

    def generate(self, batch: Sequence[Cell]) -> BatchResult:
        """Generate the cells of one batch, each by itself.

        Args:
            batch: cells that have all fields in common except prompt, seed and guidance.

        Returns:
            The image of each cell with its exact metrics and its trace, which is the mean over the samples. A cell
            with a sample that is not finite has an image of NaN and no metrics.
        """
        from cfglab.mixtures.guided import MixtureCall
        from cfglab.mixtures.noise_paths import karras, noise_steps
        from cfglab.mixtures.sampling import generate

        images, metrics, traces = [], [], []
        for cell in batch:
            label, calls = self.label(cell.prompt), list[MixtureCall]()
            negative = self.blurred.of_class(self.label(cell.negative)) if cell.negative else self.blurred
            x = generate(
                self.blurred.of_class(label),
                negative,
                cell.guidance,
                noise_steps(karras(cell.steps, LARGEST_SIGMA, SMALLEST_SIGMA)),
                sample_seeds(cell.seed),
                MIXTURE_METHODS[cell.sampler],
                calls=calls,
            )
            finite = bool(x.isfinite().all())
            metrics.append(self.exact_metrics(label).measure(x) if finite else {})
            images.append(self._image(label, x.numpy(), cell.width))
            values = np.array(calls, dtype=np.float32).T
            values[-2:] /= MIXTURE_SAMPLES
            traces.append(CellTrace(values))
        run, saved = np.sum([trace.values[-2:].sum(1) for trace in traces], axis=0)
        encoded = tuple(trace.encode() for trace in traces)
        return BatchResult(np.stack(images), round(float(run)), round(float(saved)), encoded, tuple(metrics))

    @cached_property
    def blurred(self) -> "Mixture":
        """The mixture that predicts: the toy's mixture, blurred by the variance that the toy states."""
        return self.toy.mixture.blurred(self.toy.fog) if self.toy.fog else self.toy.mixture

    def exact_metrics(self, label: int) -> "ExactMetrics":
        """Return the metrics of samples of a class."""
        from cfglab.mixtures.metrics import ExactMetrics

        if label not in self._metrics:
            self._metrics[label] = ExactMetrics(self.toy, label)
        return self._metrics[label]

    def _image(self, label: int, x: NDArray[np.float64], size: int) -> NDArray[np.float32]:
        """The samples over the density of their class, (3, size, size) in [-1, 1]; NaN if one is not finite."""
        mixture = self.toy.mixture.of_class(label)
        if (label, size) not in self._densities:
            self._densities[label, size] = class_density(mixture, size)
        return scatter_plot(mixture, x, self._densities[label, size])
