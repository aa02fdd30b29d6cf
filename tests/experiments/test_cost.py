"""What an experiment would cost: counted before the grid is written out, and the same as when it is."""

from importlib.resources import files

import pytest

from cfglab.experiments.spec.cost import LARGE, Cost, cost_of
from cfglab.experiments.spec.document import check, read_yaml
from cfglab.experiments.spec.experiment import Experiment, preset_names
from tests.experiments.examples import SMALL

MILLION = {"groups.0.axes.k": [0.001 * step for step in range(1, 1001)], "prompts": "scenes:10", "seeds": "0..99"}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", preset_names())
def test_the_count_is_that_of_the_cells_and_no_preset_is_large(name: str) -> None:
    found: list[Cost] = []
    experiment = Experiment.preset(name, agree=found.append)
    document = check(read_yaml((files("cfglab.experiments") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")))
    left_out = len(experiment.left_out) - len(document.left_out)  # what turns out to have no match is counted, too
    pictures = (len(experiment.settings) + left_out) * len(experiment.prompts) * len(experiment.seeds)
    calls = 2 if experiment.sampler == "heun" else 1
    starts = len(experiment.prompts) * len(experiment.seeds)
    tried = sum(setting.best_of * setting.early for setting in experiment.settings if setting.best_of > 1)
    assert found == [Cost(pictures, 2 * calls * (experiment.steps * pictures + tried * starts))]
    assert not found[0].large


def test_a_million_cells_are_counted_without_being_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(cost: Cost) -> None:
        raise Stopped(str(cost))

    monkeypatch.setattr(
        "cfglab.experiments.spec.experiment.expand_grid", lambda _: pytest.fail("the grid was written out")
    )
    words = r"^1,001,000 images, for plain guidance in up to 6,006,000 denoiser rows, 10\.0 hours at 6 ms a row"
    with pytest.raises(Stopped, match=words):
        Experiment.from_yaml(SMALL, set=MILLION, agree=stop)


def test_a_grid_of_two_axes_is_their_product() -> None:
    document = check(read_yaml(SMALL))
    group = document.groups[0].model_copy(update={"axes": {"k": [0.3] * 20, "max": [1] * 300, "min": 1}})
    cost = cost_of(document.model_copy(update={"groups": [group, group], "steps": 50}))
    assert cost.images == (1 + 2 * 20 * 300) * 2 * 2
    assert str(cost).startswith("48,004 images, for plain guidance in up to 4,800,400 denoiser rows, 8.0 hours at 6 ms")
    assert not cost.large
    assert cost_of(document.model_copy(update={"sampler": "heun"})).rows == 2 * cost_of(document).rows
    assert Cost(LARGE + 1, 100 * LARGE).large
    assert " 17 days at " in str(Cost(10**6, 250 * 10**6))


def test_seeds_and_settings_in_great_number_are_checked_in_a_moment() -> None:
    """Compared pairwise, 100,000 seeds would take a minute."""
    experiment = Experiment.from_yaml(SMALL, seeds="0..99999")
    assert len(experiment.seeds) == 100_000
