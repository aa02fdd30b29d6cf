"""The state of one guided pipeline call, as the layouts (`batched`, `two_calls`, `embedded_scale`) see it."""

from typing import Any, Protocol

from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.step_reader import StepReader
from cfglab.denoising.trace import StepRecord
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.post_combine import PostCombine
from cfglab.pipelines.interception.prompt_encoding import Encodings
from cfglab.pipelines.profiles.profile import Layout, Profile
from cfglab.step import Step


class CallStyle(Protocol):
    """How the denoiser calls of one layout are guided."""

    @property
    def waiting(self) -> bool:
        """Whether a step waits for its second call."""

    def call(self, call: DenoiserCall, name: str) -> Any:
        """The output of one denoiser call.

        Args:
            call: The call that the pipeline makes.
            name: The name of the component that is called.

        Returns:
            An output of the kind that the denoiser returns, with the guided prediction.
        """

    def finish(self) -> None:
        """Check the end of the run.

        Raises:
            InputError: A step is incomplete, or the denoiser was not called.
        """


class GuidedRun(Protocol):
    """One call of a guided pipeline.

    Attributes:
        pipe: The pipeline.
        profile: The layout of its class.
        layout: How this call is guided.
        arguments: The arguments of the pipeline call by name, defaults included.
        scheduler: The scheduler at the start of the run.
        number: The number of the run in its context, from 0.
        context: The name that the pipeline passed to `cache_context`; None outside of it.
        post_combine: The pipeline's operation on the guided prediction, done here instead; None if there is none.
        rows: The rows of the run; None before the first denoiser call.
        reader: Counts the denoiser calls of the run.
        encodings: Encodes further prompts.
        equal_rows: The equal rows of each ControlNet, by component name.
        claims: Scalars on a device, each True if the rows that were taken for equal at a call were equal.
        template: An output of the denoiser, for steps at which it is not run.
        style: Guides the denoiser calls.
    """

    pipe: Any
    profile: Profile
    layout: Layout
    arguments: dict[str, Any]
    scheduler: Any
    number: int
    context: str | None
    post_combine: PostCombine | None
    rows: GuidedRows | None
    reader: StepReader
    encodings: Encodings
    equal_rows: dict[str, EqualRows]
    claims: list[Tensor]
    template: Any
    style: CallStyle

    def guidances(self, images: int) -> list[Any]:
        """The guidance of each image.

        Args:
            images: The number of images.

        Returns:
            One guidance per image.

        Raises:
            InputError: A list of guidances has another length.
        """

    def step(self, call: DenoiserCall) -> Step:
        """The Step of this call; counts the call.

        Args:
            call: The denoiser call.

        Returns:
            The Step.

        Raises:
            InputError: The call is past the end of the run.
        """

    def upcoming(self, call: DenoiserCall) -> Step:
        """The Step of the next denoiser call; does not count.

        Args:
            call: The denoiser call.

        Returns:
            The Step.

        Raises:
            InputError: The call is past the end of the run.
        """

    def start(self, call: DenoiserCall, images: int, specs: list[Any] | None = None) -> GuidedRows:
        """The rows of this run, made at its first call.

        Args:
            call: The first denoiser call.
            images: The number of images in it.
            specs: The guidance of each image; None for those of the run.

        Returns:
            The rows; the same object at every call.

        Raises:
            InputError: The number of images changes during the run.
        """

    def runs_all_rows(self, call: DenoiserCall, step: Step, *, helper: bool = False) -> bool:
        """Whether this call runs all of its rows, because they may not be independent.

        Args:
            call: The call.
            step: Its step.
            helper: True for the call of a ControlNet.

        Returns:
            True if all rows run.
        """

    def record(self, record: StepRecord, guided: Tensor, **changes: Any) -> None:
        """Add a step to the trace.

        Args:
            record: The record of the step.
            guided: The guided prediction.
            changes: Fields of the record to replace.

        Raises:
            NotFinite: The prediction is NaN.
        """
