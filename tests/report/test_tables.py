"""The numbers of a report, without pixels."""

from pathlib import Path

import numpy as np
import pytest

from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import COLUMNS, CellTrace
from cfglab.metrics import METRICS, Estimate
from cfglab.report.summary.tables import Tables, build, curve, main_metric
from tests.report.runs import experiment, make, trace


def tables(folder: Path) -> Tables:
    with Store.open(folder) as store:
        return build(store)


def setting(guidance: str) -> Setting:
    return Setting(name="s", group="g", title="", guidance=guidance)  # type: ignore[arg-type]


def test_noise_levels_are_those_of_stable_diffusion() -> None:
    sigmas = standard_sigmas(50)
    assert [sigmas[i] for i in (0, 10, 25, 40, 49)] == pytest.approx([14.61, 5.00, 1.56, 0.533, 0.029], rel=6e-3)
    assert len(sigmas) == 51
    assert sigmas[-1] == 0


@pytest.mark.parametrize(
    ("k", "dose", "effective", "inverted"),
    [(0.1, 1.3344, 1.23, 7.27), (0.5, 2.9984, 2.85, 5.66), (1, 4.3150, 4.36, 4.14), (5, 6.6122, 6.96, 1.54)],
)
def test_doses_against_the_published_sweep(k: float, dose: float, effective: float, inverted: float) -> None:
    values, found, weighted = curve(setting(f"cosine(max=7.5, min=1, k={k})"), 50)
    assert values[0] == 7.5
    assert found == pytest.approx(dose, abs=1e-4)
    assert weighted == pytest.approx(effective, abs=0.012)
    assert curve(setting(f"cosine(max=7.5, min=1, k={k}).inverted()"), 50)[2] == pytest.approx(inverted, abs=0.012)


def test_effective_doses_are_at_the_noise_levels_of_the_runs_own_sampler(tmp_path: Path) -> None:
    drawn = experiment(seeds=1)
    levels = [8.0 - 7.5 * index / (drawn.steps - 1) for index in range(drawn.steps)]
    without = tables(make(tmp_path / "without", drawn, traced=False))
    assert not without.own_levels
    folder = make(tmp_path / "run", drawn, traced=True)
    with Store.open(folder) as store:
        rows = store.rows()
    values = trace(drawn.baseline, 0, drawn.steps).values
    values[COLUMNS.index("sigma")] = levels
    twice = CellTrace(np.repeat(values, 2, axis=1))  # a sampler that calls the model twice
    with Store.create(folder, drawn) as store:
        store.record([row.model_copy(update={"trace": twice.encode()}) for row in rows])
    found = tables(folder)
    assert found.own_levels
    for row in found.rows:
        expected = row.setting.guidance.schedule.effective_dose([*levels, 0.0])
        assert row.effective == pytest.approx(expected, rel=1e-6)
    assert found.rows[1].effective != pytest.approx(without.rows[1].effective, rel=1e-2)


def test_off_is_a_gap_in_the_curve_and_one_in_the_dose() -> None:
    values, dose, _ = curve(setting("power(max=5, min=5).inside(steps=(2, 4))"), 5)
    assert values == (None, None, 5.0, 5.0, None)
    assert dose == pytest.approx((1 + 1 + 5 + 5 + 1) / 5)


def test_counts_means_and_differences(tmp_path: Path) -> None:
    it = tables(make(tmp_path / "run", experiment(), fail=(3, 20), stop=100))
    assert [row.setting.name for row in it.rows][:2] == ["constant", "k-decay k=0.3"]
    assert [(row.done, row.failed, row.missing) for row in it.rows[:2]] == [(15, 1, 0), (15, 1, 0)]
    assert (it.rows[-1].done, it.rows[-1].missing) == (4, 12)
    assert it.images_per_setting == 16
    row = it.rows[1]
    with Store.open(tmp_path / "run") as store:
        values = {
            (result.setting, result.seed): result.metrics["saturation"]
            for result in store.results()
            if result.status == "done"
        }
    own = [value for (name, _), value in values.items() if name == row.setting.name]
    assert row.means["saturation"].value == pytest.approx(sum(own) / 15)
    pairs = [
        values[row.setting.name, seed] - values["constant", seed]
        for seed in range(16)
        if (row.setting.name, seed) in values and ("constant", seed) in values
    ]
    assert row.differences["saturation"].n == len(pairs) == 14
    assert row.differences["saturation"].difference == pytest.approx(sum(pairs) / 14)
    assert "constant" not in {row.setting.name for row in it.rows if row.differences}


def test_groups_have_their_axis(tmp_path: Path) -> None:
    groups = tables(make(tmp_path / "run", experiment(seeds=0))).groups
    assert [(group.name, group.axis and group.axis.values) for group in groups] == [
        ("k-decay", (0.3, 1, 3)),
        ("inverted", (0.3, 1, 3)),
    ]


def test_one_picture_has_no_interval(tmp_path: Path) -> None:
    it = tables(make(tmp_path / "run", experiment(seeds=5)))
    assert it.images_per_setting == 1
    for row in it.rows:
        assert all(mean.low is None and mean.high is None for mean in row.means.values())
        assert all(
            found.low is None and found.p is None and not found.significant for found in row.differences.values()
        )
    assert it.held_back is None


def test_the_best_is_the_lowest_where_lower_is_better(tmp_path: Path) -> None:
    low = {"k-decay k=3": 0.01, "constant": 0.001}
    folder = make(
        tmp_path / "run",
        experiment(seeds="0..2"),
        score=lambda setting, _, seed: {"clipped_share": low.get(setting.name, 0.2) + seed / 1000, "contrast": 0.1},
    )
    it = tables(folder)
    assert it.main is not None
    assert it.main.name == "clipped_share"
    assert it.best is not None
    assert it.best.setting.name == "k-decay k=3"


def test_the_main_metric_is_alignment_else_one_with_a_direction() -> None:
    assert main_metric([METRICS[name] for name in ("clipped_share", "alignment")]) == METRICS["alignment"]
    assert main_metric([METRICS[name] for name in ("saturation", "contrast")]) is None


def test_an_interval_of_shares_stays_within_them(tmp_path: Path) -> None:
    two = Experiment.preset(
        "k-decay", prompts=["a cat", "a dog"], seeds=0, set={"groups.0.axes.k": [1], "groups.1.axes.k": [1]}
    )
    folder = make(
        tmp_path / "run",
        two,
        score=lambda setting, prompt, _: {"alignment": float(prompt == "a cat" or setting.group == "inverted")},
    )
    it = tables(folder)
    number = it.rows[0].means["alignment"]
    assert (number.value, number.low, number.high) == (0.5, 0.0, 1.0)
    difference = it.rows[2].differences["alignment"]
    assert (difference.difference, difference.low, difference.high) == (0.5, -1.0, 1.0)


def test_set_metrics_and_their_floor(tmp_path: Path) -> None:
    small = experiment(seeds=0)
    folder = make(tmp_path / "run", small)
    with Store.create(folder, small) as store:
        store.record_set_metrics(
            {
                "constant": {"kid": Estimate(value=0.02, low=0.01, high=0.03, n=16)},
                "real": {"kid": Estimate(value=0.001, n=16)},
            }
        )
    it = tables(folder)
    assert [metric.name for metric in it.sets] == ["kid"]
    assert it.floors["kid"].value == 0.001
    assert it.rows[0].sets["kid"].high == 0.03
    assert it.rows[1].sets == {}


def test_a_metric_that_nobody_described_is_shown_by_its_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", experiment(seeds=0), score=lambda *_: {"my_score": 1.0, "saturation": 0.5})
    it = tables(folder)
    assert [metric.title for metric in it.metrics] == ["Saturation", "My score"]
    assert it.main is None
    assert it.best is None


def test_an_empty_run(tmp_path: Path) -> None:
    it = tables(make(tmp_path / "run", experiment(), stop=0))
    assert it.images_per_setting == 0
    assert it.metrics == ()
    assert {row.missing for row in it.rows} == {16}
