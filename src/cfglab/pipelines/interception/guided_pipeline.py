"""A pipeline under guidance: what lives as long as the context of `guide()`, shared by all runs inside it."""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from cfglab.denoising.trace import Trace
from cfglab.guidance import Guidance
from cfglab.pipelines.interception.driven import DrivenNumbers
from cfglab.pipelines.interception.preconditions import check_specs
from cfglab.pipelines.profiles.profile import Profile

Span = Literal["call", "trajectory"]
"""What a schedule spans: the steps of each call, or the whole trajectory of which a call may run a part."""


class GuidedPipeline:
    """The guidance of a pipeline and its trace. The state of a pipeline call is in its own `PipelineRun`.

    Args:
        pipe: The pipeline; it is referred to weakly.
        profile: The layout of its class.
        specs: One guidance, or one per image.
        several: Whether `specs` is one per image.
        keep: Whether the trace keeps all runs, or the runs under way and the latest one.
        share_rows: Whether unneeded rows are skipped and equal rows run once; None if the network decides.
        span: The steps that a schedule counts over.
        driven: Numbers beside w that follow schedules.

    Attributes:
        trace: The records of the denoiser calls.
        warned: Whether the user was told that all rows are run.
    """

    def __init__(
        self,
        pipe: Any,
        profile: Profile,
        specs: Sequence[Any],
        several: bool,
        *,
        keep: bool = True,
        share_rows: bool | None = None,
        span: Span = "call",
        driven: DrivenNumbers | None = None,
    ) -> None:
        self._pipe = weakref.ref(pipe)
        self.profile, self.specs, self.several, self.keep, self.span = profile, list(specs), several, keep, span
        self.share_rows, self.driven = share_rows, driven
        self.trace = Trace()
        self.warned = False
        self._run_count = 0

    @property
    def pipe(self) -> Any:
        """The pipeline; None once it is gone."""
        return self._pipe()

    @property
    def changes_network(self) -> bool:
        """Whether a network may be changed during some of its calls: for a perturbed pass, or by a driven number."""
        return self.driven is not None or any(not isinstance(spec, Guidance) or spec.transforms for spec in self.specs)

    @property
    def whole_trajectory(self) -> bool:
        """Whether schedules count over the whole trajectory."""
        return self.span == "trajectory"

    def guidances(self, images: int) -> list[Any]:
        """The guidance of each image.

        Args:
            images: The number of images of a run.

        Returns:
            One guidance per image.

        Raises:
            InputError: A list of guidances has another length.
        """
        return check_specs(self.specs, images) if self.several else self.specs * images

    def next_run(self, open_numbers: Iterable[int]) -> int:
        """The number of a run that begins. Without `keep`, the trace drops the runs that have ended.

        Args:
            open_numbers: The numbers of the runs that are under way.

        Returns:
            The number, from 0.
        """
        number, self._run_count = self._run_count, self._run_count + 1
        if not self.keep:
            numbers = set(open_numbers)
            self.trace.steps[:] = [record for record in self.trace.steps if record.run in numbers]
        return number

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(map(str, self.specs)))
