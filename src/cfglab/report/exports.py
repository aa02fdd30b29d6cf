"""The report's numbers for other programs: a line a setting as CSV, and everything it says as JSON."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cfglab.experiments.analysis.paired import Difference
from cfglab.experiments.analysis.split_choice import SplitChoice
from cfglab.experiments.spec.experiment import Experiment
from cfglab.metrics.estimate import Estimate
from cfglab.report.summary.tables import SettingRow, Tables
from cfglab.report.summary.verdict import held_back, verdict

_OF_A_DIFFERENCE = (
    *("low", "high", "p", "p_holm", "smallest_detectable"),
    *("n", "n_prompts", "n_seeds", "variance"),
)


def as_csv(tables: Tables) -> str:
    """One line a setting: doses, counts, and of every metric its mean, interval and difference to the baseline."""
    names = [metric.name for metric in tables.metrics]
    lines = [dict(_flat(row, names, [metric.name for metric in tables.sets])) for row in tables.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(tables: Tables) -> str:
    """The experiment, every setting with its curve and numbers, the floors, and the sentences."""
    sentences = verdict(tables)
    document = {
        "experiment": {
            "noise": tables.experiment.noise,
            **tables.experiment.model_dump(mode="json", exclude={"settings", "baseline"}),
        },
        "torch_seeds": _torch_seeds(tables.experiment),
        "baseline": tables.baseline.setting.name,
        "best": tables.best.setting.name if tables.best else None,
        "main_metric": tables.main.name if tables.main else None,
        "metrics": [metric.model_dump() for metric in (*tables.metrics, *tables.sets)],
        "settings": [_setting(row) for row in tables.rows],
        "floors": _estimates(tables.floors),
        "held_back": _choice(tables.held_back) if tables.held_back else None,
        "notes": dict(tables.notes),
        "says": {"shows": sentences.shows, "hides": sentences.hides, "held_back": held_back(tables)},
    }
    lines = (f"{json.dumps(key)}: {_text(value)}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _torch_seeds(experiment: Experiment) -> list[list[int]]:
    """By prompt, the plain seed of each seed's starting noise, `torch.Generator("cpu").manual_seed(n)`."""
    seeds, count = experiment.torch_seeds(), len(experiment.seeds)
    return [seeds[start : start + count] for start in range(0, len(seeds), count)]


def _text(value: Any) -> str:
    """A list with a line for each of its items, anything else in one line."""
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "[\n " + ",\n ".join(map(_text, value)) + "]"


def _setting(row: SettingRow) -> dict[str, Any]:
    return {
        "name": row.setting.name,
        "group": row.setting.group,
        "title": row.setting.title,
        "guidance": str(row.setting.guidance),
        "baseline": row.baseline,
        "w": list(row.values),
        "dose": row.dose,
        "effective_dose": row.effective,
        "pictures": {"done": row.done, "failed": row.failed, "missing": row.missing},
        "means": _estimates(row.means),
        "differences": {name: _plain(difference) for name, difference in row.differences.items()},
        "sets": _estimates(row.sets),
    }


def _estimates(numbers: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: number.model_dump() for name, number in numbers.items()}


def _plain(difference: Difference) -> dict[str, Any]:
    numbers = difference.model_dump()
    return {"mean": difference.difference, **{name: numbers[name] for name in _OF_A_DIFFERENCE}}


def _choice(choice: SplitChoice) -> dict[str, Any]:
    """The held-out comparison is the only one of its family, so that p needs no correction."""
    judged = choice.reported_on.model_copy(update={"p_holm": choice.reported_on.p})
    return {"setting": choice.setting, "split": choice.split, "judged": _plain(judged), "shares": choice.shares}


def _flat(row: SettingRow, names: list[str], sets: list[str]) -> Iterator[tuple[str, Any]]:
    yield from {"setting": row.setting.name, "group": row.setting.group, "guidance": str(row.setting.guidance)}.items()
    yield from {"dose": row.dose, "effective_dose": row.effective}.items()
    yield from {"done": row.done, "failed": row.failed, "missing": row.missing}.items()
    for name in names:
        yield from _mean(name, row.means.get(name))
        yield from _difference(name, row.differences.get(name))
    for name in sets:
        yield from _mean(name, row.sets.get(name))


def _mean(name: str, number: Estimate | None) -> Iterator[tuple[str, Any]]:
    yield name, number and number.value
    yield f"{name}_low", number and number.low
    yield f"{name}_high", number and number.high
    yield f"{name}_n", number and number.n


def _difference(name: str, difference: Difference | None) -> Iterator[tuple[str, Any]]:
    yield f"{name}_difference", difference and difference.difference
    yield f"{name}_difference_low", difference and difference.low
    yield f"{name}_difference_high", difference and difference.high
    yield f"{name}_p", difference and difference.p
    yield f"{name}_p_holm", difference and difference.p_holm
