"""The two sentences at the top of a report, and the one on the choice that was tested on other images."""

from dataclasses import dataclass

from cfglab.experiments.analysis.paired import Difference, smallest_p
from cfglab.metrics import Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.formatting import NARROW, count, gap, gap_span, p_value, shown
from cfglab.report.summary.tables import SettingRow, Tables, comparable


@dataclass(frozen=True, slots=True)
class Verdict:
    """The two sentences at the top of a report.

    Attributes:
        shows: what the numbers show.
        hides: what they do not show.
    """

    shows: str
    hides: str


def verdict(tables: Tables) -> Verdict:
    """The two sentences, made from the statistics and from what the experiment left out."""
    best, main = tables.best, tables.main
    if not tables.images_per_setting:
        return Verdict(
            "No image is finished yet, so there is nothing to show.", "They appear here once images are scored."
        )
    if main is None or best is None:
        return Verdict(
            "No metric with a better direction was measured, so the numbers do not rank the settings; compare the "
            "images.",
            _hides(tables, None),
        )
    base = tables.baseline.means.get(main.name)
    if base is None:
        return Verdict(
            f"The baseline {_named(tables.baseline)} has no finished image with a score, so nothing can be compared "
            "with it yet.",
            _hides(tables, None),
        )
    return Verdict(_shows(tables, main, best, base), _hides(tables, best))


def _shows(tables: Tables, main: Metric, best: SettingRow, base: Estimate) -> str:
    mean, difference = best.means[main.name], best.differences.get(main.name)
    compared = sum(main.name in row.means for row in tables.rows) - 1
    rank = _rank(tables, main, mean, compared)
    opening = f"{_named(best)}{rank} scores {shown(mean.value, main.unit)} against {shown(base.value, main.unit)} "
    opening += f"for the baseline {_named(tables.baseline)} on {main.title.lower()}"
    if main.sign < 0:
        opening += " (lower is better)"
    if tables.images_per_setting == 1:
        return f"{opening}, one image each, which describes these images and allows no interval and no test."
    if difference is None or difference.low is None or difference.p_holm is None:
        basis = _basis(mean.n, len(tables.experiment.prompts))
        if difference is not None and difference.n > 1:
            return f"{opening} in {basis}; the pairs do not differ among each other, so there is no interval."
        return f"{opening} in {basis}, too few that pair with the baseline for an interval or a test."
    facts = f"{gap(difference.difference, main.unit)}, 95{NARROW}% interval "
    facts += f"{gap_span(difference.low, difference.high, main.unit)}, {_p_is(difference.p_holm)}"
    facts += f" after Holm over {compared}" if compared > 1 else ""
    facts += f"; {_basis(difference.n, difference.n_prompts)}"
    better, worse = _found(tables, main)
    tally = f", and {worse} of the {compared} settings {'is' if worse == 1 else 'are'} worse than the baseline"
    tally = tally if worse and compared > 1 else ""
    if difference.significant and _better(main, difference):
        return f"{opening}, a difference in its favour ({facts}){tally}."
    if difference.significant:
        return f"Nothing beats the baseline: {opening}, a difference against it ({facts}){tally}."
    lead = "No difference found in favour of any setting" if not better else "No difference found for the best mean"
    if smallest_p(difference.clusters) * compared > 0.05:
        units = "prompts" if difference.n_prompts > 1 else "images"
        return f"{lead}: {opening} ({facts}), and {difference.clusters} {units} are too few to find any after Holm."
    blind = gap(difference.smallest_detectable, main.unit).lstrip("+") if difference.smallest_detectable else ""
    power = f", where differences under about {blind} would mostly be missed" if blind else ""
    return f"{lead}: {opening} ({facts}){power}{tally}."


def _rank(tables: Tables, main: Metric, mean: Estimate, compared: int) -> str:
    """How the best stands among the others; equals are said, since the first of them is no better than the rest."""
    equals = sum(
        not row.baseline and main.name in row.means and row.means[main.name].value == mean.value for row in tables.rows
    )
    if compared == 1:
        return ""
    return (
        f", the best of {compared} settings,"
        if equals == 1
        else f", first of {equals} equals among {compared} settings,"
    )


def _found(tables: Tables, main: Metric) -> tuple[int, int]:
    """How many settings a difference was found for, and against."""
    significant = [
        difference for row in tables.rows if (difference := row.differences.get(main.name)) and difference.significant
    ]
    better = sum(_better(main, difference) for difference in significant)
    return better, len(significant) - better


def _p_is(p: float | None) -> str:
    return f"p = {p_value(p)}".replace("= <", "<")


def _better(main: Metric, difference: Difference) -> bool:
    return difference.difference is not None and main.is_better(difference.difference, 0.0)


def _hides(tables: Tables, best: SettingRow | None) -> str:
    experiment = tables.experiment
    prompts = len(experiment.prompts)
    scope = "one prompt" if prompts == 1 else f"these {prompts} prompts"
    if experiment.noise == "crossed" and prompts > 1:
        scope += f", {count(len(experiment.seeds), 'starting noise')}"
    parts = [f"that this holds beyond {scope} and one model"]
    if best is not None and _doses_differ(best, tables.baseline):
        parts.append(
            "whether the shape of the curve matters or only its amount "
            f"(dose {shown(best.dose, 'dose')} against {shown(tables.baseline.dose, 'dose')})"
        )
    if tables.main is not None and tables.main.name != "alignment":
        parts.append("whether the images show what was asked for, which was not measured")
    sentence = f"They do not show {_listed(parts)}"
    if best is not None and len(tables.rows) > 2:
        sentence += "; and the best of many settings, chosen by the same numbers, looks better than it is"
    return sentence + "."


def held_back(tables: Tables) -> str:
    """One sentence on the setting chosen on one half and tested on the other; empty where that was not possible."""
    choice, main = tables.held_back, tables.main
    if choice is None or main is None:
        return ""
    row = next(row for row in tables.rows if row.setting.name == choice.setting)
    evaluated = choice.reported_on
    interval = f", 95{NARROW}% interval {gap_span(evaluated.low, evaluated.high, main.unit)}, {_p_is(evaluated.p)}"
    choosing, reporting = choice.halves
    ends = "this number is not biased by the choice"
    if choice.limit:
        ends = choice.limit if choice.shares == "noises" else f"{ends}, {choice.limit}"
    return (
        f"Chosen on {choosing} and tested on {reporting}, {_named(row)} scores "
        f"{gap(evaluated.difference, main.unit)} against the baseline{interval}, {count(evaluated.n, 'pair')}: {ends}."
    )


def _doses_differ(best: SettingRow, baseline: SettingRow) -> bool:
    if best.dose is None or baseline.dose is None or not comparable(best, baseline):
        return False
    return abs(best.dose - baseline.dose) > 0.02 * abs(baseline.dose)


def _named(row: SettingRow) -> str:
    setting = row.setting
    title = setting.title or setting.name
    return f"“{title}”" if row.baseline or setting.group in title else f"“{title}” of {setting.group}"


def _basis(n: int, prompts: int) -> str:
    return f"{count(n, 'image')} a setting {'of one prompt' if prompts == 1 else f'over {prompts} prompts'}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, nor {parts[-1]}"
