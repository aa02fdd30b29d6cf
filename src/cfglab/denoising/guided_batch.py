"""One denoiser call for a doubled batch [uncond; cond]: only the rows somebody needs, equal rows once.

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
from cfglab.guidance.guide import StepPlan
from cfglab.step import Step

Denoise = Callable[[list[int] | None, Perturbation | None], Tensor]
"""`denoise(rows, variation)`: what an adapter gives; see `GuidedRows.predict`."""

_Asked = tuple[tuple[Any, list[int]], tuple[bool, bool], tuple[Perturbation, ...]]

Finish = Callable[[Tensor, Tensor, list[int]], Tensor]
"""`finish(guided, cond, images)`: what the host does with the guided prediction; see `GuidedRows.predict`."""


class GuidedRows:
    """One run of B images, each with its own guidance.

    Images with equal guidance share a Guide and are combined as one batch, unless the Guide is `alone`; then each image
    has its own Guide.

    Args:
        guidances: one guidance per image: a Guidance, or an object whose `start(prediction)` returns an object with
            `combine(uncond, cond, step, latents)`.
        prediction: the parameterization of the predictions.
        model: the parameterization of the network itself, where the host converts before; None if it is the same.
        run: the number of the run, from 0.
        channels: returns the number of leading channels that are guided, given the number of all channels. The other
            channels (a learned variance) follow the conditional prediction.
        shaped: False if a prediction may have another shape than the sample. The shape is then taken from a
            conditional row, even if the guided prediction is zero.
    """

    def __init__(
        self,
        guidances: Sequence[Any],
        prediction: Space = "epsilon",
        run: int = 0,
        *,
        model: Space | None = None,
        channels: Callable[[int], int] | None = None,
        shaped: bool = True,
    ) -> None:
        groups: dict[Any, list[int]] = {}
        specs: dict[Any, Any] = {}
        for image, spec in enumerate(guidances):
            key = spec if isinstance(spec, Guidance) else id(spec)
            specs[key] = spec
            groups.setdefault(key, []).append(image)
        self.images = len(guidances)
        self.run = run
        self._channels, self._shaped = channels, shaped
        self._groups: list[tuple[Any, list[int]]] = []
        for key, images in groups.items():
            spaces = (prediction,) if model is None else (prediction, model)
            guide = specs[key].start(*spaces)
            if getattr(guide, "alone", False):
                self._groups += [
                    (guide, images[:1]),
                    *((specs[key].start(*spaces), [image]) for image in images[1:]),
                ]
            else:
                self._groups.append((guide, images))
        self._equal = EqualRows()

    @property
    def all_differ(self) -> bool:
        """True once all rows differ; `conditioning` is then not read for the rest of the run."""
        return self._equal.all_differ

    def wanted(self, step: Step, *, finished: bool = False) -> dict[Perturbation | None, list[int]]:
        """Return the rows that this step needs, by perturbation, before equal rows are merged.

        The key None holds the rows of the unconditional and the conditional prediction.
        """
        return self._rows_of(self._asked(step, finished))

    def _rows_of(self, asked: list[_Asked]) -> dict[Perturbation | None, list[int]]:
        rows: dict[Perturbation | None, list[int]] = {None: []}
        for (_, images), (uncond, cond), variations in asked:
            rows[None] += [*(images if uncond else ()), *((self.images + i for i in images) if cond else ())]
            for variation in variations:
                rows.setdefault(variation, []).extend(self._source(variation, images))
        return rows

    def predict(
        self,
        step: Step,
        sample: Tensor,
        conditioning: Sequence[Tensor],
        denoise: Denoise,
        finish: Finish | None = None,
        *,
        apart: bool = False,
    ) -> tuple[Tensor, StepRecord]:
        """The guided prediction (B, ...) of this call, and its record.

        `sample` (2 B, ...) is what the denoiser sees; `conditioning` are the other tensors of 2 B rows.
        `denoise(rows, variation)` runs the given rows in their order, or all of them for None; under a variation it
        runs what `variation.inputs` makes of these rows, inside `variation.applied`. It is called once for the rows of
        the pairs and once for every different variation, and not at all where nobody needs a row.
        `finish(guided, cond, images)` is applied to what each group of images gets, in channels that are guided.
        With `apart` no row stands for another, however equal they are.
        """
        total = 2 * self.images
        if len(sample) != total:
            raise InputError(
                f"{len(sample)} rows for {self.images} images: the batch is [uncond; cond], {total} rows; give one "
                "guidance per image, images per prompt included."
            )
        labels = list(range(total)) if apart else self._equal.labels(sample, conditioning)
        asked = self._asked(step, finish is not None)
        wanted = self._rows_of(asked)
        ran = {variation: _run(rows, labels, variation, denoise) for variation, rows in wanted.items() if rows}

        parts, pairs, scales = [], [], []
        for (guide, images), (with_uncond, with_cond), variations in asked:
            full = ran[None].of([self.images + i for i in images]) if with_cond else None
            uncond = self._guided(ran[None].of(images)) if with_uncond else None
            cond = None if full is None else self._guided(full)
            extras = {
                variation: self._guided(ran[variation].of(self._source(variation, images))) for variation in variations
            }
            like = next((tensor for tensor in (cond, uncond, *extras.values()) if tensor is not None), None)
            latents = _cropped(take(sample, images), like)
            more = (extras,) if extras else ()
            guided = guide.combine(uncond, cond, step, latents, *more)
            if finish is not None and cond is not None:
                guided = finish(guided, cond, images)
            if self._channels is not None and full is not None:
                guided = torch.cat([guided, full[:, guided.shape[1] :].to(guided.dtype)], dim=1)
            parts.append(guided)
            scales.append((tuple(images), getattr(guide, "w", None)))
            if uncond is not None and cond is not None:
                pairs.append((images, uncond, cond))
        plain_run = len(ran[None].output) if None in ran else 0
        varied = sum(len(one.output) * runs(variation) for variation, one in ran.items() if variation is not None)
        plain = total + sum(len(rows) * runs(variation) for variation, rows in wanted.items() if variation is not None)
        record = StepRecord(
            self.run,
            step,
            tuple(scales),
            plain_run + varied,
            plain - plain_run - varied,
            _lengths(pairs),
            rows_varied=varied,
            shares=_shares(wanted, labels),
        )
        return self._gather(parts), record

    def _asked(self, step: Step, finished: bool) -> list[_Asked]:
        """Each group with what it needs of the unconditional and the conditional rows, and its variations."""
        asked = []
        for guide, images in self._groups:
            plan = guide.plan(step) if hasattr(guide, "plan") else StepPlan(step, 1.0, on=True, uncond=True, cond=True)
            cond = plan.cond or finished or self._channels is not None or not (self._shaped or plan.uncond)
            asked.append(((guide, images), (plan.uncond, cond), plan.passes))
        return asked

    def _guided(self, prediction: Tensor) -> Tensor:
        return prediction if self._channels is None else prediction[:, : self._channels(prediction.shape[1])]

    def _source(self, variation: Perturbation, images: list[int]) -> list[int]:
        return images if variation.source == "uncond" else [self.images + i for i in images]

    def _gather(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        order = [image for _, images in self._groups for image in images]
        return take(torch.cat(parts), [order.index(image) for image in range(self.images)])


def _lengths(pairs: list[tuple[list[int], Tensor, Tensor]]) -> tuple[tuple[tuple[int, ...], Tensor], ...]:
    """The lengths of uncond, cond and cond - uncond of every image of the pairs (images, uncond, cond), float32, as a
    StepRecord has them: all images at once, and in three operations, for this is done at every step."""
    if not pairs:
        return ()
    groups, unconds, conds = zip(*pairs, strict=True)
    u, c = (some[0] if len(some) == 1 else torch.cat(some) for some in (unconds, conds))
    u, c = u.detach().float(), c.detach().float()
    images = tuple(image for group in groups for image in group)
    return ((images, torch.linalg.vector_norm(torch.stack([u, c, c - u]).flatten(2), dim=2)),)


def _shares(wanted: dict[Perturbation | None, list[int]], labels: list[int]) -> tuple[tuple[float, float], ...]:
    """(rows run, rows saved) of each image: k rows that are equal cost each of them 1 / k."""
    images = len(labels) // 2
    run, asked = [0.0] * images, [2.0] * images
    for variation, rows in wanted.items():
        equal, cost = Counter(labels[row] for row in rows), 1 if variation is None else runs(variation)
        for row in rows:
            run[row % images] += cost / equal[labels[row]]
            asked[row % images] += 0 if variation is None else cost
    return tuple((mine, plain - mine) for mine, plain in zip(run, asked, strict=True))


def _cropped(sample: Tensor, like: Tensor | None) -> Tensor | None:
    """The leading part of what the denoiser saw that has the shape of its prediction; None where there is none.

    Images to be edited, masks and other conditions are further channels, frames or tokens behind the latents.
    """
    if like is None or sample.shape == like.shape:
        return sample
    if sample.ndim != like.ndim or any(mine < other for mine, other in zip(sample.shape, like.shape, strict=True)):
        return None
    return sample[tuple(slice(size) for size in like.shape)]


@dataclass(frozen=True, eq=False)
class _Ran:
    """The output of one denoiser call, and where each row of the batch finds its own."""

    output: Tensor
    place: dict[int, int]
    labels: list[int]

    def of(self, rows: list[int]) -> Tensor:
        return take(self.output, [self.place[self.labels[row]] for row in rows])


def _run(wanted: list[int], labels: list[int], variation: Perturbation | None, denoise: Denoise) -> _Ran:
    """The wanted rows, equal ones once."""
    first: dict[int, int] = {}
    for row in sorted(wanted):
        first.setdefault(labels[row], row)
    rows = list(first.values())
    output = denoise(None if rows == list(range(len(labels))) else rows, variation)
    return _Ran(output, {label: position for position, label in enumerate(first)}, list(labels))
