"""Run folders made without a model: scenes from the renderer with noise, and scores that follow a known law."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.results import Result, ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import CellTrace
from cfglab.metrics.images import clipped_share, contrast, saturation
from cfglab.scenes.vocabulary import Scene, read_caption
from cfglab.step import steps

Chance = Callable[[Setting], float]
Score = Callable[[Setting, str, int], dict[str, float]]
Picture = Callable[[Setting, str, int], np.ndarray]
PARTS = ("alignment_a", "alignment_b", "alignment_relation")


def experiment(**changes: object) -> Experiment:
    """The k sweep with fewer values of k unless told otherwise."""
    few = {"groups.0.axes.k": [0.3, 1, 3], "groups.1.axes.k": [0.3, 1, 3]}
    return Experiment.preset("k-decay", set=few if "set" not in changes else None, **changes)  # type: ignore[arg-type]


def dose_of(setting: Setting) -> float:
    """The mean of w over 50 steps."""
    return setting.guidance.schedule.dose(50, standard_sigmas(50))


def rising_with_dose(setting: Setting) -> float:
    """A law in which only the amount of guidance counts: best near a dose of 4.5."""
    dose = dose_of(setting)
    return float(0.15 + 0.7 * np.exp(-((dose - 4.5) ** 2) / 8))


def random_score(chance: float, pixels: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Alignment right with the given chance, a part missed where it is not, and the real metrics of the pixels."""
    right = rng.random() < chance
    parts = dict.fromkeys(PARTS, 1.0)
    if not right:
        parts[PARTS[rng.integers(3)]] = 0.0
    batch = pixels.transpose(2, 0, 1)[None]
    measured = {"saturation": saturation, "clipped_share": clipped_share, "contrast": contrast}
    return {"alignment": float(right), **parts} | {name: float(law(batch)[0]) for name, law in measured.items()}


def rendered(setting: Setting, prompt: str, seed: int) -> np.ndarray:
    """A scene of the prompt, float (128, 128, 3) in [-1, 1] or beyond: faded by a low dose, burnt by a high one."""
    from cfglab.scenes.renderer import render  # it loads torch, which `noise` does without

    dose = dose_of(setting)
    scene = read_caption(prompt) or Scene(a="frog", relation="next to", b="mushroom")
    pixels = render([scene], Random(seed))[0].astype(np.float64) / 127.5 - 1
    return (0.4 + 0.16 * dose) * pixels + 0.9 / (1 + dose) * noise(setting, prompt, seed)


def noise(_setting: Setting, _prompt: str, seed: int) -> np.ndarray:
    """Noise of the size of `rendered`."""
    return np.random.default_rng(seed).normal(size=(128, 128, 3))


def make(
    folder: Path,
    of: Experiment,
    *,
    chance: Chance = rising_with_dose,
    fail: tuple[int, ...] = (),
    stop: int | None = None,
    message: str = "Traceback (most recent call last):\n  …\nRuntimeError: out of memory",
    score: Score | None = None,
    side: int = 64,
    traced: bool = True,
    picture: Picture = rendered,
) -> Path:
    """Write a run of `of` into `folder`: every cell, except the positions that `fail` and those from `stop` on.

    Its images have `side` pixels a side, fewer than those of the bundled model: pages are made and read in less time.
    """
    rows, position = [], 0
    with Store.create(folder, of) as store:
        for setting in of.settings:
            for prompt in of.prompts:
                for seed in of.seeds:
                    if stop is None or position < stop:
                        rows.append(
                            _row(
                                *(folder, setting, prompt, seed, position),
                                *(chance, fail, message, score, side, traced, picture),
                            )
                        )
                    position += 1
        store.record(rows)
        store.note_versions({"cfglab": "0.1.0", "torch": "2.13.0", "python": "3.11.2", "device": "cpu"})
        store.write_csv()
    return folder


def _row(
    folder: Path,
    setting: Setting,
    prompt: str,
    seed: int,
    position: int,
    chance: Chance,
    fail: tuple[int, ...],
    message: str,
    score: Score | None,
    side: int,
    traced: bool,
    picture: Picture,
) -> ResultRow:
    cell = hashlib.sha256(json.dumps([str(setting.guidance), prompt, seed]).encode()).hexdigest()
    where = {"cell": cell, "position": position, "setting": setting.name, "prompt": prompt, "seed": seed}
    if position in fail:
        return ResultRow(result=Result(**where, status="failed", error=message), settled=False)
    rng = np.random.default_rng(int(cell[:8], 16))
    pixels = picture(setting, prompt, seed)
    metrics = score(setting, prompt, seed) if score else random_score(chance(setting), pixels, rng)
    image = f"images/{cell}.png"
    to_bytes = np.clip((pixels + 1) * 127.5, 0, 255).astype(np.uint8)
    Image.fromarray(to_bytes).resize((side, side), Image.Resampling.BICUBIC).save(folder / image)
    return ResultRow(
        result=Result(**where, status="done", image=image, metrics=metrics, rows_run=75, rows_saved=25),
        settled=True,
        trace=trace(setting, seed).encode() if traced else None,
    )


def trace(setting: Setting, seed: int, count: int = 50) -> CellTrace:
    """Traces with the schedule's own w, gaps that fall over the steps, and a shared first step."""
    sigmas = standard_sigmas(count)
    rng = np.random.default_rng(seed)
    schedule = setting.guidance.schedule
    table = np.empty((7, count), np.float32)
    for step in steps(count, sigmas):
        gap = (2 + rng.random()) * (1 - step.index / count) + 0.2
        saved = 1.2 if step.index == 0 else 0.0
        table[:, step.index] = (
            *(step.index, step.sigma, schedule(step)),
            *(gap, 1 - 0.002 * gap**2, 2 - saved, saved),
        )
    return CellTrace(table)
