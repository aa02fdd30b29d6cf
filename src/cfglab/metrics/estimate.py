"""A measured number with its 95 % interval."""

from pydantic import BaseModel, ConfigDict


class Estimate(BaseModel):
    """A value with its 95 % interval.

    Attributes:
        value: the value, in the unit of the metric.
        low: the lower end of the interval; None if the data do not determine the spread.
        high: the upper end of the interval; None if the data do not determine the spread.
        n: the number of images behind the value.
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
