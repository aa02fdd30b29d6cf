"""The scale as an input of the network (Flux.1-dev, Sana-Sprint): one prediction, and w in place of the number."""

from typing import Any

from torch import Tensor

from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.preconditions import check_scale_only
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.step import Step


class Embedded:
    """The input `guidance`, (n,), is what the pipeline made of its `guidance_scale`, times w over that scale."""

    def __init__(self, run: GuidedRun) -> None:
        self._run = run
        self._specs: list[Any] = []

    @property
    def waiting(self) -> bool:
        """False: a step is one call."""
        return False

    def call(self, call: DenoiserCall, _name: str) -> Any:
        run = self._run
        self.start(call.count)
        step = run.step(call)
        scales = self.scales(step)
        output = call.plain(*call.args, **self.changed(call, scales))
        record = StepRecord(run.number, step, tuple(((image,), w) for image, w in enumerate(scales)), call.count, 0)
        run.record(record, output if isinstance(output, Tensor) else output[0])
        return output

    def start(self, images: int) -> None:
        """The guidance of each image, made at the first call."""
        if not self._specs:
            self._specs = [check_scale_only(self._run.pipe, spec) for spec in self._run.guidances(images)]

    def scales(self, step: Step) -> list[float]:
        """w of each image."""
        return [float(spec.schedule(step)) for spec in self._specs]

    def changed(self, call: DenoiserCall, scales: list[float]) -> dict[str, Any]:
        """The keyword arguments with the scale replaced."""
        run, name = self._run, self._run.profile.embedded
        value = call.kwargs.get(name)
        native = run.arguments.get("guidance_scale")
        if not isinstance(value, Tensor) or not isinstance(native, int | float) or native == 0:
            raise InputError(
                f"guidance_scale={native!r} inside guide(), and {name}={value!r} for the network of "
                f"{type(run.pipe).__name__}: what it is given is in proportion to a scale that is not 0; leave "
                "guidance_scale at its default."
            )
        factors = value.new_tensor([w / native for w in scales])
        return {**call.kwargs, name: value * factors}

    def finish(self) -> None:
        """Every call was guided."""
