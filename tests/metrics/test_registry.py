"""Which value is better is decided in one place."""

import re
from pathlib import Path

import pytest

import cfglab.metrics
from cfglab.experiments.analysis.pairs import rank
from cfglab.metrics.registry import METRICS

SOURCE = Path(cfglab.metrics.__file__).parents[1]


@pytest.mark.parametrize(("name", "values"), [("fid", [3, 1, 2]), ("alignment", [3, 1, 2]), ("saturation", [3, 1, 2])])
def test_the_best_value_is_the_first_in_rank_and_better_than_all_others(name: str, values: list[float]) -> None:
    metric = METRICS[name]
    best = 1 if name == "fid" else 3
    assert max(values, key=lambda value: metric.sign * value) == best
    assert min(values, key=lambda value: rank(value, metric.better)) == best
    assert all(metric.is_better(best, value) for value in values if value != best)
    assert not metric.is_better(best, best)


def test_a_missing_difference_ranks_last_in_either_direction() -> None:
    for better in ("higher", "lower", None):
        assert max([None, -1e9, 1e9], key=lambda value: rank(value, better)) is None  # type: ignore[arg-type]


def test_no_other_file_compares_a_direction() -> None:
    comparison = re.compile(r"""better\s*(==|!=|is)\s*["'](lower|higher)|["'](lower|higher)["']\s*(==|!=)""")
    files = [path for pattern in ("*.py", "*.j2") for path in SOURCE.rglob(pattern)]
    found = [path.relative_to(SOURCE).as_posix() for path in files if comparison.search(path.read_text("utf-8"))]
    assert found == ["metrics/registry.py"]
