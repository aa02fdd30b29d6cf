"""Methods that ask for more than the two predictions that a mixture has."""

import pytest
import torch

from cfglab.errors import InputError
from cfglab.guidance import parse_guidance
from cfglab.mixtures.guided import GuidedMixture
from cfglab.mixtures.mixture import Mixture
from cfglab.step import Step

TWO = Mixture([0.5, 0.5], [[0.0, 1.0], [2.0, 0.0]], 1.0, [0, 1])
STEP = Step(2, 10, timestep=500.0, sigma=1.0, next_sigma=0.8, alpha=0.5**0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 | perp_neg(prompt=dog)", "it asks for a prediction for a further text, and there are two here"),
        ("3 | dual_cfg(prompt=dog)", "on a Mixture: it asks for a prediction for a further text"),
        ("3 | nag(s=2)", "nag: '' was not encoded: it needs a host that can encode a further prompt."),
        ("3 | pag()", "pag on a Mixture: it reaches into the layers of a network, and this has none"),
        ("3 | sag()", "sag on a Mixture: it reaches into the layers"),
        ("3 | tsg(w=2, s=1)", "tsg on a Mixture: it reaches into the layers"),
        ("3 | autoguidance(w=2, model=nobody)", "no weak model 'nobody'"),
        ("3 | icg()", "no encoding of a text"),
        ("3 | fdg()", "fdg on predictions of shape (3, 2): it needs height and width"),
    ],
)
def test_what_a_mixture_has_not_is_said(text: str, said: str) -> None:
    guided = GuidedMixture(TWO.of_class(1), TWO, parse_guidance(text), "epsilon", 3)
    with pytest.raises(InputError) as error:
        guided.predict(torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), STEP)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
