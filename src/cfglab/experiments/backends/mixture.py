"""Experiments on mixtures: the model `mixture:tree` in the place of a pipeline, and a set of samples as a cell.

A prompt names a class, `class 0`; a cell's image shows 256 samples of it, drawn from 256 seeds of its own, and its
metrics are exact. Everything else is as with images: settings, pairs, resuming, report. Importing loads no torch.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.spec.prompts import NOISES, refuse_same_noise
from cfglab.experiments.storage.traces import CellTrace
from cfglab.mixtures import toys
from cfglab.schedules.fields import nearest

if TYPE_CHECKING:
    from cfglab.experiments.backends.pipeline import BatchResult
    from cfglab.experiments.spec.cell import Cell
    from cfglab.experiments.spec.experiment import Experiment
    from cfglab.mixtures.metrics import ExactMetrics
    from cfglab.mixtures.mixture import Mixture
    from cfglab.mixtures.sampling import Method

KIND = "mixture:"
SAMPLES = 256  # of one cell
SIZE = 128  # pixels along a side
METHODS: "dict[str, Method]" = {"euler": "euler", "heun": "heun", "euler-a": "ancestral"}
LARGEST, SMALLEST = 40.0, 0.002  # noise levels of a run, on the path that explodes
WEAK = 0.006  # the variance that the weak model `blurred` adds


def is_mixture(model: str) -> bool:
    """Whether a model's name is that of a mixture."""
    return model.startswith(KIND)


def facts(model: str) -> dict[str, Any]:
    """What a cell takes from a mixture: its definition's hash in the place of weights. Raises InputError."""
    name = model.removeprefix(KIND)
    if name not in toys.TOYS:
        raise InputError(
            f"model {model!r}: there are {', '.join(KIND + one for one in toys.TOYS)};"
            f"{nearest(name, toys.TOYS) or ' name one.'}"
        )
    defined = Path(toys.__file__).read_bytes() + name.encode()
    config = {"largest": LARGEST, "smallest": SMALLEST, "samples": SAMPLES}
    digest = hashlib.sha256(defined).hexdigest()
    return {"weights": digest, "sampler_config": config, "width": SIZE, "height": SIZE, "factor": 8}


def seeds_of(seed: int) -> list[int]:
    """The seeds of a cell's samples: SAMPLES from SAMPLES * seed on, beyond 2**63 from 0 again."""
    return [(seed * SAMPLES + sample) % 2**63 for sample in range(SAMPLES)]


class Laboratory:
    """A mixture, ready to draw cells: what `load` gives where a pipeline would be."""

    device = "cpu"

    def __init__(self, model: str) -> None:
        from cfglab.guidance import register_weak_model

        facts(model)
        self.toy = toys.toy(model.removeprefix(KIND))
        register_weak_model("blurred", lambda mixture: mixture.blurred(WEAK))
        self._judges: dict[int, ExactMetrics] = {}
        self._backgrounds: dict[tuple[int, int], NDArray[np.float32]] = {}

    @classmethod
    def of(cls, experiment: "Experiment") -> "Laboratory":
        """For an experiment, whose prompts, sampler and size are checked. Raises InputError."""
        here = cls(experiment.model)
        if experiment.sampler not in METHODS:
            raise InputError(f"sampler {experiment.sampler!r}: a mixture has {', '.join(METHODS)}; name one of them.")
        if experiment.width != experiment.height:
            raise InputError("width and height of a mixture's image are one size; leave them out.")
        refuse_same_noise(experiment.seeds, NOISES // SAMPLES)
        for prompt in (*experiment.prompts, *([experiment.negative] if experiment.negative else ())):
            here.label(prompt)
        return here

    def label(self, prompt: str) -> int:
        """The class that a prompt names. Raises InputError."""
        found, count = re.fullmatch(r"class (\d+)", prompt), self.toy.mixture.classes
        if not found or int(found[1]) >= count:
            raise InputError(f"prompt {prompt!r}: a mixture is told a class; write 'class 0' to 'class {count - 1}'.")
        return int(found[1])

    def draw(self, batch: "Sequence[Cell]") -> "BatchResult":
        """Draw the cells of one batch, each alone: its image, its metrics, and what guidance did on average."""
        from cfglab.experiments.backends.pipeline import BatchResult
        from cfglab.mixtures.guided import MixtureCall
        from cfglab.mixtures.noise_paths import karras, noise_steps
        from cfglab.mixtures.sampling import generate

        pictures, metrics, traces = [], [], []
        for cell in batch:
            label, calls = self.label(cell.prompt), list[MixtureCall]()
            uncond = self.known.of_class(self.label(cell.negative)) if cell.negative else self.known
            x = generate(
                self.known.of_class(label),
                uncond,
                cell.guidance,
                noise_steps(karras(cell.steps, LARGEST, SMALLEST)),
                seeds_of(cell.seed),
                METHODS[cell.sampler],
                calls=calls,
            )
            finite = bool(x.isfinite().all())
            metrics.append(self.judge(label).measure(x) if finite else {})
            pictures.append(self._picture(label, x.numpy(), cell.width))
            values = np.array(calls, dtype=np.float32).T
            values[-2:] /= SAMPLES
            traces.append(CellTrace(values))
        run, saved = np.sum([trace.values[-2:].sum(1) for trace in traces], axis=0)
        encoded = tuple(trace.encode() for trace in traces)
        return BatchResult(np.stack(pictures), round(float(run)), round(float(saved)), encoded, tuple(metrics))

    @cached_property
    def known(self) -> "Mixture":
        """What the model knows: the mixture, behind the toy's fog."""
        return self.toy.mixture.blurred(self.toy.fog) if self.toy.fog else self.toy.mixture

    def judge(self, label: int) -> "ExactMetrics":
        """The judge of samples of a class."""
        from cfglab.mixtures.metrics import ExactMetrics

        if label not in self._judges:
            self._judges[label] = ExactMetrics(self.toy, label)
        return self._judges[label]

    def _picture(self, label: int, x: NDArray[np.float64], size: int) -> NDArray[np.float32]:
        """The samples over the density of their class, (3, size, size) in [-1, 1]; NaN where a sample is none."""
        from cfglab.experiments.backends.scatter_plot import background, scattered

        one = self.toy.mixture.of_class(label)
        if (label, size) not in self._backgrounds:
            self._backgrounds[label, size] = background(one, size)
        return scattered(one, x, self._backgrounds[label, size])
