"""Batches: every cell once, what shares noise together, the same plan every time."""

import random

from cfglab.experiments.spec.batching import batches, first_pass, largest
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import ModelFacts

FACTS = ModelFacts(weights="0" * 64, sampler_config={}, width=64, height=64, factor=4)


def planned(experiment: Experiment, facts: ModelFacts = FACTS) -> tuple[list[Cell], list[tuple[Cell, ...]]]:
    listed = [cell for _, cell in experiment.cells(facts)]
    return listed, batches(listed, facts.factor)


def test_every_cell_is_drawn_once_and_settings_of_one_noise_stand_together() -> None:
    listed, plan = planned(Experiment.preset("k-decay", prompts="scenes:3", seeds="0..4"))
    drawn = [cell.id for batch in plan for cell in batch]
    assert sorted(drawn) == sorted(cell.id for cell in listed)
    assert {len(batch) for batch in plan} == {21, 42}  # two noises of 21 settings fit into 48
    home: dict[tuple[str, int], set[int]] = {}
    for number, batch in enumerate(plan):
        for cell in batch:
            home.setdefault((cell.prompt, cell.seed), set()).add(number)
    assert all(len(numbers) == 1 for numbers in home.values())


def test_equal_cells_of_two_settings_are_drawn_once() -> None:
    text = Experiment.preset("part5", set={"groups.0.guidance": "{w}", "groups.0.axes": {"w": [7.5, "constant(7.5)"]}})
    listed, plan = planned(text)
    assert len(listed) == 16 * (1 + 2 + 9)
    assert sum(map(len, plan)) == 16 * (1 + 9)


def test_many_settings_are_cut_and_large_pictures_come_in_small_batches() -> None:
    sweep = Experiment.preset("scale", seeds=0, prompts=["a"], set={"groups.0.axes.w": [i / 10 for i in range(100)]})
    assert [len(batch) for batch in planned(sweep)[1]] == [48, 48, 5 - 1]
    large = ModelFacts(weights="0" * 64, sampler_config={}, width=512, height=512, factor=8)
    listed, plan = planned(Experiment.preset("k-decay", seeds=0), large)
    assert [len(batch) for batch in plan] == [4, 4, 4, 4, 4, 1]
    assert largest(listed[0], 8) == 4


def test_the_plan_depends_on_nothing_else() -> None:
    experiment = Experiment.preset("k-decay", prompts="scenes:3", seeds="0..4")
    random.seed(1)
    assert planned(experiment)[1] == planned(Experiment.from_yaml(experiment.to_yaml()))[1]


def test_a_cell_is_known_by_everything_it_depends_on() -> None:
    experiment = Experiment.preset("k-decay", seeds=0)
    cell = experiment.cells(FACTS)[0][1]
    assert len(cell.id) == 64
    assert Cell.model_validate_json(cell.model_dump_json()).id == cell.id
    others = {
        "weights": "1" * 64,
        "model": "other",
        "prompt": "other",
        "negative": "other",
        "seed": 1,
        "steps": 49,
        "width": 72,
        "height": 72,
        "sampler": "euler",
        "sampler_config": {"beta_start": 1},
        "dtype": "float16",
        "compile": True,
        "arguments": {"clip_skip": 1},
        "guidance": experiment.cells(FACTS)[1][1].guidance,
        "best_of": 2,
    }
    assert set(others) == set(Cell.model_fields) - {"early"}  # of one candidate it means nothing
    assert len({cell.model_copy(update={name: value}).id for name, value in others.items()} | {cell.id}) == 16


def test_the_id_of_a_cell_never_changes() -> None:
    cell = Experiment.preset("k-decay").cells(FACTS)[16][1]  # k = 0.1, seed 0
    assert cell.id == "1baf5000e4a504dd6996286754cc28cd7c52ed7a5fada82a54670136e12b29d1"


def test_the_first_batch_is_one_image_of_every_setting_and_an_earlier_plan_stays_as_it_was() -> None:
    listed, plan = planned(Experiment.preset("k-decay"))
    assert [len(batch) for batch in plan] == [21, *[42] * 7, 21]
    assert {(cell.prompt, cell.seed) for cell in plan[0]} == {(listed[0].prompt, listed[0].seed)}
    assert first_pass(listed) == 21
    assert [len(batch) for batch in batches(listed, FACTS.factor, "1")] == [42] * 8


def test_a_run_that_one_batch_holds_stays_one_batch() -> None:
    assert [len(batch) for batch in planned(Experiment.preset("k-decay", seeds="0..1"))[1]] == [42]
