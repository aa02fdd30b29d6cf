"""The base class of guidance away from a weak prediction: `g + s (c - c~)`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Fraction
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


def _layers(value: Any) -> tuple[str, ...]:
    """One name, a number, or several of them."""
    several = value if isinstance(value, tuple | list) else (value,)
    if not several or any(
        isinstance(layer, bool) or not isinstance(layer, str | int) or layer == "" for layer in several
    ):
        raise ValueError("layers are names or numbers; write layers=mid or layers=(7, 8, 9).")
    return tuple(map(str, several))


Layers = Annotated[tuple[str, ...], BeforeValidator(_layers)]


class WeakPrediction(Transform):
    """`g + factor (c - c~)`: the base class of guidance away from a weak prediction c~, in a window of the run.

    Attributes:
        space: The parameterization in which it acts; "model" by default.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`, at most 1.
    """

    reads_uncond: ClassVar[bool] = False

    kind: str
    space: Space = "model"
    start: Fraction = 0.0
    stop: Fraction = 1.0

    @model_validator(mode="after")
    def _window(self) -> "WeakPrediction":
        if self.stop <= self.start:
            raise InputError(
                f"{self.kind}(start={self.start:g}, stop={self.stop:g}): it stops after it starts; swap them."
            )
        return self

    def factor(self) -> float:
        """The factor of `c - c~`.

        Returns:
            A number; 0 changes nothing.
        """
        raise NotImplementedError

    def weak_pass(self, step: Step) -> Perturbation:
        """The perturbed pass that predicts c~.

        Args:
            step: The step, inside the window.

        Returns:
            The perturbation.
        """
        raise NotImplementedError

    def variation(self, step: Step) -> Perturbation | None:
        return self.weak_pass(step) if self.start <= step.progress < self.stop else None

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return guided if context.extra is None else guided + self.factor() * (context.cond - context.extra)


def later_passes(specs: Iterable[Any], step: Step) -> Iterator[Perturbation]:
    """The passes of a later window, or of one that no step of the run is in.

    Args:
        specs: The guidances of the run.
        step: The first step.

    Yields:
        The passes.
    """
    for spec in specs:
        for transform in getattr(spec, "transforms", ()):
            waits = isinstance(transform, WeakPrediction) and transform.strength > 0
            if waits and transform.variation(step) is None:
                yield transform.weak_pass(step)


def check_later_passes(specs: Iterable[Any], denoiser: Any, step: Step) -> None:
    """At the first step: refuse what a later pass would ask of a network.

    Args:
        specs: The guidances of the run.
        denoiser: The network.
        step: The step.

    Raises:
        InputError: A weak prediction cannot be made of this network, such as without a layer that it does not have.
    """
    for wanted in later_passes(specs, step):
        with wanted.applied(denoiser):
            pass
