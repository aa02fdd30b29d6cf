"""A mixture that is told its class by a noisy text: exact for any encoding, also for one with noise in it.

A text says class c by the encoding e_c; what arrives is y = e_c + spread * normal noise. The perfect model of that
world weighs the classes by Bayes, `p(c | x, y) ∝ p(c | x) p(y | c)`: given the class, x and y are independent. So
methods that change a text's encoding (CADS, ICG) act on it as they do on a network, and what they do is exact.
"""

import math
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.mixtures.mixture import Mixture
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16  # numbers of an encoding; at most as many classes have one of their own


class TextConditionedMixture:
    """The denoiser of a mixture, conditioned on the text of one class.

    Args:
        mixture: the mixture, with 16 classes or fewer.
        label: the class.
        spread: the standard deviation of the noise in encodings of values ±1, above 0.

    Raises:
        InputError: if the class does not exist, there are more than 16 classes, or the spread is not above 0.
    """

    def __init__(self, mixture: Mixture, label: int, spread: float = 1.5) -> None:
        import torch

        if mixture.classes > LENGTH or not (math.isfinite(spread) and spread > 0):
            raise InputError(
                f"{mixture.classes} classes told with spread {spread!r}: at most {LENGTH} have a text, and the spread "
                "is above 0; write 1.5."
            )
        mixture.of_class(label)
        self.mixture, self.label, self.spread = mixture, label, spread
        signs = torch.ones(1, 1, dtype=torch.float64)
        while len(signs) < LENGTH:  # Hadamard's rows: of equal length, at right angles
            signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
        self.encodings = signs[1 : mixture.classes + 1] if mixture.classes < LENGTH else signs
        self._models = [mixture.of_class(class_index) for class_index in range(mixture.classes)]

    @property
    def dimension(self) -> int:
        """d."""
        return self.mixture.dimension

    def texts(self, count: int) -> "dict[str, Tensor]":
        """The text arguments of a denoiser call, as a pipeline would pass them.

        Args:
            count: n, the number of rows.

        Returns:
            `encoder_hidden_states`, (n, 16).
        """
        return {"encoder_hidden_states": self.encodings[self.label].expand(count, -1)}

    def predict(self, x: "Tensor", step: Step, space: Space = "epsilon", **conditioning: Any) -> "Tensor":
        """The exact prediction for x, given the encoding of a text.

        Args:
            x: (n, ...), at the noise level of the step.
            step: The step, with sigma and alpha.
            space: The parameterization.
            conditioning: `encoder_hidden_states`, (n, 16); its own text if left out.

        Returns:
            A tensor of the shape and dtype of x.
        """
        import torch

        arguments = conditioning or self.texts(len(x))
        encodings = arguments["encoder_hidden_states"].double()
        likelihood = -((encodings[:, None, :] - self.encodings) ** 2).sum(2) / (2 * self.spread**2)
        shares = (self.mixture.posterior(x, step).log() + likelihood).softmax(1)
        predictions = torch.stack([model.predict(x, step, space) for model in self._models], dim=1)
        return (shares.reshape(*shares.shape, *[1] * (x.ndim - 1)) * predictions).sum(1).to(x.dtype)
