"""One denoiser call for a doubled batch [uncond; cond]: unneeded rows are skipped, equal rows run once.

A batch of B images is 2 B rows; row i is image i without its prompt, row B + i with it. Knows no pipeline: tensors,
Steps and Guides come in, the guided prediction comes out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.guidance import Guidance, Perturbation, Space
from cfglab.guidance.context import runs
from cfglab.guidance.guide import Guide, StepPlan
from cfglab.step import Step

Denoise = Callable[[list[int] | None, Perturbation | None], Tensor]
"""`denoise(rows, variation)`: the adapter's function; see `GuidedRows.predict`."""

Finish = Callable[[Tensor, Tensor, list[int]], Tensor]
"""`finish(guided, cond, images)`: the host's function; see `GuidedRows.predict`."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Images that share one Guide."""

    guide: Any
    images: list[int]


@dataclass(frozen=True, eq=False)
class _GroupPlan:
    """The predictions that one group needs at a step."""

    guide: Any
    images: list[int]
    uncond: bool
    cond: bool
    passes: tuple[Perturbation, ...]
    plain: tuple[float, bool, bool] | None
    """w and the predictions it combines, if nothing else acts at this step."""


@dataclass(frozen=True, eq=False)
class _PassOutput:
    """The output of one denoiser call, and the output row of each label."""

    output: Tensor
    position_of: dict[int, int]
    labels: list[int]

    def take(self, rows: list[int]) -> Tensor:
        """The predictions of these rows of the batch, in this order."""
        return take(self.output, [self.position_of[self.labels[row]] for row in rows])


class GuidedRows:
    """One run of B images, each with its own guidance.

    Images with equal guidance share a Guide and are combined as one batch, unless the Guide is `per_image`; then each
    image has its own Guide.

    Args:
        guidances: One guidance per image: a Guidance, or an object whose `start(prediction)` returns an object with
            `combine(uncond, cond, step, latents)`.
        prediction: The parameterization of the predictions.
        model: The parameterization of the network itself, if the host converts its predictions; None if it is the same.
        run: The number of the run, 0 or more.
        channels: Returns the number of leading channels that are guided, given the number of all channels. The
            remaining channels (a learned variance) follow the conditional prediction. None guides all channels.
        rest_dropped: True if the host drops the remaining channels (the tokens of an image that is edited), so that no
            row is run for them; they then hold those of any prediction.
        guided_dim: The dimension in which they are leading.
        channel_dim: The dimension of the channels: 1; -1 for packed tokens, (rows, tokens, channels); 2 for
            (rows, frames, channels, height, width).
        shaped: False if a prediction may have another shape than the sample. The shape is then taken from a
            conditional row, even if the guided prediction is zero.
        claims: Given if the sample of the next call follows from the sample and the guided prediction of this one, in
            the same way for every image: no noise, no callback. Which images are still equal is then known; comparing
            them would wait for the device. The list collects scalars on the device, each True if the rows that were
            taken for equal at a call were equal: to be read after the run.

    Attributes:
        images: B, the number of images.
        run: The number of the run.
        still_equal: A whole number per image: images that were equal at the last call and have equal numbers are equal
            at the next one. None if that is not known.
    """

    def __init__(
        self,
        guidances: Sequence[Any],
        prediction: Space = "epsilon",
        run: int = 0,
        *,
        model: Space | None = None,
        channels: Callable[[int], int] | None = None,
        rest_dropped: bool = False,
        guided_dim: int = 1,
        channel_dim: int = 1,
        shaped: bool = True,
        claims: list[Tensor] | None = None,
    ) -> None:
        self.images = len(guidances)
        self.run = run
        self._channels, self._guided_dim = channels, guided_dim
        self._reads_rest = channels is not None and not rest_dropped
        self._shaped = shaped and channels is None
        self._groups = _grouped(guidances, (prediction,) if model is None else (prediction, model))
        for group in self._groups:
            if isinstance(group.guide, Guide):
                group.guide.channel_dim = channel_dim
        self._equal = EqualRows(claims)
        self._is_determined = claims is not None
        self.still_equal: list[int] | None = None

    @property
    def all_differ(self) -> bool:
        """True once all rows differ; `conditioning` is then not read for the rest of the run."""
        return self._equal.all_differ

    def begin(self, labels: list[int], sample: Tensor) -> None:
        """Before the first call, on another device than the CPU: rows with different labels are taken for different.

        Args:
            labels: A label per row, from another network that was called with these rows.
            sample: The input of the denoiser, (2 B, ...).
        """
        self._equal.begin(labels, sample)

    def needed_rows(self, step: Step, *, reads_cond: bool = False) -> dict[Perturbation | None, list[int]]:
        """The rows that this step needs, by perturbation, before equal rows are merged.

        Args:
            step: The step.
            reads_cond: True if the host reads the conditional prediction after guidance, so that its row runs anyway.

        Returns:
            Row numbers, 0 to 2 B - 1, of each perturbation; under None those of the unconditional and the conditional
            prediction.
        """
        return self._rows_by_pass(self._plans(step, reads_cond))

    def scales(self, step: Step) -> list[float]:
        """The scales that the schedules give at this step, before a transform changes them.

        Args:
            step: The step.

        Returns:
            One for each group of images that share a guidance of this library; 1 where guidance is off.
        """
        return [group.guide.plan(step).w for group in self._groups if hasattr(group.guide, "plan")]

    def predict(
        self,
        step: Step,
        sample: Tensor,
        conditioning: Sequence[Tensor],
        denoise: Denoise,
        finish: Finish | None = None,
        *,
        separate: bool = False,
        labels: list[int] | None = None,
    ) -> tuple[Tensor, StepRecord]:
        """The guided prediction of one denoiser call, and its record.

        Args:
            step: The step.
            sample: The input of the denoiser, (2 B, ...), rows [uncond; cond].
            conditioning: The other tensors of the call, each (2 B, ...).
            denoise: `denoise(rows, variation)` runs these rows in this order, or all rows if `rows` is None, and
                returns their predictions. Under a perturbation it runs `variation.inputs` of these rows inside
                `variation.applied`. It is called once for the unperturbed rows and once for each perturbation; it is
                not called if no row is needed.
            finish: `finish(guided, cond, images)` changes the guided prediction of a group of images, (n, ...), in the
                guided channels.
            separate: True runs each row, even if rows are equal.
            labels: A label per row, if the equal rows are known; `conditioning` is then not read.

        Returns:
            The guided prediction, (B, ...), in the dtype of the predictions, and the StepRecord of the call.

        Raises:
            InputError: `sample` does not have 2 B rows, or a Guide refuses the predictions.
        """
        total = 2 * self.images
        if len(sample) != total:
            raise InputError(
                f"{len(sample)} rows for {self.images} images: the batch is [uncond; cond], {total} rows; give one "
                "guidance per image, images per prompt included."
            )
        if separate:
            labels = list(range(total))
        elif labels is None:
            still = None if self.still_equal is None else self.still_equal * 2
            labels = self._equal.labels(sample, conditioning, still)
        plans = self._plans(step, finish is not None)
        rows_by_pass = self._rows_by_pass(plans)
        outputs = {key: _run_rows(rows, labels, key, denoise) for key, rows in rows_by_pass.items() if rows}

        guided_parts, pairs, scales, ranges = [], [], [], []
        for plan in plans:
            guided, uncond, cond = self._combine_group(plan, step, sample, outputs, finish)
            guided_parts.append(guided)
            scales.append((tuple(plan.images), getattr(plan.guide, "w", None)))
            if (scale_range := getattr(plan.guide, "w_range", None)) is not None:
                ranges.append((tuple(plan.images), scale_range))
            if uncond is not None and cond is not None:
                pairs.append((plan.images, uncond, cond))
        self.still_equal = self._still_equal(plans, labels) if self._is_determined else None
        rows_run = {key: len(result.output) * _cost(key) for key, result in outputs.items()}
        rows_planned = total + sum(len(rows) * _cost(key) for key, rows in rows_by_pass.items() if key is not None)
        record = StepRecord(
            self.run,
            step,
            tuple(scales),
            sum(rows_run.values()),
            rows_planned - sum(rows_run.values()),
            _lengths(pairs),
            rows_varied=sum(count for key, count in rows_run.items() if key is not None),
            ranges=tuple(ranges),
            shares=shares_of(rows_by_pass, labels),
        )
        return self._in_image_order(guided_parts), record

    def _plans(self, step: Step, reads_cond: bool) -> list[_GroupPlan]:
        """The plan of each group; a guide without a `plan` needs both predictions."""
        plans = []
        for group in self._groups:
            guide = group.guide
            plan = guide.plan(step) if hasattr(guide, "plan") else StepPlan(step, 1.0, on=True, uncond=True, cond=True)
            shaped = self._shaped or plan.uncond or plan.passes
            cond = plan.cond or reads_cond or self._reads_rest or not shaped
            plain = (plan.w, plan.uncond, cond) if _is_plain(guide, plan) else None
            plans.append(_GroupPlan(guide, group.images, plan.uncond, cond, plan.passes, plain))
        return plans

    def _still_equal(self, plans: list[_GroupPlan], labels: list[int]) -> list[int]:
        """Images get one number if their rows are equal and the same is done to them at this step."""
        keys: dict[int, tuple[Any, ...]] = {}
        for position, plan in enumerate(plans):
            repeats = isinstance(plan.guide, Guide) and plan.guide.repeats
            for image in plan.images:
                rows = (labels[image] if plan.uncond else -1, labels[self.images + image] if plan.cond else -1)
                if plan.plain is not None and (plan.uncond or plan.cond):
                    keys[image] = (*plan.plain, *rows)
                else:
                    whole = (labels[image], labels[self.images + image])
                    keys[image] = (position, *whole) if repeats else (position, image)
        numbers: dict[Any, int] = {}
        return [numbers.setdefault(keys[image], image) for image in range(self.images)]

    def _rows_by_pass(self, plans: list[_GroupPlan]) -> dict[Perturbation | None, list[int]]:
        rows: dict[Perturbation | None, list[int]] = {None: []}
        for plan in plans:
            rows[None] += [*(plan.images if plan.uncond else ()), *(self._cond_rows(plan.images) if plan.cond else ())]
            for perturbation in plan.passes:
                rows.setdefault(perturbation, []).extend(self._source_rows(perturbation, plan.images))
        return rows

    def _combine_group(
        self,
        plan: _GroupPlan,
        step: Step,
        sample: Tensor,
        outputs: dict[Perturbation | None, _PassOutput],
        finish: Finish | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The guided prediction of a group, and the predictions that it is made of; None for one not run."""
        images = plan.images
        cond_rows = outputs[None].take(self._cond_rows(images)) if plan.cond else None
        uncond_rows = outputs[None].take(images) if plan.uncond else None
        pass_rows = {
            perturbation: outputs[perturbation].take(self._source_rows(perturbation, images))
            for perturbation in plan.passes
        }
        cond = None if cond_rows is None else self._guided_channels(cond_rows)
        uncond = None if uncond_rows is None else self._guided_channels(uncond_rows)
        extras = {perturbation: self._guided_channels(rows) for perturbation, rows in pass_rows.items()}
        like = next((tensor for tensor in (cond, uncond, *extras.values()) if tensor is not None), None)
        latents = _cropped(take(sample, images), like)
        guided = plan.guide.combine(uncond, cond, step, latents, *((extras,) if extras else ()))
        if finish is not None and cond is not None:
            guided = finish(guided, cond, images)
        if self._channels is not None:
            all_channels = next(rows for rows in (cond_rows, uncond_rows, *pass_rows.values()) if rows is not None)
            dim, taken = self._guided_dim, guided.shape[self._guided_dim]
            rest = all_channels.narrow(dim, taken, all_channels.shape[dim] - taken)
            guided = torch.cat([guided, rest.to(guided.dtype)], dim=dim)
        return guided, uncond, cond

    def _guided_channels(self, prediction: Tensor) -> Tensor:
        if self._channels is None:
            return prediction
        return prediction.narrow(self._guided_dim, 0, self._channels(prediction.shape[self._guided_dim]))

    def _cond_rows(self, images: list[int]) -> list[int]:
        return [self.images + image for image in images]

    def _source_rows(self, perturbation: Perturbation, images: list[int]) -> list[int]:
        return images if perturbation.source == "uncond" else self._cond_rows(images)

    def _in_image_order(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        order = [image for group in self._groups for image in group.images]
        return take(torch.cat(parts), [order.index(image) for image in range(self.images)])


def _grouped(guidances: Sequence[Any], spaces: tuple[Space, ...]) -> list[_Group]:
    """Images with equal guidance under one Guide; under one each if the Guide is `per_image`."""
    images_of: dict[Any, list[int]] = {}
    specs: dict[Any, Any] = {}
    for image, spec in enumerate(guidances):
        key = spec if isinstance(spec, Guidance) else id(spec)
        specs[key] = spec
        images_of.setdefault(key, []).append(image)
    groups = []
    for key, images in images_of.items():
        guide = specs[key].start(*spaces)
        if getattr(guide, "per_image", False):
            groups.append(_Group(guide, images[:1]))
            groups += [_Group(specs[key].start(*spaces), [image]) for image in images[1:]]
        else:
            groups.append(_Group(guide, images))
    return groups


def _is_plain(guide: Any, plan: StepPlan) -> bool:
    """Whether the guided prediction is `u + w (c - u)`, or one of the two, and nothing else."""
    return isinstance(guide, Guide) and plan.zero is None and (not plan.on or not guide.acts)


def _cost(perturbation: Perturbation | None) -> int:
    """How often the network runs for one row."""
    return 1 if perturbation is None else runs(perturbation)


def _run_rows(needed: list[int], labels: list[int], perturbation: Perturbation | None, denoise: Denoise) -> _PassOutput:
    """One denoiser call for the needed rows, equal ones once."""
    first_row: dict[int, int] = {}
    for row in sorted(needed):
        first_row.setdefault(labels[row], row)
    rows = list(first_row.values())
    output = denoise(None if rows == list(range(len(labels))) else rows, perturbation)
    return _PassOutput(output, {label: position for position, label in enumerate(first_row)}, list(labels))


def _lengths(pairs: list[tuple[list[int], Tensor, Tensor]]) -> tuple[tuple[tuple[int, ...], Tensor], ...]:
    """The L2 norms of uncond, cond and cond - uncond of each image, (3, n), float32, as a StepRecord holds them.

    One tensor at a time is in float32, so that no memory is taken beside the predictions.
    """
    lengths = []
    for images, uncond, cond in pairs:
        u, c = uncond.detach(), cond.detach()
        norms = [_norm(u), _norm(c)]  # before the difference is made
        norms.append(_norm(c.float().sub_(u) if c.element_size() < 4 else c.float() - u.float()))
        lengths.append((tuple(images), torch.stack(norms)))
    return tuple(lengths)


def _norm(prediction: Tensor) -> Tensor:
    return torch.linalg.vector_norm(prediction.float().flatten(1), dim=1)


def shares_of(needed: dict[Perturbation | None, list[int]], labels: list[int]) -> tuple[tuple[float, float], ...]:
    """What each image costs: each of k equal rows costs 1 / k.

    Args:
        needed: The rows of each perturbation, as `GuidedRows.needed_rows` returns them.
        labels: A label per row, equal for equal rows.

    Returns:
        (rows run, rows saved) of each image.
    """
    images = len(labels) // 2
    rows_run, rows_planned = [0.0] * images, [2.0] * images
    for perturbation, rows in needed.items():
        equal, cost = Counter(labels[row] for row in rows), _cost(perturbation)
        for row in rows:
            rows_run[row % images] += cost / equal[labels[row]]
            rows_planned[row % images] += 0 if perturbation is None else cost
    return tuple((run, planned - run) for run, planned in zip(rows_run, rows_planned, strict=True))


def _cropped(sample: Tensor, like: Tensor | None) -> Tensor | None:
    """The leading part of the denoiser's input that has the shape of the prediction; None if there is none.

    Images to be edited, masks and other conditions are further channels, frames or tokens behind the latents.
    """
    if like is None or sample.shape == like.shape:
        return sample
    if sample.ndim != like.ndim or any(size < needed for size, needed in zip(sample.shape, like.shape, strict=True)):
        return None
    return sample[tuple(slice(size) for size in like.shape)]
