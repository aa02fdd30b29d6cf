"""The layout of a network that predicts a video and its sound in one call, each with a scale of its own (LTX-2).

The pipeline adds further terms to `c + (g - 1) (c - u)`, away from passes of its own, and a rescale that reads c. It
keeps them: it is called with g = 2 for both, and gets c and u = 2 c - p, of which its first two terms make p."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.row_skipping import Denoise, GuidedRows, shares_of
from cfglab.denoising.step_reader import prediction_of
from cfglab.guidance import Guidance, Perturbation
from cfglab.guidance.context import runs
from cfglab.guidance.sound import guides_modalities, of_sound, of_video, with_modalities
from cfglab.pipelines.interception.batched import ROWS, Batched
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.interception.run import GuidedRun

SAMPLE = "audio_hidden_states"
"""The argument of the network that is the noisy sound."""
SCALE = "audio_guidance_scale"
"""The argument of the pipeline that is the scale of the sound; None if it is that of the video."""
MODALITIES = ("modality_scale", "audio_modality_scale")
"""The arguments of the pipeline that are the scales of its own term of both modalities, of video and sound."""


def taken_over(specs: Sequence[Any]) -> dict[str, float]:
    """The pipeline's arguments that switch its own terms off, because a guidance has them.

    Args:
        specs: The guidances.

    Returns:
        Name -> value.
    """
    return dict.fromkeys(MODALITIES, 1.0) if any(map(guides_modalities, specs)) else {}


class WithSound(Batched):
    """The layout with one call [uncond; cond] per step, whose output is (video, sound).

    Each of the two has rows and a memory of its own; a row that both need runs once.

    Args:
        run: The run of the pipeline.
    """

    def __init__(self, run: GuidedRun) -> None:
        super().__init__(run)
        self._sound: GuidedRows | None = None
        self._equal = EqualRows()

    def call(self, call: DenoiserCall, _name: str) -> Any:
        """The output of the call of one step; see `CallStyle.call`."""
        run = self._run
        if run.rows is None:
            self._check(call)
        images = call.count // ROWS
        video, sound = self._start(call, images)
        step = run.step(call)
        runs_all = run.runs_all_rows(call, step)
        labels = list(range(call.count)) if runs_all else self._equal.labels(call.sample, call.tensors())
        needed = video.needed_rows(step, reads_cond=True)
        for perturbation, numbers in sound.needed_rows(step, reads_cond=True).items():
            needed[perturbation] = sorted({*needed.get(perturbation, ()), *numbers})
        passes = _Passes(run, call, labels, runs_all=runs_all)
        passes.run(None, needed[None])
        of_both = []
        for index, (rows, sample) in enumerate(((video, call.sample), (sound, call.named[SAMPLE]))):
            denoise = passes.of(index)
            guided, record = rows.predict(
                step, sample, (), denoise, lambda guided, _cond, _images: guided, labels=labels
            )
            cond = denoise(list(range(images, call.count)), None)
            of_both.append((torch.cat([2 * cond - guided, cond]), guided, record))
        (seen, guided, record), (heard, *_) = of_both
        if runs_all:
            counts = all_rows(record, ROWS, ROWS, passes.perturbed)
        else:
            shares = shares_of(needed, labels)
            rows_run, saved = (round(sum(column)) for column in zip(*shares, strict=True))
            counts = {"rows_run": rows_run, "rows_saved": saved, "rows_varied": passes.perturbed, "shares": shares}
        run.record(record, guided, **counts)
        return (seen, heard, *passes.rest)

    def _start(self, call: DenoiserCall, images: int) -> tuple[GuidedRows, GuidedRows]:
        """The rows of the video and of the sound."""
        run = self._run
        if self._sound is not None:
            return run.start(call, images), self._sound
        specs = run.guidances(images)
        makes_sound = SCALE in run.arguments  # else the pipeline throws it away
        if taken_over(specs):  # the pipeline leaves its own term out for every image
            own = run.arguments[MODALITIES[0]]
            audio = run.arguments.get(MODALITIES[1]) or own
            specs = [with_modalities(spec, own, audio) for spec in specs]
        video = run.start(call, images, [of_video(spec) if makes_sound else spec for spec in specs])
        guidances = [self._of_sound(spec) if makes_sound else Guidance(1.0) for spec in specs]
        space = run.profile.space or prediction_of(run.pipe.scheduler)
        self._sound = GuidedRows(guidances, space, run.number, channel_dim=-1)
        return video, self._sound

    def _of_sound(self, spec: Any) -> Guidance:
        """The guidance of the sound: the pipeline's own scale where that of the image is an object of another kind."""
        arguments = self._run.arguments
        if isinstance(spec, Guidance):
            return of_sound(spec, arguments[SCALE] or None)
        return Guidance(arguments[SCALE] or arguments[self._run.profile.scale])


class _Passes:
    """The predictions of one step for both outputs: a row, and rows equal to it, run once."""

    def __init__(self, run: GuidedRun, call: DenoiserCall, labels: list[int], *, runs_all: bool) -> None:
        self._run, self._call, self._labels, self._runs_all = run, call, labels, runs_all
        self._outputs: dict[Perturbation | None, list[tuple[Tensor, Tensor]]] = {}
        self._place: dict[Perturbation | None, dict[int, tuple[int, int]]] = {}
        self.perturbed = 0
        """Rows of perturbed passes that were run; per image if all rows are run."""
        self.rest: tuple[Any, ...] = ()
        """What stands behind the two predictions in the output."""

    def of(self, index: int) -> Denoise:
        """The `Denoise` of the video, 0, or of the sound, 1."""

        def denoise(rows: list[int] | None, perturbation: Perturbation | None) -> Tensor:
            rows = list(range(len(self._labels))) if rows is None else rows
            self.run(perturbation, rows)
            places = [self._place[perturbation][self._labels[row]] for row in rows]
            outputs = [pair[index] for pair in self._outputs[perturbation]]
            if len(outputs) == 1:
                return take(outputs[0], [row for _, row in places])
            return torch.cat([outputs[call].narrow(0, row, 1) for call, row in places])

        return denoise

    def run(self, perturbation: Perturbation | None, rows: list[int]) -> None:
        """Run those of the rows that have not run."""
        place = self._place.setdefault(perturbation, {})
        wanted = {self._labels[row]: row for row in reversed(rows) if self._labels[row] not in place}
        to_run = sorted(wanted.values())
        if not to_run:
            return
        everything = list(range(len(self._labels)))
        to_run = everything if self._runs_all else to_run
        whole = None if to_run == everything else to_run
        output = self._call.run(whole, perturbation, self._run.encodings.insert)
        wide = self._run.profile.wide
        pair = output[0].float() if wide else output[0], output[1].float() if wide else output[1]
        self.rest = tuple(output[2:])
        calls = self._outputs.setdefault(perturbation, [])
        calls.append(pair)
        place |= {self._labels[row]: (len(calls) - 1, position) for position, row in enumerate(to_run)}
        if perturbation is not None:
            self.perturbed += ROWS * runs(perturbation) if self._runs_all else len(to_run) * runs(perturbation)
