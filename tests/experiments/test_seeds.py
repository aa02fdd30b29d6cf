"""Seeds from 0 to 2**64 - 1, everywhere; anything else is refused in one line before an image is drawn."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.backends.mixture import MixtureBackend
from cfglab.experiments.spec.document import check, read_yaml
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.prompts import read_seeds, write_seeds
from cfglab.experiments.storage.database import seed_read, seed_stored
from cfglab.experiments.storage.png import read_record
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.search import Search
from cfglab.report import report
from cfglab.report.page.page_data import page_data
from tests.quick_run import YAML, contents, quick, run_quickly

LAST = 2**64 - 1
LARGE = (0, 2**31 + 1, 2**53 + 3, 2**63 - 5, 2**63 + 7, LAST)


def test_the_largest_seeds_go_through_a_run_its_tables_and_its_report(tmp_path: Path) -> None:
    folder, experiment = tmp_path / "run", quick(seeds=list(LARGE))
    assert run_quickly(folder, experiment=experiment).drawn == 24
    with Store.open(folder) as store:
        results = store.results()
        assert store.experiment == experiment
        assert Scores.of(store, "contrast").seeds == LARGE
        assert Scores.of(results, "contrast").seeds == LARGE
        assert {read_record(folder / str(it.image)).cell.seed for it in results} >= {LAST, 2**63 + 7}
        assert [it.seed for it in results] == list(LARGE) * 4
    assert Experiment.from_yaml(folder / "experiment.yaml") == experiment
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        assert {int(line["seed"]) for line in csv.DictReader(file)} == set(LARGE)
    page = report(folder).read_text(encoding="utf-8")
    assert f">{LAST}</option>" in page
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["experiment"]["seeds"] == list(LARGE)
    before = contents(folder)
    assert run_quickly(folder, experiment=experiment).drawn == 0
    assert contents(folder) == before


def test_the_page_tells_its_script_large_seeds_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tables:
        experiment, metrics, sets, main = quick(seeds=list(LARGE)), (), (), None
        floors: ClassVar[dict[str, float]] = {}

    class Traces:
        steps = ()

    class Face:
        key = 0

        class row:
            baseline = True

    monkeypatch.setattr("cfglab.report.page.page_data._setting", lambda *_: {})
    told = json.loads(json.dumps(page_data(Tables, [Face], Traces)["seeds"]), parse_int=float)  # type: ignore[arg-type, list-item]
    assert [int(seed) for seed in told] == list(LARGE)


def test_the_database_sorts_and_compares_seeds_as_numbers(tmp_path: Path) -> None:
    seeds = [*LARGE, 7, 2**63, 2**63 - 1]
    with closing(sqlite3.connect(tmp_path / "seeds")) as database:
        database.execute("CREATE TABLE results (seed INTEGER NOT NULL)")
        database.executemany("INSERT INTO results VALUES (?)", [(seed_stored(seed),) for seed in seeds])
        found = [seed_read(seed) for (seed,) in database.execute("SELECT seed FROM results ORDER BY seed")]
        assert found == sorted(seeds)
        for seed in seeds:
            assert database.execute("SELECT count(*) FROM results WHERE seed = ?", (seed_stored(seed),)).fetchone() == (
                1,
            )
        small = database.execute("SELECT count(*) FROM results WHERE typeof(seed) = 'integer'").fetchone()
        assert small == (6,)  # as in folders of before


def test_torch_takes_them_as_they_are() -> None:
    for seed in LARGE:
        assert torch.Generator("cpu").manual_seed(seed).initial_seed() == seed


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        (f"{LAST - 7}..{LAST}", tuple(range(LAST - 7, LAST + 1))),
        (str(LAST), (LAST,)),
        (LAST, (LAST,)),
        ([0, str(2**63), "5..6"], (0, 2**63, 5, 6)),
        (range(3), (0, 1, 2)),
    ],
)
def test_seeds_are_read_and_written(written: Any, seeds: tuple[int, ...]) -> None:
    assert read_seeds(written) == seeds
    assert read_seeds(write_seeds(seeds)) == seeds


@pytest.mark.parametrize(
    "wrong",
    [
        2**64,
        str(2**64),
        f"0..{2**64}",
        f"{LAST}..{2**64}",
        -1,
        "-1",
        1.0,
        "1.0",
        1e3,
        float("nan"),
        True,
        None,
        "0..1000000000000",
        "0..1e12",
        range(10**12),
        range(0),
        [0, True],
        [1.0],
        [],
        "9" * 5000,
        10**5000,
        "7..0",
        "٧",
        ["0..99999"] * 11,
        {"from": 0},
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:20] if not isinstance(value, int) else value.bit_length()}",
)
def test_what_is_no_seed_is_refused_in_one_line_wherever_it_is_given(wrong: Any) -> None:
    document = read_yaml(YAML)
    for give in (
        lambda: check({**document, "seeds": wrong}) if wrong != [] else read_seeds(None),
        lambda: quick(seeds=wrong) if wrong is not None else read_seeds(None),
        lambda: Experiment(**{**dict(quick()), "seeds": wrong}),
    ):
        with pytest.raises(InputError, match="seed") as caught:
            give()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_the_command_line_refuses_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seeds in (str(2**64), "-1", "0..1000000000000", "1.5"):
        assert call(["run", "k-decay", f"--seeds={seeds}"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "seed" in err
    assert not list(tmp_path.iterdir())


# -- seeds that torch does not tell apart ------------------------------------------------------------------------------


def test_seeds_with_the_same_noise_are_refused_before_drawing(tmp_path: Path) -> None:
    one, two = (torch.randn(4, generator=torch.Generator("cpu").manual_seed(seed)) for seed in (5, 5 + 2**32))
    assert torch.equal(one, two)  # the reason
    with pytest.raises(InputError, match=r"seeds 5 and 4294967301: torch draws the same noise for both"):
        run_quickly(tmp_path / "run", experiment=quick(seeds=[5, 6, 5 + 2**32]))
    assert not (tmp_path / "run").exists()


def test_held_out_seeds_have_other_noises() -> None:
    with pytest.raises(InputError, match="torch draws the same noise for both"):
        Search.of("{w:1..6}", ["alignment"], [f"prompt {i}" for i in range(8)], seeds=(0,), held_seeds=(2**32,))


@pytest.mark.parametrize("prompt", ["a cat", "class 99", f"class {'9' * 5000}", f"class {'0' * 5000}1"])
def test_a_prompt_that_names_no_class_of_a_mixture_is_one_short_line(prompt: str) -> None:
    with pytest.raises(InputError, match=r"a mixture is told a class; write 'class 0' to 'class \d+'\.") as error:
        MixtureBackend("mixture:tree").label(prompt)
    assert len(str(error.value)) < 500


def test_a_mixture_draws_from_the_largest_seed_and_refuses_the_same_samples() -> None:
    experiment = quick(model="mixture:tree", sampler="euler", prompts=["class 0"], seeds=[0, LAST], steps=2)
    backend = MixtureBackend(experiment.model)
    backend.check_experiment(experiment)
    (setting, *_) = experiment.settings
    first, last = [cell for it, cell in experiment.cells() if it == setting]
    drawn = backend.generate([first, last])
    assert np.isfinite(drawn.pixels).all()
    assert not np.array_equal(drawn.pixels[0], drawn.pixels[1])
    with pytest.raises(InputError, match="seeds 3 and 16777219: torch draws the same noise for both"):
        backend.check_experiment(
            quick(model="mixture:tree", sampler="euler", prompts=["class 0"], seeds=[3, 3 + 2**24])
        )
