"""A finished search as Markdown: what was tried, what it cost, and what held-out images say."""

from pathlib import Path

from cfglab.experiments.analysis.comparison import ComparisonRow
from cfglab.experiments.spec.models import is_mixture
from cfglab.experiments.spec.prompts import write_seeds
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.verdict import MeasuredPoint, Side, Tuned, TuningVerdict
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS
from cfglab.report.formatting import gap, gap_span, p_value, shown, span
from cfglab.report.markdown import code
from cfglab.report.summary.estimates import clamped
from cfglab.schedules.fields import counted


def write(done: Tuned, folder: Path | str) -> str:
    """Write `tuned.md` into the folder of a search.

    Args:
        done: the finished search.
        folder: the folder.

    Returns:
        The text.

    Raises:
        MachineError: if the file cannot be written.
    """
    text = markdown(done)
    write_whole(Path(folder) / "tuned.md", text.encode())
    return text


def markdown(done: Tuned) -> str:
    """A table of both sides, one of their trials, the difference in words, and how it came about."""
    metrics = done.search.metrics
    with Store.open(done.run) as store:
        weights = store.meta("weights") or ""
        held = {metric: _held(store, metric) for metric in metrics}
    titles = [METRICS[metric].title for metric in metrics]
    columns = ["", "guidance", *(f"{title}, {where}" for title in titles for where in ("tuned on", "held out"))]
    sides = (done.constant, done.tuned)
    points = [_line(point, metrics, held) for side in sides for point in side.points]
    counts = ["", "trials", "to the end", "cut short", "refused", "rows"]
    return "\n".join(
        [
            f"# Tuned by {' and '.join(titles)}",
            "",
            *_table(columns, points),
            "",
            *(f"{_verdict(verdict, metrics)}  " for verdict in done.verdicts),
            *_hint(done),
            "",
            *_table(counts, [_counts(name, side) for name, side in zip(("constant", "tuned"), sides, strict=True)]),
            "",
            *_how(done, weights),
            "",
        ]
    )


def _held(store: Store, metric: str) -> dict[str, Estimate]:
    """Setting -> its value on the held-out images."""
    from cfglab.experiments.analysis.pairs import Pairs

    if METRICS[metric].of != "image":
        return {name: row[metric] for name, row in store.set_metrics().items() if metric in row}
    estimates = {}
    for setting in store.experiment.settings:
        if (estimate := Pairs.of(store, metric, setting.name).baseline_mean()) is not None:
            estimates[setting.name] = estimate
    return estimates


def _line(point: MeasuredPoint, metrics: tuple[str, ...], held: dict[str, dict[str, Estimate]]) -> list[str]:
    cells = [point.name, code(str(point.guidance))]
    for metric, value in zip(metrics, point.values, strict=True):
        unit, estimate = METRICS[metric].unit, held[metric].get(point.name)
        bounded = estimate and clamped(estimate, METRICS[metric])
        between = span(bounded.low, bounded.high, unit) if bounded else ""
        inside = f" ({between})" if between else ""
        cells += [shown(value, unit), f"{shown(estimate.value, unit)}{inside}" if estimate else "–"]
    return cells


def _counts(name: str, side: Side) -> list[str]:
    numbers = (side.full + side.cut + side.refused, side.full, side.cut, side.refused)
    return [f"{name}: {code(side.text)}", *map(str, numbers), f"{side.rows:,.0f}"]


def _verdict(verdict: TuningVerdict, metrics: tuple[str, ...]) -> str:
    return (
        f"Held out, {verdict.setting} less {verdict.against}: "
        + "; ".join(map(_difference, metrics, verdict.rows))
        + "."
    )


def _difference(metric: str, row: ComparisonRow) -> str:
    definition = METRICS[metric]
    title = definition.title.lower() if definition.title.istitle() else definition.title
    text = f"**{title} {gap(row.difference, definition.unit)}**"
    if between := gap_span(row.low, row.high, definition.unit):
        text += f", 95 % interval {between}"
    if row.p is not None:
        text += f", p = {p_value(row.p)}".replace("= <", "<")
    if row.p_holm is not None and row.p_holm != row.p:
        text += f" (Holm: {p_value(row.p_holm)})"
    text += f"; {counted(row.n_prompts, 'prompt')}, {counted(row.n, 'pair')}"
    if row.dropped:
        text += f" ({row.dropped} dropped, one side failed)"
    if row.smallest_detectable is not None:
        text += f"; detectable from {gap(row.smallest_detectable, definition.unit)}"
    return text


def _hint(done: Tuned) -> list[str]:
    if done.looks == 1:
        return []
    return [
        f"These held-out images were looked at {done.looks} times in this folder, each time with another choice: the "
        "last is no longer a first look. Hold out other seeds, in another folder, for a clean one.  "
    ]


def _how(done: Tuned, weights: str) -> list[str]:
    search, base = done.search, done.search.base
    sampler = base.sampler if is_mixture(base.model) else f"{base.sampler}, {base.dtype}"
    return [
        f"Tuned on {counted(len(base.prompts), 'prompt')} x {counted(len(base.seeds), 'seed')} "
        f"({write_seeds(base.seeds)}), the same for every trial; judged on "
        f"{counted(len(search.held_prompts), 'other prompt')} x {counted(len(search.held_seeds), 'other seed')} "
        f"({write_seeds(search.held_seeds)}). Model {base.model} (weights {weights[:12]}), "
        f"{counted(base.steps, 'step')}, {sampler}, noises {base.noise}. Denoiser rows: "
        f"{done.constant.rows + done.tuned.rows:,.0f} to tune, {done.rows:,.0f} to judge. What was best "
        "where it was tuned is flattered by the choice; the held-out columns are not.",
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
