"""Guidance with a scale for each frequency band: FDG (2506.19713) and FreSca (2504.02154)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator

from cfglab.errors import InputError
from cfglab.guidance.context import StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real, Whole

if TYPE_CHECKING:
    from torch import Tensor


def _factors(value: Any) -> Any:
    factors = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    if not 2 <= len(factors) <= 8:
        raise ValueError("2 to 8 factors are needed, the finest band first; write (1, 0.5).")
    return factors


def _cutoff(value: int) -> int:
    if value < 1:
        raise ValueError("a whole number of frequencies is needed, 1 or more; write 20.")
    return value


class FDG(Transform):
    """Frequency-decoupled guidance: the levels of a Laplacian pyramid of `c - u`, each at its own scale `w * factor`.

    `g = u + sum of w factors[k] L_k(c - u)`, the finest level first. arXiv:2506.19713, algorithm 2, for parallel
    weights of 1: linear, so independent of the parameterization. SDXL there has 10 for the high and 5 for the low band:
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
                "the same pyramid, for sizes that halve evenly; scales (10, 5), finest first, instead of w; also "
                "parallel weights",
            ),
            Implementation("cfglab 0.1", "a pyramid of its own: pyramid=nearest"),
        ),
    )

    kind: Literal["fdg"] = "fdg"
    space: Space = "model"
    factors: Annotated[tuple[Real, ...], BeforeValidator(_factors)] = (1.0, 0.5)
    pyramid: Literal["paper", "nearest"] = "paper"

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from cfglab.guidance.methods.laplacian_pyramid import levels

        _check_picture(self.kind, update)
        bands = zip(self.factors, levels(update, len(self.factors), self.pyramid), strict=True)
        return update + sum((factor - 1) * band for factor, band in bands)


class FreSca(Transform):
    """Frequency scaling: the Fourier modes of `c - u` times `low` inside a centred box, `high` outside.

    The box holds the modes with indices from `-cutoff` to `cutoff - 1` in both directions; the cutoff is at most half
    the smaller side, as in the authors' core/fresca.py, whose defaults these are (its other mode picks a cutoff by
    the energy of the whole batch). arXiv:2504.02154. Linear, so independent of the parameterization. Raises InputError
    for predictions without height and width.

    Attributes:
        low: The factor of the modes inside the box, a finite number.
        high: The factor of the modes outside the box, a finite number.
        cutoff: Half the side of the box in Fourier indices, 1 or more.

    Reference:
        arXiv:2504.02154.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | fresca(high=1.25)"))
        7.5 | fresca(high=1.25)
    """

    card: ClassVar[Card] = Card(
        title="FreSca",
        says="High spatial frequencies of the update are made stronger than low ones.",
        formula="u + w F^-1(mask F(c - u)), mask low inside the box, high outside",
        paper="2504.02154",
        source="WikiChao/FreSca, core/fresca.py",
        defaults="the authors' code: low 1, high 1.5, cutoff 20",
        hosts=(
            Implementation(
                "ComfyUI", "high 1.25; a cutoff above half the side wraps round and leaves low modes at `high`"
            ),
        ),
    )

    kind: Literal["fresca"] = "fresca"
    space: Space = "model"
    low: Real = 1.0
    high: Real = 1.5
    cutoff: Annotated[Whole, AfterValidator(_cutoff)] = 20

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        import torch

        _check_picture(self.kind, update)
        height, width = update.shape[-2:]
        cutoff = min(self.cutoff, height // 2, width // 2)

        def inside(count: int) -> "Tensor":
            index = torch.fft.fftfreq(count, 1 / count, device=update.device).round()
            return (index >= -cutoff) & (index < cutoff)

        box = inside(height)[:, None] & inside(width)
        mask = torch.full(box.shape, self.high, dtype=update.dtype, device=update.device).masked_fill(box, self.low)
        return update + torch.fft.ifft2(torch.fft.fft2(update) * (mask - 1)).real


def _check_picture(kind: str, tensor: "Tensor") -> None:
    if tensor.ndim < 4:
        raise InputError(
            f"{kind} on predictions of shape {tuple(tensor.shape)}: it needs height and width, (n, channels, ..., "
            "h, w); leave it out for a model that packs its images into tokens."
        )
