"""The layout of a call whose guidance is off: one prediction a step, as it is or with transforms that need no other."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.context import runs
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.outputs import predicted, with_prediction
from cfglab.pipelines.interception.preconditions import off_error
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.step import Step


class OnePrediction:
    """The layout with one denoiser call per step, of conditional rows alone, and w = 1.

    So are distilled models run (Flux.1-schnell, Z-Image-Turbo, SD 3.5 Turbo). Without transforms the prediction is that
    of the pipeline. Transforms act that read no unconditional prediction: NAG and VSF with a negative prompt, PAG, SEG,
    TPG, skipped layers.

    Args:
        run: The run of the pipeline.
    """

    def __init__(self, run: GuidedRun) -> None:
        self._run = run

    @property
    def waiting(self) -> bool:
        """False: a step is one call."""
        return False

    def call(self, call: DenoiserCall, _name: str) -> Any:
        """The output of the call of one step; see `CallStyle.call`."""
        step = self._run.step(call)
        guided, record = self.guided(call, step, self._run.guidances(call.count))
        self._run.record(record, guided)
        return with_prediction(self._run.template, -guided if self._run.profile.negated else guided)

    def finish(self) -> None:
        """Every call was guided."""

    def refused(self) -> InputError:
        """The error of a guidance that needs an unconditional prediction."""
        return off_error(self._run.pipe, self._run.profile, self._run.arguments)

    def guided(self, call: DenoiserCall, step: Step, specs: list[Any]) -> tuple[Tensor, StepRecord]:
        """The guided prediction of a call of conditional rows.

        Args:
            call: The call.
            step: Its step.
            specs: The guidance of each image, with w = 1.

        Returns:
            The prediction, (images, ...), and the record of the call.

        Raises:
            InputError: A guidance needs an unconditional prediction.
        """
        run, images = self._run, call.count
        rows = run.start(call, images, specs)
        if any(row < images for needed in rows.needed_rows(step).values() for row in needed):
            raise self.refused()
        runs_all, perturbed_rows = run.runs_all_rows(call, step), 0

        def denoise(batch_rows: list[int] | None, perturbation: Perturbation | None) -> Tensor:
            nonlocal perturbed_rows
            wanted = [row - images for row in batch_rows or range(images, 2 * images)]
            if runs_all or wanted == list(range(images)):
                perturbed_rows += 0 if perturbation is None else runs(perturbation)
                return take(predicted(run, call, None, perturbation), wanted)
            return predicted(run, call, wanted, perturbation)

        twice = [torch.cat([tensor, tensor]) for tensor in (call.sample, *(() if runs_all else call.tensors()))]
        guided, record = rows.predict(step, twice[0], twice[1:], denoise, separate=runs_all)
        shares = tuple((run_rows, saved - 1) for run_rows, saved in record.shares)  # the pipeline has one row an image
        return guided, replace(record, rows_saved=record.rows_saved - images, shares=shares)
