"""A measured number with its 95 % interval."""

from pydantic import BaseModel, ConfigDict


class Estimate(BaseModel):
    """`value` with its 95 % interval `low` .. `high`; both are None where the data say nothing about the spread.

    `n` counts the images behind the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None = None
    high: float | None = None
    n: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4g} (n = {self.n}, no interval)"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"
