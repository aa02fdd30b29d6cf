"""The names of the spaces, apart so that a Guidance can be read and written without torch."""

from typing import Literal

Space = Literal["epsilon", "x0", "v", "flow", "model"]
