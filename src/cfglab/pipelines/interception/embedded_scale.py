"""The layout with the scale as an input of the network (Flux.1-dev, Sana-Sprint): one prediction, w as its input."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.one_prediction import OnePrediction
from cfglab.pipelines.interception.outputs import with_prediction
from cfglab.pipelines.interception.preconditions import check_spec, embedded_error
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.step import Step


class Embedded(OnePrediction):
    """The layout with the scale as an input of the network, and one prediction.

    The pipeline computes the input `guidance`, (n,), from its `guidance_scale`. It is multiplied by w over that scale.
    Transforms that read no unconditional prediction act on the prediction that the network makes of it.

    Args:
        run: The run of the pipeline.
    """

    def __init__(self, run: GuidedRun) -> None:
        super().__init__(run)
        self._specs: list[Any] = []

    def call(self, call: DenoiserCall, _name: str) -> Any:
        """The output of the call of one step; see `CallStyle.call`."""
        run = self._run
        self.start(call.count)
        step = run.step(call)
        scales = self.scales(step)
        if any(transform.strength > 0 for spec in self._specs for transform in spec.transforms):
            scaled = replace(call, kwargs=self.changed(call, scales))
            guided, record = self.guided(scaled, step, [Guidance(1, spec.transforms) for spec in self._specs])
            run.record(record, guided, scales=tuple(((image,), w) for image, w in enumerate(scales)))
            return with_prediction(run.template, -guided if run.profile.negated else guided)
        output = call.plain(*call.args, **self.changed(call, scales))
        record = StepRecord(run.number, step, tuple(((image,), w) for image, w in enumerate(scales)), call.count, 0)
        run.record(record, output if isinstance(output, Tensor) else output[0])
        return output

    def start(self, images: int) -> None:
        """Make the guidance of each image, at the first call.

        Args:
            images: The number of images.

        Raises:
            InputError: A guidance is none of cfglab's, or has a transform that acts on cond - uncond alone; a list has
                another length.
        """
        if not self._specs:
            self._specs = [check_spec(self._run.pipe, spec) for spec in self._run.guidances(images)]
            if not all(one.acts_alone for spec in self._specs for one in spec.transforms if one.strength > 0):
                raise self.refused()

    def refused(self) -> InputError:
        """The error of a guidance that needs an unconditional prediction."""
        return embedded_error(self._run.pipe, " and ".join(dict.fromkeys(map(str, self._specs))))

    def scales(self, step: Step) -> list[float]:
        """The scale w of each image.

        Args:
            step: The step.

        Returns:
            One number per image.
        """
        return [float(spec.schedule(step)) for spec in self._specs]

    def changed(self, call: DenoiserCall, scales: list[float]) -> dict[str, Any]:
        """The keyword arguments of a call with the scale replaced.

        Args:
            call: The call.
            scales: w of each image.

        Returns:
            The keyword arguments.

        Raises:
            InputError: The pipeline passes no scale to the network, or a scale of 0.
        """
        run, name = self._run, self._run.profile.embedded
        value = call.kwargs.get(name)
        native = run.arguments.get("guidance_scale")
        if not isinstance(value, Tensor) or not isinstance(native, int | float) or native == 0:
            raise InputError(
                f"guidance_scale={native!r} inside guide(), and {name}={value!r} for the network of "
                f"{type(run.pipe).__name__}: what it is given is in proportion to a scale that is not 0; leave "
                "guidance_scale at its default."
            )
        factors = torch.stack([value.new_full((), w / native) for w in scales])  # filled there, not uploaded
        return {**call.kwargs, name: value * factors}
