"""What a run says about one metric, laid out for pairing: every setting less one baseline, image by image."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.analysis.paired import Difference, differences, means
from cfglab.experiments.analysis.scores import ResultLike, Scores
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS, Better, sign

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One metric of a run against one baseline.

    Attributes:
        scores: the scores of all settings.
        baseline: the name of the baseline.
        against: what each setting is compared with, (settings, prompts, seeds): the values of the baseline, unless
            another reference replaces them.
    """

    scores: Scores
    baseline: str
    against: FloatArray

    @classmethod
    def of(cls, source: Store | Scores | Iterable[ResultLike], metric: str, baseline: str) -> "Pairs":
        """Return the pairs of every setting with the baseline.

        Args:
            source: the store of a run, the Scores of the metric, or results.
            metric: a metric of single images.
            baseline: the name of a setting.

        Raises:
            InputError: if the results do not hold the metric, it is not a metric of single images, the baseline is not
                a setting, or a (setting, prompt, seed) has two results.
        """
        scores = Scores.of(source, metric)
        refuse_unknown_setting(baseline, scores.settings)
        _refuse_unknown_metric(metric, scores.measured)
        baseline_values = scores.values[scores.settings.index(baseline)]
        return cls(scores, baseline, np.broadcast_to(baseline_values, scores.values.shape))

    @property
    def metric(self) -> str:
        return self.scores.metric

    @property
    def settings(self) -> list[str]:
        return [name for name in self.scores.settings if name != self.baseline]

    @property
    def better(self) -> Better | None:
        """The metric's direction; None where it has none or is not known here."""
        return METRICS[self.metric].better if self.metric in METRICS else None

    def differences(
        self, settings: Iterable[str] | None = None, keep: NDArray[np.bool_] | None = None
    ) -> dict[str, Difference]:
        """Return the differences of settings from what they are compared with.

        A pair with a failed or missing side is dropped and counted.

        Args:
            settings: names of settings; None is all of them.
            keep: a mask (prompts, seeds) of the pairs to use; None is all of them.

        Returns:
            Setting -> Difference.
        """
        names = self.settings if settings is None else list(settings)
        rows = [self.scores.settings.index(name) for name in names]
        base = self.scores.settings.index(self.baseline)
        mask = np.ones(self.against.shape[1:], dtype=bool) if keep is None else keep
        values, opponents = self.scores.values[rows], self.against[rows]
        one_sided = np.isfinite(values) ^ np.isfinite(opponents)
        incomplete = self.scores.failed[rows] | (self.scores.failed[base] & ~np.isfinite(opponents)) | one_sided
        gaps = np.where(mask, values - opponents, np.nan)
        dropped = (incomplete & mask).sum(axis=(1, 2)).tolist()
        return dict(zip(names, differences(gaps, dropped, crossed=self.scores.crossed), strict=True))

    def baseline_mean(self) -> Estimate | None:
        """The baseline over all of its images."""
        values = self.scores.values[[self.scores.settings.index(self.baseline)]]
        return means(values, crossed=self.scores.crossed)[0]

    def mean_over_pairs(self, setting: str) -> float | None:
        """The mean of a setting over its pairs."""
        row = self.scores.settings.index(setting)
        values = self.scores.values[row][np.isfinite(self.against[row])]
        values = values[np.isfinite(values)]
        return float(values.mean()) if values.size else None


def rank(difference: float | None, better: Better | None) -> float:
    """Return a sort key that puts the best difference first and a missing one last.

    Args:
        difference: the difference.
        better: the better direction; None puts the largest first.
    """
    if difference is None:
        return float("inf")
    return -sign(better) * difference


def refuse_unknown_setting(baseline: str, settings: Iterable[str]) -> None:
    """Check that the baseline is a setting.

    Args:
        baseline: the name.
        settings: the names of all settings.

    Raises:
        InputError: with the nearest name, if it is not.
    """
    names = list(settings)
    if baseline not in names:
        raise InputError(f"baseline '{baseline}' is no setting of this run{_nearest(baseline, names)}")


def _refuse_unknown_metric(metric: str, measured: Iterable[str]) -> None:
    measured = set(measured)
    if metric in measured:
        return
    if metric in METRICS and METRICS[metric].of != "image":
        raise InputError(
            f"metric '{metric}' belongs to a whole set of images, not to one, so it cannot be paired by prompt and "
            f"seed; compare a store's settings in it without --choose and --equal. Metrics of images: "
            f"{join_names(measured)}"
        )
    if metric in METRICS and METRICS[metric].model:
        raise InputError(f"metric '{metric}' was not measured in this run; cfglab score RUN {metric} measures it")
    if metric in METRICS:
        raise InputError(f"metric '{metric}' was not measured in this run; name one that was: {join_names(measured)}")
    raise InputError(f"metric '{metric}' is unknown{_nearest(metric, sorted(measured))}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(str(name), known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} Known: {join_names(known)}"


def join_names(names: Iterable[str], most: int = 12) -> str:
    """Return names in alphabetical order as text.

    Args:
        names: the names.
        most: the largest number of names in the text; the others are counted.
    """
    names = sorted(names)
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
