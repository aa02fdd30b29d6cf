"""Every method of a preset at its best setting: chosen on one set of prompts and seeds, reported on another.

    python benchmarks/methods.py --out runs/methods                    # about 3.3 million denoiser rows
    python benchmarks/methods.py --preset dispute --out runs/dispute --rungs 64x8:1

Settings are chosen by successive halving (`--rungs`: prompts x seeds : how many of a method go on), the survivors drawn
on prompts and seeds that chose nothing, and compared with plain guidance at its own best scale. Stop it and start it
again: it goes on where it was. `report.md` in the folder is the table; `cfglab report` and `cfglab compare` read
`report/` as any run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfglab.errors import CfglabError, InputError
from cfglab.experiments import Experiment
from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.experiments.execution.run import Run, run
from cfglab.experiments.spec.overrides import read_assignments
from cfglab.experiments.spec.prompts import prompt_set, read_seeds
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.traces import stored_levels
from cfglab.experiments.tuning.successive_halving import Rung, choose, reported, rows_of, rows_per_image
from cfglab.report.markdown import code

METRICS = ("alignment", "alignment_seen", "alignment_unseen", "fid", "kid", "recall", "vendi", "saturation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        print(compare(given))
    except CfglabError as error:
        print(f"methods: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def compare(given: argparse.Namespace) -> Path:
    """Choose, report, and write the table; where it is."""
    fields = {name: getattr(given, name) for name in ("steps", "sampler", "model", "dtype", "noise")}
    fields["compile"] = given.compile or None
    changed = read_assignments(given.set)
    if given.methods:
        changed["groups"] = _only(given.preset, given.methods)
    experiment = Experiment.preset(given.preset, set=changed, **fields)
    rungs, seeds = Rung.read(given.rungs), read_seeds(given.seeds)
    used = sum(rung.seeds for rung in rungs)
    if min(seeds) < used:
        raise InputError(
            f"seeds {given.seeds}: the rungs choose with seeds 0 to {used - 1}; report with others, 1000..1007."
        )
    options = _executor(given.ray, given.workers)

    def drawn(part: Experiment, folder: Path) -> Run:
        return run(part, folder, **options)

    chosen = choose(experiment, given.out, rungs, by=given.by, better=given.better, budget=given.rows, run=drawn)
    last = reported(experiment, chosen, _others(experiment, given.prompts), seeds)
    rows = rows_of(last)
    if rows > given.rows:
        raise InputError(f"the report needs about {rows:,} rows, more than --rows {given.rows:,}; give fewer --seeds.")
    print(f"report: {len(last.settings)} settings, {len(last.prompts)} x {len(last.seeds)} images each")
    final = drawn(last, given.out / "report")
    target = given.out / "report.md"
    write_whole(target, table(final, last).encode())
    return target


def table(run: Run, experiment: Experiment) -> str:
    """One line a method: its setting, rows an image, and every metric with its difference from plain guidance."""
    compared = {metric: one for metric in METRICS if (one := _compared(run, metric)) is not None}
    levels = stored_levels(run.store, experiment.steps)  # the run's own
    lines = [
        f"Baseline: plain guidance at its best, `{experiment.baseline.guidance}`. {len(experiment.prompts)} prompts x "
        f"{len(experiment.seeds)} seeds, {experiment.steps} steps, {experiment.sampler}. In brackets: the difference "
        "from the baseline, its 95 % interval, and p after Holm's correction over the methods.",
        "",
        "| method | setting | rows | " + " | ".join(compared) + " |",
        "|---" * (3 + len(compared)) + "|",
    ]
    by = {metric: {row.setting: row for row in one.rows} for metric, one in compared.items()}
    order = [row.setting for row in compared["alignment"].rows] if "alignment" in compared else []
    names = [experiment.baseline.name, *order, *(one.name for one in experiment.settings[1:] if one.name not in order)]
    for name in names:
        setting = experiment.setting(name)
        cells = [
            _baseline(one) if name == experiment.baseline.name else _cell(by[metric].get(name))
            for metric, one in compared.items()
        ]
        rows = rows_per_image(setting.guidance, experiment.steps, levels)
        title = "plain, the baseline" if name == experiment.baseline.name else setting.group
        lines.append(f"| {title} | {code(str(setting.guidance))} | {rows} | {' | '.join(cells)} |")
    found = [f"{metric} {row.smallest_detectable:.3g}" for metric, one in compared.items() if (row := _typical(one))]
    lines += ["", f"Found in 80 of 100 such experiments (median over the methods): {', '.join(found)}."]
    return "\n".join([*lines, ""])


def _compared(run: Run, metric: str) -> Comparison | None:
    try:
        return run.compare(metric)
    except InputError:  # a metric that so few images do not have
        return None


def _baseline(one: Comparison) -> str:
    return "-" if one.baseline_mean is None else f"{one.baseline_mean.value:.4g}"


def _cell(row: ComparisonRow | None) -> str:
    if row is None or row.mean is None or row.difference is None:
        return "-"
    interval = "" if row.low is None else f", {row.low:+.3g} to {row.high:+.3g}"
    p = "" if row.p_holm is None else f", p {'< 0.001' if row.p_holm < 0.001 else f'= {row.p_holm:.3f}'}"
    return f"{row.mean:.4g} ({row.difference:+.3g}{interval}{p})"


def _typical(one: Comparison) -> ComparisonRow | None:
    """The row whose smallest detectable difference is the median."""
    rows = sorted((row for row in one.rows if row.smallest_detectable), key=lambda row: row.smallest_detectable or 0)
    return rows[len(rows) // 2] if rows else None


def _executor(address: str | None, workers: int | None) -> dict[str, Any]:
    """The options of `run` that spread it over Ray workers; none without an address."""
    if address is None:
        return {}
    from cfglab.integrations.ray.executor import on_ray

    return {"executor": on_ray(address, workers)}


def _others(experiment: Experiment, count: int) -> tuple[str, ...]:
    """Prompts of the world of scenes that the experiment does not have."""
    have = set(experiment.prompts)
    found = [prompt for prompt in prompt_set(f"scenes:{len(have) + count}") if prompt not in have]
    return tuple(found[:count])


def _only(preset: str, methods: Sequence[str]) -> list[dict[str, object]]:
    """The groups of these names."""
    from importlib.resources import files

    from cfglab.experiments.spec.document import read_yaml

    source = files("cfglab.experiments") / "presets" / f"{preset}.yaml"
    groups = read_yaml(source.read_text(encoding="utf-8")).get("groups", [])
    found = [group for group in groups if group["name"] in methods]
    if missing := set(methods) - {group["name"] for group in found}:
        raise InputError(
            f"{', '.join(sorted(missing))}: no group of {preset}; it has {', '.join(one['name'] for one in groups)}."
        )
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--preset", default="methods")
    parser.add_argument("--methods", nargs="*", default=[], help="these groups only")
    parser.add_argument(
        "--rungs", default="32x1:3,64x1:2,64x6:1", help="prompts x seeds : kept settings, rung after rung"
    )
    parser.add_argument("--by", default="alignment", help="the metric of images that chooses")
    parser.add_argument("--better", choices=("higher", "lower"), default="higher")
    parser.add_argument("--prompts", type=int, default=64, help="prompts of the report")
    parser.add_argument("--seeds", default="1000..1007", help="seeds of the report")
    parser.add_argument(
        "--rows", type=int, default=5_000_000, help="denoiser rows that choosing may cost, and the report"
    )
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sampler")
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the preset")
    parser.add_argument("--dtype")
    parser.add_argument("--noise", choices=("nested", "crossed"))
    parser.add_argument("--compile", action="store_true", help="compile the denoiser")
    parser.add_argument("--ray", metavar="ADDRESS", help="spread it over Ray workers: local, auto or HOST:PORT")
    parser.add_argument("--workers", type=int, help="so many Ray workers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
