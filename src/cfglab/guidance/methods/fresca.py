"""FreSca: a scale for low and one for high Fourier modes of the update (2504.02154)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator

from cfglab.guidance.context import StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real, Whole

if TYPE_CHECKING:
    from torch import Tensor


def _cutoff(value: int) -> int:
    if value < 1:
        raise ValueError("a whole number of frequencies is needed, 1 or more; write 20.")
    return value


class FreSca(Transform):
    """`g = u + w F^-1(m F(c - u))`: the Fourier mask m is l (`low`) inside a centred box and h (`high`) outside.

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
                "ComfyUI",
                "high 1.25; the box is at most half of each side, not of the smaller one, and of a video's time",
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

        from cfglab.guidance.methods.laplacian_pyramid import check_spatial

        check_spatial(self.kind, update)
        height, width = update.shape[-2:]
        cutoff = min(self.cutoff, height // 2, width // 2)

        def inside(count: int) -> "Tensor":
            index = torch.fft.fftfreq(count, 1 / count, device=update.device).round()
            return (index >= -cutoff) & (index < cutoff)

        box = inside(height)[:, None] & inside(width)
        mask = torch.full(box.shape, self.high, dtype=update.dtype, device=update.device).masked_fill(box, self.low)
        return update + torch.fft.ifft2(torch.fft.fft2(update) * (mask - 1)).real
