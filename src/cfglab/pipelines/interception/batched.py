"""One denoiser call a step with all parts of the batch in it."""

from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.guided_batch import Finish
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.context import runs
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.outputs import predicted, with_prediction
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.profiles.profile import Part
from cfglab.step import Step

ROWS = 2


class Batched:
    """[uncond; cond] in any order, with a third part behind, between or before, in tensors or lists.

    Every part of the pipeline's batch is given the guided prediction p: whatever it makes of equal parts, be it
    `u + g (c - u)`, `c + g (c - u)`, `lerp`, or any of them with a third term, is p. A third part is always run, and
    with it all rows: the attention processors of perturbed attention count on it. So are all rows where the network may
    mix them.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        unperturbed = "perturbed" in run.profile.parts and not run.arguments.get("pag_scale", True)
        self._parts: tuple[Part, ...] = ("uncond", "cond") if unperturbed else run.profile.parts

    def call(self, call: DenoiserCall, _name: str) -> Any:
        run, parts = self.run, len(self._parts)
        if (
            call.kwargs.get("skip_layers") is not None
        ):  # a further call of its own, which this batch has nothing to do with
            return call.run()
        if run.rows is None:
            self._check(call)
        images = call.count // parts
        rows = run.start(call, images)
        step = run.step(call)
        order = self._order(images)
        plain = order == list(range(call.count))
        mixed = run.together(call, step)
        together = mixed or parts > ROWS
        every = predicted(run, call) if together else None
        further = 0
        sample = call.sample if plain else take(call.sample, order)

        def denoise(wanted: list[int] | None, variation: Perturbation | None) -> Tensor:
            nonlocal further
            if every is not None and variation is None:
                return take(every, order if wanted is None else [order[row] for row in wanted])
            if mixed and variation is not None:
                further += runs(variation)
                return take(predicted(run, call, None, variation), [order[row] for row in wanted or range(2 * images)])
            if wanted is None and variation is None and parts == ROWS:
                whole = predicted(run, call)
                return whole if plain else take(whole, order)
            return predicted(run, call, [order[row] for row in wanted or range(2 * images)], variation)

        finish = self._finish(step, every, images)
        conditioning = () if together or rows.all_differ else call.tensors(None if plain else order)
        guided, record = rows.predict(step, sample, conditioning, denoise, finish, apart=together)
        counted = all_rows(record, parts, parts, parts * further if mixed else None) if together else {}
        run.note(record, guided, **counted)
        return with_prediction(run.template, self._injected(-guided if run.profile.negated else guided))

    def finish(self) -> None:
        if self.run.rows is None and not getattr(self.run.guided.pipe, "interrupt", False):
            raise InputError(
                f"{type(self.run.guided.pipe).__name__} did not call its {self.run.profile.denoisers[0]}: nothing was "
                "guided; it is not made as the profile says, pass profile=Profile(denoisers=...)."
            )

    def _check(self, call: DenoiserCall) -> None:
        """At the first call: the batch has the parts of the profile."""
        parts, kind = len(self._parts), type(self.run.guided.pipe).__name__
        sample = call.sample
        if call.count % parts:
            raise InputError(
                f"{call.count} rows in the first denoiser call of {kind}: the profile says {parts} parts, "
                f"{'; '.join(self._parts)}; call it with guidance on, or pass profile=Profile(parts=...)."
            )
        chunks = sample.chunk(parts)
        if self.run.profile.alike and not all(torch.equal(chunks[0], other) for other in chunks[1:]):
            raise InputError(
                f"the {parts} parts of the batch of {kind} start from different samples, so it is not laid out as the "
                "profile says: is its guidance on? Otherwise this diffusers is not the one cfglab knows; pass "
                "profile=Profile(...)."
            )

    def _order(self, images: int) -> list[int]:
        """Where in the pipeline's batch the rows [uncond; cond] are."""
        starts = (self._parts.index("uncond") * images, self._parts.index("cond") * images)
        return [start + image for start in starts for image in range(images)]

    def _finish(self, step: Step, every: Tensor | None, images: int) -> Finish | None:
        after, third = self.run.after, self._third(step, every, images)
        if third is None:
            return None if after is None else lambda guided, cond, _: after(guided, cond)

        def finish(guided: Tensor, cond: Tensor, which: list[int]) -> Tensor:
            added = take(third, which)[:, : guided.shape[1]]
            return guided + added if after is None else after(guided + added, cond)

        return finish

    def _third(self, step: Step, every: Tensor | None, images: int) -> Tensor | None:
        """What the third part adds to `u + w (c - u)`, for every image."""
        if every is None or len(self._parts) == ROWS:
            return None
        part = dict(zip(self._parts, every.split(images), strict=True))
        pipe = self.run.guided.pipe
        if "perturbed" in part:
            time = pipe.scheduler.timesteps.new_tensor(step.timestep)
            return pipe._get_pag_scale(time) * (part["cond"] - part["perturbed"])
        passed = self.run.arguments.get("image_guidance_scale", 1.0)
        scale = float(getattr(pipe, "_image_guidance_scale", passed))
        return (scale - 1) * (part["uncond"] - part["neither"])

    def _injected(self, guided: Tensor) -> Tensor:
        if self.run.profile.injected == "quarter":
            return torch.cat([torch.zeros_like(guided), guided / 4])
        return torch.cat([guided] * len(self._parts))
