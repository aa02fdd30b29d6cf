"""The statistics of the experiment on wrong captions, on scores whose slopes are known."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.wrong_captions import SCALES, by_share, figure, gain, hypotheses, means, read, slope, table
from cfglab.errors import InputError
from cfglab.experiments import Experiment
from cfglab.experiments.analysis.scores import Scores

PROMPTS, SEEDS = tuple(f"prompt {i}" for i in range(16)), tuple(range(43000, 43008))
SETTINGS = ("none", *(f"{shape} w={w}" for shape in ("constant", "falling", "rising") for w in SCALES))


def scores(share: float, early: float, seed: int) -> Scores:
    """Guidance gains a point, falling `early` points more and rising as many less, for each point of wrong captions."""
    random = np.random.default_rng(seed)
    values = random.normal(0.5, 0.01, (len(SETTINGS), len(PROMPTS), len(SEEDS)))
    for i, name in enumerate(SETTINGS):
        values[i] += share / 100 * (0 if name == "none" else 1)
        values[i] += early * share / 100 * (name.startswith("falling") - name.startswith("rising"))
    return Scores(
        metric="alignment",
        settings=SETTINGS,
        prompts=PROMPTS,
        seeds=SEEDS,
        values=values,
        failed=np.zeros(values.shape, bool),
        measured=frozenset({"alignment"}),
        crossed=False,
    )


def test_slopes_are_found_and_without_wrong_captions_the_shapes_are_equal(tmp_path: Path) -> None:
    runs = {share: scores(share, 0.3, int(share)) for share in (0.0, 10.0, 20.0, 40.0)}
    found = hypotheses(runs)
    assert [test.name for test in found] == ["C1", "C2", "C3", "C4", "C4"]
    for test, expected in zip(found, (1, 0.3, 0.3, 0, 0), strict=True):
        assert test.difference.difference == pytest.approx(expected, abs=0.35 if test.name == "C4" else 0.05)
        assert test.p is not None
        assert test.p < 0.001
    assert found[0].difference.n == 16 * 4  # the odd seeds
    assert found[1].difference.n == 16 * 8
    lines = table(found)
    assert len(lines) == 2 + 5
    assert "| C2 | slope of falling minus constant | +0.30 |" in lines[3]
    assert len(means(runs)) == 2 + 4
    assert by_share(runs)[-1].startswith("| 40 % | +40.")
    assert "| +12." in by_share(runs)[-1]
    figure(runs, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_no_slope_is_no_finding() -> None:
    runs = {share: scores(share, 0.0, int(share)) for share in (0.0, 20.0, 40.0)}
    found = {test.name: test for test in hypotheses(runs)}
    assert found["C2"].p is not None
    assert found["C2"].p > 0.01
    assert abs(found["C2"].difference.difference or 0) < 0.01


def test_a_slope_is_that_of_the_least_squares_line() -> None:
    shares = [0.0, 10.0, 20.0, 40.0]
    values = [np.random.default_rng(i).normal(size=(3, 2)) for i in range(4)]
    expected = np.polyfit(shares, np.stack(values).reshape(4, -1), 1)[0].reshape(3, 2)
    assert np.allclose(slope(shares, values), expected)


def test_the_best_constant_is_chosen_on_other_seeds_than_its_gain() -> None:
    one = scores(10.0, 0.0, 0)
    odd = np.array(SEEDS) % 2 == 1
    one.values[SETTINGS.index("constant w=3")][:, odd] += 5.0  # what the choice must not see
    one.values[SETTINGS.index("constant w=4")][:, ~odd] += 5.0
    assert abs(gain(one).mean() - 10) < 1


def test_runs_of_other_images_and_other_files_are_refused() -> None:
    other = scores(10.0, 0.0, 1)
    fewer = Scores(**{name: getattr(other, name) for name in Scores.__slots__} | {"seeds": SEEDS[1:]})
    with pytest.raises(InputError, match="differ in prompts or seeds"):
        hypotheses({0.0: scores(0.0, 0.0, 0), 10.0: fewer})
    with pytest.raises(InputError, match=r"such as 20=runs/wrong-20"):
        read("runs/wrong-20")


def test_the_file_has_the_settings_that_are_read() -> None:
    experiment = Experiment.from_yaml((Path(__file__).parents[2] / "benchmarks/wrong_captions.yaml").read_text())
    assert tuple(setting.name for setting in experiment.settings) == SETTINGS
