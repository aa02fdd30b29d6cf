"""Fair opponents: equal dose, equal cost, and the row of chance."""

import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.experiments import Experiment, Result, Store
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.comparison import Comparison
from cfglab.experiments.analysis.matched_baseline import rows_needed
from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.analysis.split_choice import best_on_split
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.traces import COLUMNS, CellTrace
from cfglab.guidance import TRANSFORMS
from cfglab.guidance.guide import Guide
from cfglab.guidance.transform import Transform
from cfglab.step import steps
from tests.guidance.examples import needs

SETTINGS = {
    "none": "1",
    "two": "2",
    "four": "4",
    "ramp": "linear(max=4, min=2).matched_to(3)",
    "hot": "linear(max=10, min=8).matched_to(9)",
    "half": "constant(4).inside(progress=(0, 0.5))",  # dose 2.5
    "as two": "linear(max=3, min=1).matched_to(2)",
}
LEVELS = standard_sigmas(10)
VALUES = {"none": 0.0, "two": 0.2, "four": 0.6, "ramp": 0.7, "hot": 0.9, "half": 0.1, "as two": 0.25, "late": 0.5}
VALUES |= {"feedback": 0.8, "magnitude_aware": 0.8, "adaptive": 0.8}


def run(folder: Path, settings: dict[str, str] = SETTINGS, steps: int = 10) -> Store:
    """Each setting scores its value everywhere, the prompts easy or hard by turns."""
    first, *rest = settings
    document = {
        "prompts": "scenes:10",
        "seeds": "0..1",
        "steps": steps,
        "baseline": {"name": first, "guidance": settings[first]},
        "settings": [{"name": name, "group": "g", "guidance": settings[name]} for name in rest],
    }
    of = Experiment.from_yaml("name: fair", set=document)
    rows, position = [], 0
    for setting in of.settings:
        for index, prompt in enumerate(of.prompts):
            for seed in of.seeds:
                value = VALUES[setting.name] * (1 + (index % 3 - 1) * 0.1) + 0.01 * ((index + seed) % 2)
                it = Result(
                    cell=f"{position}", position=position, setting=setting.name, prompt=prompt, seed=seed,
                    status="done", metrics={"contrast": value, "alignment": value},
                )  # fmt: skip
                rows.append(ResultRow(result=it, settled=True))
                position += 1
    store = Store.create(folder, of)
    store.record(rows)
    return store


def test_equal_dose_stands_against_the_constants_around(tmp_path: Path) -> None:
    with run(tmp_path) as store:
        found = compare(store, "contrast", "none", equal="dose")
        plain = {row.setting: row for row in compare(store, "contrast", "two").rows}
        gaps = {row.setting: row for row in compare(store, "contrast", "four").rows}
    rows = {row.setting: row for row in found.rows}
    assert set(rows) == {"ramp", "half", "as two"}
    assert [rows[name].against for name in ("ramp", "half", "as two")] == [
        "w = 2 and w = 4",
        "w = 2 and w = 4",
        "w = 2",
    ]
    both = (plain["ramp"].difference or 0) + (gaps["ramp"].difference or 0)
    assert rows["ramp"].difference == pytest.approx(both / 2)
    near, far = plain["half"].difference or 0, gaps["half"].difference or 0
    assert rows["half"].difference == pytest.approx(0.75 * near + 0.25 * far)
    assert rows["as two"].difference == pytest.approx(plain["as two"].difference)
    assert rows["as two"].low == pytest.approx(plain["as two"].low)
    assert rows["ramp"].n_prompts == 10
    assert "Equal dose: each setting stands against the constant scale of the same mean" in found.note
    assert "Left out: 'hot' (dose 9, the constant scales span 1 to 4)." in found.note
    assert "family of these 3 comparisons" in found.note
    assert re.search(r"detectable +against\n", str(found))


def test_equal_cost_compares_what_needs_as_many_rows(tmp_path: Path) -> None:
    with run(tmp_path) as store:
        settings = {setting.name: setting for setting in store.experiment.settings}
        assert rows_needed(settings["two"], LEVELS) == 20
        assert rows_needed(settings["none"], LEVELS) == 10
        assert rows_needed(settings["half"], LEVELS) == 15
        for setting in settings.values():
            guide = Guide(setting.guidance)
            assert rows_needed(setting, LEVELS) == sum(sum(needs(guide, step)) for step in steps(10))
        found = compare(store, "contrast", "two", equal="cost")
        assert {row.setting for row in found.rows} == {"four", "ramp", "hot", "as two"}
        assert "Left out: 'none' (10 rows an image), 'half' (15 rows an image)." in found.note
        alone = compare(store, "contrast", "none", equal="cost")
        assert alone.rows == ()
        assert alone.note.endswith("No setting is left to compare.")


def test_doses_and_costs_are_those_at_the_noise_levels_of_the_run_itself(tmp_path: Path) -> None:
    """On for sigma up to 0.5, which is 2 of 10 steps at Stable Diffusion's levels, and 6 of 10 at those of this run."""
    low = {"none": "1", "four": "4", "late": "constant(4).inside(sigma=(0, 0.5))"}
    assert sum(level <= 0.5 for level in LEVELS[:-1]) == 2
    with run(tmp_path, low) as store:
        before = compare(store, "contrast", "none", equal="dose")
        assert "read at Stable Diffusion's, for this run recorded none of its own" in before.note
        values = np.zeros((len(COLUMNS), 10), np.float32)
        values[0], values[1] = np.arange(10), [8, 4, 2, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
        trace = CellTrace(values).encode()
        store.record([row.model_copy(update={"trace": trace}) for row in store.rows()])
        after = compare(store, "contrast", "none", equal="dose")
        assert "Stable Diffusion" not in after.note
        one, four = (
            fmean(it.metrics["contrast"] for it in store.results() if it.setting == w) for w in ("none", "four")
        )
        assert _reference(before) == pytest.approx(one + 0.2 * (four - one))  # at dose 1.6, between w = 1 and w = 4
        assert _reference(after) == pytest.approx(one + 0.6 * (four - one))  # at dose 2.8
        rows = compare(store, "contrast", "four", equal="cost").note
    assert "'late' (16 rows an image)" in rows


def test_a_scale_that_is_decided_while_it_runs_has_no_equal_dose(tmp_path: Path) -> None:
    """Each of these transforms reads the scale off the predictions; feedback at `1` met the run without guidance."""
    deciding = [name for name, of in TRANSFORMS.items() if of.scale is not Transform.scale and of.reads_uncond]
    assert set(deciding) == set(EXAMPLES)  # a new one needs an example here
    settings = {"none": "1", "four": "4", "half": "constant(4).inside(progress=(0, 0.5))"}
    settings |= {name: f"{1 if name == 'feedback' else 3} | {EXAMPLES[name]}" for name in deciding}
    with run(tmp_path, settings) as store:
        found = compare(store, "contrast", "none", equal="dose")
        with pytest.raises(InputError, match="no setting shares a prompt and seed"):
            best_on_split(_without(tmp_path / "b", settings, "half"), "contrast", "none", better="higher", equal="dose")
    assert {row.setting for row in found.rows} == {"half"}
    for name in deciding:
        assert f"'{name}' ({name} decides its scale image by image)" in found.note


EXAMPLES = {
    "feedback": "feedback(pi=0.9, t0=0.6, tau=0.01)",
    "magnitude_aware": "magnitude_aware(alpha=1)",
    "adaptive": "adaptive(similarity=0.9)",
}


def _without(folder: Path, settings: dict[str, str], name: str) -> Store:
    return run(folder, {key: text for key, text in settings.items() if key != name})


def test_a_transformed_setting_meets_constants_with_the_same_transforms_only(tmp_path: Path) -> None:
    settings = {
        "none": "1",
        "four": "4",
        "ramp": "linear(max=4, min=2) | apg()",
        "hot": "4 | update_norm()",
        "two": "2 | apg()",
        "half": "4 | apg()",
        "late": "linear(max=4, min=2) | rescale()",
    }
    with run(tmp_path, settings) as store:
        found = compare(store, "contrast", "none", equal="dose")
    assert [(row.setting, row.against) for row in found.rows] == [("ramp", "w = 2 and w = 4")]
    (row,) = found.rows
    assert row.difference == pytest.approx((row.mean or 0) - (VALUES["two"] + VALUES["half"]) / 2, abs=0.01)
    assert "'hot' (its transforms change what a scale does)" in found.note
    assert "'late' (no constant scale has the same transforms)" in found.note


def _reference(found: Comparison) -> float:
    (row,) = found.rows
    assert row.mean is not None
    assert row.difference is not None
    return row.mean - row.difference


def test_choosing_at_equal_dose(tmp_path: Path) -> None:
    with run(tmp_path) as store:
        assert best_on_split(store, "contrast", "none", better="higher").setting == "hot"
        found = best_on_split(store, "contrast", "none", better="higher", equal="dose")
    assert (found.setting, found.candidates, found.against) == ("ramp", 3, "w = 2 and w = 4")
    assert "'ramp' less w = 2 and w = 4, the best of 3" in str(found)


def test_what_cannot_be_fair_is_refused(tmp_path: Path) -> None:
    ramps = {name: SETTINGS[name] for name in ("ramp", "hot")}
    with run(tmp_path, ramps) as store:
        with pytest.raises(InputError, match="equal dose: this run has no constant scale to compare with; add a group"):
            compare(store, "contrast", "ramp", equal="dose")
        with pytest.raises(InputError, match="equal cost: results do not say what their guidance is"):
            compare(store.results(), "contrast", "ramp", equal="cost")
        with pytest.raises(InputError, match=r"shuffled prompts: .* keeps nothing of what the classifier saw"):
            compare(store, "alignment", "ramp", shuffled=True)
        with pytest.raises(InputError, match="shuffled prompts: metric 'contrast' does not depend on the prompt"):
            compare(store, "contrast", "ramp", shuffled=True)
