"""The layout of a network that predicts a video and its sound in one call, each with a scale of its own (LTX-2).

The pipeline adds further terms to `c + (g - 1) (c - u)`, away from passes of its own, and a rescale that reads c. It
keeps them: it is called with g = 2 for both, and gets c and u = 2 c - p, of which its first two terms make p."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.row_skipping import GuidedRows, shares_of
from cfglab.denoising.step_reader import prediction_of
from cfglab.guidance import AudioGuidance, Guidance, ModalityGuidance, Perturbation
from cfglab.guidance.context import runs
from cfglab.pipelines.interception.batched import ROWS, Batched
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.schedules import Schedule, as_schedule

SAMPLE = "audio_hidden_states"
"""The argument of the network that is the noisy sound."""
SCALE = "audio_guidance_scale"
"""The argument of the pipeline that is the scale of the sound; None if it is that of the video."""
MODALITIES: dict[str, Any] = {"s": "modality_scale", "audio": "audio_modality_scale"}
"""The fields of modality guidance, and the pipeline's arguments that they take the place of."""


def taken_over(specs: Sequence[Any]) -> dict[str, float]:
    """The pipeline's arguments that switch its own terms off, because the guidance has them.

    Args:
        specs: The guidances.

    Returns:
        Name -> value.
    """
    return dict.fromkeys(MODALITIES.values(), 1.0) if any(map(_modality_of, specs)) else {}


def of_video(spec: Any, arguments: dict[str, Any], *, isolates: bool) -> Any:
    """The guidance of the video.

    Args:
        spec: The guidance of the image.
        arguments: The arguments of the pipeline call by name.
        isolates: Whether another image has modality guidance, so that the pipeline leaves its own out.

    Returns:
        The guidance, with the pipeline's own modality guidance where it has none, and without that of the sound, which
        a pipeline that makes no sound refuses; another object as it is.
    """
    if not isinstance(spec, Guidance):
        return spec
    transforms = [item for item in spec.transforms if not isinstance(item, AudioGuidance) or SCALE not in arguments]
    if isolates and _modality_of(spec) is None:
        own = {field: arguments.get(name) for field, name in MODALITIES.items()}
        own["audio"] = own["audio"] or own["s"]  # as the pipeline does
        transforms.append(ModalityGuidance(**own))
    return Guidance(spec.schedule, transforms)


def of_sound(spec: Any, arguments: dict[str, Any], *, isolates: bool) -> Any:
    """The guidance of the sound: the same methods, with the scale of `audio_guidance` or the pipeline's own.

    Args:
        spec: The guidance of the image.
        arguments: The arguments of the pipeline call by name.
        isolates: As in `of_video`.

    Returns:
        The guidance; where that of the image is an object of another kind, the pipeline's own scale.
    """
    if SCALE not in arguments:
        return Guidance(1.0)  # the sound is thrown away
    own = arguments[SCALE] or arguments["guidance_scale"]
    if not isinstance(spec, Guidance):
        return Guidance(own)
    schedule: Schedule = as_schedule(own) if arguments[SCALE] else spec.schedule
    for transform in spec.transforms:
        if isinstance(transform, AudioGuidance) and transform.strength > 0:
            share = transform.strength
            scale = as_schedule(transform.w)
            schedule = scale if share == 1 else share * scale + (1 - share) * schedule
    transforms = of_video(spec, arguments, isolates=isolates).transforms
    return Guidance(schedule, [transform.of_sound() for transform in transforms])


def _modality_of(spec: Any) -> ModalityGuidance | None:
    transforms = spec.transforms if isinstance(spec, Guidance) else ()
    return next((item for item in transforms if isinstance(item, ModalityGuidance) and item.strength > 0), None)


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
        for perturbation, rows in sound.needed_rows(step, reads_cond=True).items():
            needed[perturbation] = sorted({*needed.get(perturbation, ()), *rows})
        passes = _Passes(run, call, labels, runs_all=runs_all)
        passes.run(None, needed[None])
        outputs, records = [], []
        for index, (rows, sample) in enumerate(((video, call.sample), (sound, call.named[SAMPLE]))):
            guided, record = rows.predict(
                step, sample, (), passes.of(index), lambda guided, _cond, _images: guided, labels=labels
            )
            cond = passes.of(index)(list(range(images, call.count)), None)
            outputs.append(torch.cat([2 * cond - guided, cond]))
            records.append((record, guided))
        if runs_all:
            counts = all_rows(records[0][0], ROWS, ROWS, passes.perturbed)
        else:
            shares = shares_of(needed, labels)
            rows_run, saved = (round(sum(column)) for column in zip(*shares, strict=True))
            counts = {"rows_run": rows_run, "rows_saved": saved, "rows_varied": passes.perturbed, "shares": shares}
        run.record(*records[0], **counts)
        return (*outputs, *passes.rest)

    def _start(self, call: DenoiserCall, images: int) -> tuple[GuidedRows, GuidedRows]:
        """The rows of the video and of the sound."""
        run, specs = self._run, self._run.guidances(images)
        isolates = bool(taken_over(specs))
        video = run.start(call, images, [of_video(spec, run.arguments, isolates=isolates) for spec in specs])
        if self._sound is None:
            guidances = [of_sound(spec, run.arguments, isolates=isolates) for spec in specs]
            space = run.profile.space or prediction_of(run.pipe.scheduler)
            self._sound = GuidedRows(guidances, space, run.number, channel_dim=-1)
        return video, self._sound


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

    def of(self, index: int) -> Any:
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
