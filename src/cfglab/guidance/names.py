"""The names of the parameterizations, in a file of their own so that a Guidance is read and written without torch."""

from typing import Literal

Space = Literal["epsilon", "x0", "v", "flow", "model"]
