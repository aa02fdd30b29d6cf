"""The names of the parameterizations. A separate file, so that a Guidance is read and written without torch."""

from typing import Literal

Space = Literal["epsilon", "x0", "v", "flow", "logits", "model"]
"""What the tensors of predictions mean; "logits": of the tokens of a discrete model, normalized by its sampler."""
