"""Toy problems by name: mixtures whose densities are known exactly, to test methods on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cfglab.errors import InputError
from cfglab.mixtures.mixture import Mixture
from cfglab.schedules.fields import nearest

if TYPE_CHECKING:
    from torch import Tensor

FAN = (-37.0, 3.0, 41.0)  # degrees by which the three children of a limb turn
SHORTER = 0.62  # a child's length over its parent's
DEPTH = 3
BEADS = 4  # Gaussians along a limb
THICKNESS = 0.055  # a limb's standard deviation across, over its length


@dataclass(frozen=True, eq=False)
class ToyProblem:
    """A mixture with the mode of each of its components.

    Attributes:
        mixture: the mixture.
        modes: (k,), the mode of each component, counted from 0.
        fog: the variance that the model of an experiment adds to every component; 0 is an exact model.
    """

    mixture: Mixture
    modes: "Tensor"
    fog: float = 0.0

    def of_class(self, label: int) -> "ToyProblem":
        """One class, its modes counted from 0.

        Args:
            label: The class, from 0.

        Returns:
            The toy problem of the class.

        Raises:
            InputError: There is no such class.
        """
        import torch

        mixture = self.mixture.of_class(label)
        _, modes = torch.unique(self.modes[self.mixture.labels == label], return_inverse=True)
        return ToyProblem(mixture, modes)

    def shares(self, components: "Tensor") -> "Tensor":
        """Values of components added up by mode.

        Args:
            components: (..., k).

        Returns:
            (..., modes).
        """
        size = (*components.shape[:-1], int(self.modes.max()) + 1)
        return components.new_zeros(size).index_add_(-1, self.modes, components)


def two(dimension: int = 1) -> ToyProblem:
    """Two classes, N(m, 0.25 I) and N(-m, 0.25 I), with |m|^2 = d: the means are 1 and -1 in every coordinate.

    Args:
        dimension: d, 1 or more.

    Returns:
        The toy problem.
    """
    import torch

    mixture = Mixture([1, 1], [[1.0] * dimension, [-1.0] * dimension], 0.25, [0, 1])
    return ToyProblem(mixture, torch.arange(2))


def modes() -> ToyProblem:
    """Class 0 has a large mode (0.7) at (1, 1) and a small one (0.3) at (1, -1); class 1 is broad, around (-1, 0).

    Returns:
        The toy problem, in 2 dimensions.
    """
    import torch

    mixture = Mixture([0.35, 0.15, 0.5], [[1, 1], [1, -1], [-1, 0]], [0.02, 0.02, 0.3], [0, 0, 1])
    return ToyProblem(mixture, torch.arange(3))


def tree() -> ToyProblem:
    """Three trees in the plane that grow from one root, one per class: thin limbs with empty space between them.

    Every limb but the last forks in three, so a tree has 40. Each limb is a mode: a chain of Gaussians with the weight
    of the area that it covers. Similar to autoguidance's toy, with other numbers.

    Returns:
        The toy problem, in 2 dimensions.

    Reference:
        arXiv:2406.02507, figure 2.
    """
    import torch

    limbs = [(label, *limb) for label, angle in enumerate((90, 210, 330)) for limb in _grown(0.0, 0.0, angle, 0.9, 0)]
    weights, means, covariances, labels, mode = [], [], [], [], []
    for mode_index, (label, x, y, angle, length) in enumerate(limbs):
        along = (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        long, thin = (0.62 * length / BEADS) ** 2, (THICKNESS * length) ** 2
        for bead in range(BEADS):
            reach = (bead + 0.5) / BEADS * length
            weights.append(length**2)
            means.append([x + along[0] * reach, y + along[1] * reach])
            (c, s), excess = along, long - thin
            covariances.append([[excess * c * c + thin, excess * c * s], [excess * c * s, excess * s * s + thin]])
            labels.append(label)
            mode.append(mode_index)
    return ToyProblem(Mixture(weights, means, covariances, labels), torch.tensor(mode))


def _grown(x: float, y: float, angle: float, length: float, depth: int) -> list[tuple[float, float, float, float]]:
    """A limb and all that grows on it: (x, y) where it starts, its direction in degrees, its length."""
    limbs = [(x, y, angle, length)]
    if depth < DEPTH:
        end = (x + length * math.cos(math.radians(angle)), y + length * math.sin(math.radians(angle)))
        for turn in FAN:
            limbs += _grown(*end, angle + turn, SHORTER * length, depth + 1)
    return limbs


def foggy_tree() -> ToyProblem:
    """The toy problem of `tree`, with a model in which every limb is a little thicker.

    Returns:
        The toy problem.
    """
    return replace(tree(), fog=0.0008)


TOYS: dict[str, Callable[[], ToyProblem]] = {"two": two, "modes": modes, "tree": tree, "foggy-tree": foggy_tree}
"""By the name that follows `mixture:`."""


def toy(name: str) -> ToyProblem:
    """The toy problem with a name.

    Args:
        name: A name of TOYS.

    Returns:
        The toy problem.

    Raises:
        InputError: There is no such toy; the message has the nearest name.

    Examples:
        >>> toy("two").mixture.classes
        2
    """
    if name not in TOYS:
        raise InputError(f"mixture {name!r}: there are {', '.join(TOYS)};{nearest(name, TOYS) or ' name one.'}")
    return TOYS[name]()
