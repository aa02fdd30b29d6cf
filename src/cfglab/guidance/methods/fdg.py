"""FDG, frequency-decoupled guidance: a scale for each level of a Laplacian pyramid (2506.19713)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from cfglab.guidance.context import StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor


def _factors(value: Any) -> Any:
    factors = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if not 2 <= len(factors) <= 8:
        raise ValueError("2 to 8 factors are needed, the finest band first; write (1, 0.5).")
    return factors


class FDG(Transform):
    """`g = u + sum_k w_k L_k(c - u)`, `w_k = w factors[k]`: each level L_k of a Laplacian pyramid has its own scale.

    The finest level comes first. arXiv:2506.19713, algorithm 2, for parallel weights of 1: it is linear, so independent
    of the parameterization. SDXL there has 10 for the high and 5 for the low band:
    w = 10 with the default factors. The pyramid is the paper's, which is kornia's; `pyramid="nearest"` is that of
    cfglab 0.1, whose bands differ by a tenth of the update, and which is kept to reproduce its images (see
    `laplacian_pyramid`). Raises InputError for predictions without height and width, as packed tokens are.

    Attributes:
        factors: The multiples of w of the 2 to 8 bands, the finest first.
        pyramid: The filters, "paper" or "nearest".

    Reference:
        arXiv:2506.19713, algorithm 2.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("10 | fdg(factors=(1, 0.25))"))
        10 | fdg(factors=(1, 0.25))
    """

    card: ClassVar[Card] = Card(
        title="Frequency-decoupled guidance (FDG)",
        says="Coarse structure and fine detail of the update get scales of their own.",
        formula="u + w sum_k factor_k L_k(c - u), L a Laplacian pyramid",
        paper="2506.19713",
        source="algorithm 2, whose listing imports kornia's `build_laplacian_pyramid` and `pyrup`; SDXL's 10 and 5 as "
        "diffusers quotes table 8",
        defaults="factors (1, 0.5): with w = 10 the SDXL setting",
        hosts=(
            Implementation(
                "diffusers",
                "the same pyramid where a side is a power of two; elsewhere kornia makes both sides powers of two by "
                "reflection, and the result is not cut; scales (10, 5), finest first, instead of w; also parallel "
                "weights",
            ),
            Implementation(
                "ComfyUI", "a custom node; w is the coarse band's scale, 12 the fine one's; pads sides to powers of two"
            ),
            Implementation("cfglab 0.1", "a pyramid of its own: pyramid=nearest"),
        ),
    )

    kind: Literal["fdg"] = "fdg"
    space: Space = "model"
    factors: Annotated[tuple[Real, ...], BeforeValidator(_factors)] = (1.0, 0.5)
    pyramid: Literal["paper", "nearest"] = "paper"

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from cfglab.guidance.methods.laplacian_pyramid import check_spatial, levels

        check_spatial(self.kind, update)
        bands = zip(self.factors, levels(update, len(self.factors), self.pyramid), strict=True)
        return update + sum((factor - 1) * band for factor, band in bands)
