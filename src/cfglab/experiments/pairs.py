"""What a run's results say about one metric, laid out for pairing: setting -> (prompt, seed) -> value."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite, nan
from typing import Literal, Protocol

from cfglab.errors import InputError
from cfglab.experiments.statistics import Difference, Key, paired
from cfglab.metrics.registry import METRICS

Better = Literal["higher", "lower"]


class ResultLike(Protocol):
    """What is read of a stored result."""

    @property
    def setting(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Pairs:
    """One metric of a run against one baseline; `settings` are all others, in the order of the results."""

    metric: str
    baseline: str
    values: dict[str, dict[Key, float]]
    failed: dict[str, set[Key]]

    @classmethod
    def of(cls, results: Iterable[ResultLike], metric: str, baseline: str) -> "Pairs":
        """
        Raises:
            InputError: a metric that the results do not hold or that is no metric of single pictures, a baseline that
                is no setting of theirs, two results for one (setting, prompt, seed).
        """
        values: dict[str, dict[Key, float]] = {}
        failed: dict[str, set[Key]] = {}
        seen: set[tuple[str, Key]] = set()
        measured: set[str] = set()
        for result in results:
            key = (result.prompt, result.seed)
            if (result.setting, key) in seen:
                raise InputError(
                    f"'{result.setting}' has two results for prompt '{result.prompt}', seed {result.seed}: "
                    "pairs need one; compare one run at a time"
                )
            seen.add((result.setting, key))
            mine, lost = values.setdefault(result.setting, {}), failed.setdefault(result.setting, set())
            if result.status != "done":
                lost.add(key)
            elif isfinite(result.metrics.get(metric, nan)):
                mine[key] = result.metrics[metric]
            measured.update(result.metrics)
        _refuse_unknown(metric, measured, baseline, values)
        return cls(metric, baseline, values, failed)

    @property
    def settings(self) -> list[str]:
        return [name for name in self.values if name != self.baseline]

    @property
    def better(self) -> Better | None:
        """The metric's direction; None where it has none or is not known here."""
        return METRICS[self.metric].better if self.metric in METRICS else None

    def difference(self, setting: str, keep: Callable[[Key], bool] = lambda _: True) -> Difference:
        """`setting` less the baseline over the (prompt, seed) that `keep` accepts; failed pictures count as dropped."""
        mine, base = ({k: v for k, v in self.values[name].items() if keep(k)} for name in (setting, self.baseline))
        failed = {key for key in self.failed[setting] | self.failed[self.baseline] if keep(key)}
        return paired(mine, base).model_copy(update={"dropped": len(failed | (mine.keys() ^ base.keys()))})


def rank(difference: float | None, better: Better | None) -> float:
    """Sort key that puts the best difference first (the largest where no direction is better), a missing one last."""
    if difference is None:
        return float("inf")
    return difference if better == "lower" else -difference


def _refuse_unknown(metric: str, measured: set[str], baseline: str, settings: Iterable[str]) -> None:
    names = list(settings)
    if baseline not in names:
        raise InputError(f"baseline '{baseline}' is no setting of this run{_nearest(baseline, names)}")
    if metric in measured:
        return
    if metric in METRICS and METRICS[metric].of != "picture":
        raise InputError(
            f"metric '{metric}' belongs to a whole set of pictures, not to one, so it cannot be paired by prompt and "
            f"seed; its intervals are in the report. Metrics of pictures: {_listed(measured)}"
        )
    if metric in METRICS:
        raise InputError(f"metric '{metric}' was not measured in this run; measured: {_listed(measured)}")
    raise InputError(f"metric '{metric}' is unknown{_nearest(metric, sorted(measured))}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} Known: {_listed(known)}"


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = sorted(names)
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
