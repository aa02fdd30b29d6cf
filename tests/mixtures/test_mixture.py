"""Mixtures against torch's own distributions and its autograd, Tweedie's formula and Bayes' rule."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from cfglab.errors import InputError
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import Path, flow_levels, karras, noise_steps
from cfglab.mixtures.text_conditioned import TextConditionedMixture
from cfglab.mixtures.toys import TOYS, toy, tree, two
from cfglab.step import Step

MEANS = torch.tensor([[0.5, -1, 2], [1, 1, 0], [-2, 0.3, 0.1]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
_ROOT = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
FULL = _ROOT @ _ROOT.mT + 0.05 * torch.eye(3, dtype=torch.float64)
X = 2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
ROUND = Mixture(WEIGHTS, MEANS, [0.1, 0.4, 2.0], [0, 1, 1])
LONG = Mixture(10 * WEIGHTS, MEANS, FULL, [0, 1, 1])


def levels(path: Path) -> list[Step]:
    return noise_steps([3.0, 0.7, 0.05, 0.0], path)


def oracle(mixture: Mixture, a: float, n: float) -> MixtureSameFamily:
    covariances = mixture.covariances
    if covariances.ndim == 1:
        covariances = covariances[:, None, None] * torch.eye(mixture.dimension, dtype=torch.float64)
    noisy = a**2 * covariances + n**2 * torch.eye(mixture.dimension, dtype=torch.float64)
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(a * mixture.means, noisy))


@pytest.mark.parametrize("mixture", [ROUND, LONG], ids=["round", "long"])
@pytest.mark.parametrize("path", ["ve", "vp", "flow"])
def test_predictions_are_the_score_in_every_space(mixture: Mixture, path: Path) -> None:
    for step in levels(path):
        a, n = float(step.alpha or 0), float(step.alpha or 0) * float(step.sigma or 0)
        x = X.clone().requires_grad_()
        density = oracle(mixture, a, n).log_prob(x)
        (score,) = torch.autograd.grad(density.sum(), x)
        assert torch.allclose(mixture.log_density(X, step), density.detach(), atol=1e-11)
        x0 = (X + n**2 * score) / a  # Tweedie
        expected = {"epsilon": -n * score, "x0": x0, "v": -a * n * score - n * x0, "flow": -n * score - x0}
        for space, value in expected.items():
            found = mixture.predict(X, step, space)  # type: ignore[arg-type]
            assert torch.allclose(found, value, atol=1e-9), space


@pytest.mark.parametrize("mixture", [ROUND, LONG], ids=["round", "long"])
def test_the_posterior_is_bayes_rule(mixture: Mixture) -> None:
    step = levels("vp")[1]
    joint = torch.stack(
        [mixture.priors[one].log() + mixture.of_class(one).log_density(X, step) for one in range(2)], dim=1
    )
    assert torch.allclose(mixture.posterior(X, step), joint.softmax(1), atol=1e-12)
    assert torch.allclose(mixture.priors, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert torch.allclose(mixture.components(X).sum(1), torch.ones(len(X), dtype=torch.float64))


@pytest.mark.parametrize("mixture", [ROUND, LONG, tree().mixture], ids=["round", "long", "tree"])
def test_samples_have_the_moments_within_four_standard_errors(mixture: Mixture) -> None:
    count = 20_000
    x = mixture.sample(range(count))
    mean, covariance = mixture.moments()
    apart = x - mean
    assert ((apart.mean(0) / (covariance.diagonal() / count).sqrt()).abs() < 4).all()
    products = apart[:, :, None] * apart[:, None, :]
    errors = products.std(0) / math.sqrt(count)
    assert (((products.mean(0) - covariance) / errors).abs() < 4).all()
    masses = mixture.components(x).mean(0)
    assert ((masses - mixture.weights).abs() < 4 * (mixture.weights / count).sqrt()).all()


def test_a_sample_belongs_to_its_seed() -> None:
    assert torch.equal(LONG.sample([5, 2, 9])[1:2], LONG.sample([2]))
    with pytest.raises(InputError, match="one whole number of 0 or more a sample"):
        LONG.sample([-1])


def test_shape_dtype_and_pure_noise() -> None:
    step = noise_steps(flow_levels(4), "flow")[0]
    assert step.alpha == 0
    x = X.float().reshape(40, 3, 1)
    found = ROUND.predict(x, step, "x0")
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    assert torch.allclose(found[0, :, 0].double(), ROUND.moments()[0], atol=1e-6)
    assert torch.allclose(ROUND.predict(x, step, "epsilon"), x)


def test_many_rows_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    step, whole = levels("ve")[0], LONG.predict(X, levels("ve")[0])
    monkeypatch.setattr("cfglab.mixtures.mixture.CHUNK", 30)
    assert torch.allclose(LONG.predict(X, step), whole, atol=1e-13)


def test_blurred_and_given() -> None:
    assert torch.allclose(LONG.blurred(0.3).moments()[1], LONG.moments()[1] + 0.3 * torch.eye(3, dtype=torch.float64))
    assert ROUND.blurred(0.3).covariances.tolist() == pytest.approx([0.4, 0.7, 2.3])
    assert ROUND.of_class(1).weights.tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, 1], [0.0, 1.0], 1), r"\(k,\) and \(k, d\)"),
        (([1, 0], [[0.0], [1.0]], 1), "each is above 0"),
        (([1, 1], [[0.0], [1.0]], 1, [0, 2]), "classes count from 0"),
        (([1, 1], [[0.0], [1.0]], [1, 1, 1]), "symmetric"),
        (([1, 1], [[0.0], [1.0]], 0), "variances are above 0"),
    ],
)
def test_what_is_no_mixture_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Mixture(*arguments)


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(InputError, match="class 7 of a mixture with 2"):
        ROUND.of_class(7)
    with pytest.raises(InputError, match="points of 2 numbers for a mixture in 3 dimensions"):
        ROUND.log_density(X[:, :2])
    with pytest.raises(InputError, match="without sigma and alpha"):
        ROUND.predict(X, Step(0, 10))
    with pytest.raises(InputError, match="a mixture predicts x0, epsilon, v, flow"):
        ROUND.predict(X, levels("ve")[0], "model")
    with pytest.raises(InputError, match="did you mean tree"):
        toy("tre")


def test_the_tree_grows_as_it_says() -> None:
    trees = tree()
    one = trees.of_class(1)
    assert int(one.modes.max()) + 1 == 1 + 3 + 9 + 27
    assert int(trees.modes.max()) + 1 == 120
    assert one.shares(one.mixture.weights).sum() == pytest.approx(1)
    turned = trees.mixture.of_class(0).moments()[0].norm(), one.mixture.moments()[0].norm()
    assert turned[0] == pytest.approx(turned[1])  # the same tree, turned
    middle = torch.zeros(1, 2, dtype=torch.float64) + torch.tensor([0.0, -0.45])  # between two trees
    assert trees.mixture.log_density(middle) < -8
    classes = {name: toy(name).mixture.classes for name in TOYS}
    assert classes == {"two": 2, "modes": 2, "tree": 3, "foggy-tree": 3}
    assert two(9).mixture.means.norm(dim=1).tolist() == [3, 3]


def test_a_told_mixture_is_the_bayes_model_of_its_texts() -> None:
    """Against the mixture over (x, y) jointly: E[x0 | x, y] by its own definition, class by class."""
    mixture, step = tree().mixture, noise_steps(karras(4, 2.0), "vp")[1]
    told = TextConditionedMixture(mixture, 1, spread=2.0)
    x = X[:, :2]
    y = told.encodings[1] + 2 * torch.randn(40, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = [mixture.of_class(one) for one in range(3)]
    logs = torch.stack(
        [
            one.log_density(x, step)
            + MultivariateNormal(told.encodings[i], 4 * torch.eye(16, dtype=torch.float64)).log_prob(y)
            for i, one in enumerate(given)
        ]
    )
    expected = sum(
        share[:, None] * one.predict(x, step, "x0") for share, one in zip(logs.softmax(0), given, strict=True)
    )
    assert torch.allclose(told.predict(x, step, "x0", encoder_hidden_states=y), expected, atol=1e-10)
    sure = TextConditionedMixture(mixture, 1, spread=0.2)
    assert torch.allclose(sure.predict(x, step), given[1].predict(x, step), atol=1e-4)
    with pytest.raises(InputError, match="the spread is above 0"):
        TextConditionedMixture(mixture, 1, spread=0)
