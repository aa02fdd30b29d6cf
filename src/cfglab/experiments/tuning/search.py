"""What is tuned, by which metric, on which images, and which others it is evaluated on. Loads no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.scoring.scorer import ENOUGH
from cfglab.experiments.spec.content_hash import ContentHashed
from cfglab.experiments.spec.difference import describe_difference
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.prompts import refuse_same_noise
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.files import LOCK
from cfglab.experiments.tuning.search_space import SearchSpace
from cfglab.file_input import read_bytes
from cfglab.guidance import Guidance
from cfglab.limits import SEARCH_BYTES
from cfglab.metrics.registry import METRICS
from cfglab.schedules.fields import counted, nearest

SEARCH = "search.json"
TRIAL = "trial"
CHUNKS, SMALLEST = 4, 4  # at most so many chunks, of so many prompts or more
FEWEST = 2  # prompts on either side: one prompt says nothing about others


class Search(ContentHashed):
    """A guidance with gaps, the constant scales that it has to beat, the metrics, and the images; see `Search.of`.

    Attributes:
        guidance: the text of a guidance with gaps.
        constant: a range of constant scales, such as "1..8".
        metrics: one metric to tune, or two for a frontier.
        base: the model, the sampler, and the prompts and seeds that are tuned on; its only setting is a placeholder.
        held_prompts: the prompts that are held out.
        held_seeds: the seeds that are held out.
        seed: the seed of the split and of the proposals.
    """

    guidance: str
    constant: str
    metrics: tuple[str, ...]
    base: Experiment
    held_prompts: tuple[str, ...]
    held_seeds: tuple[int, ...]
    seed: int = 0

    @classmethod
    def of(
        cls,
        guidance: str,
        metrics: Sequence[str],
        prompts: Sequence[str],
        *,
        tune_on: int | None = None,
        seeds: Sequence[int] = (0,),
        held_seeds: Sequence[int] = (1000, 1001, 1002, 1003),
        constant: str = "1..8",
        steps: int = 20,
        seed: int = 0,
        **fields: Any,
    ) -> Self:
        """Return a search, with the prompts split at random.

        Args:
            guidance: the text of a guidance with gaps.
            metrics: one or two names of metrics with a direction.
            prompts: all prompts, at least four.
            tune_on: the number of prompts to tune on; None is half of them.
            seeds: the seeds to tune on.
            held_seeds: the seeds to hold out.
            constant: the range of constant scales.
            steps: sampling steps.
            seed: the seed of the split.
            **fields: further fields of an Experiment: model, sampler, negative, dtype, width, height, noise.

        Raises:
            InputError: if the guidance has no gaps, a metric is unknown or has no direction, there are too few prompts
                or images, or a seed is both tuned on and held out.
        """
        for metric in metrics:
            _check_metric(metric)
        if not 1 <= len(metrics) <= 2 or len(set(metrics)) < len(metrics):
            raise InputError(
                f"metrics {', '.join(metrics) or 'none'}: one is tuned, two different ones give a frontier."
            )
        count = len(prompts) // 2 if tune_on is None else tune_on
        if not FEWEST <= count <= len(prompts) - FEWEST:
            raise InputError(
                f"{counted(len(prompts), 'prompt')}, {count} to tune on: at least {FEWEST} are tuned on and {FEWEST} "
                "held out; give more prompts, such as scenes:64, or another number to tune on."
            )
        refuse_same_noise(dict.fromkeys((*seeds, *(seed for seed in held_seeds if seed not in seeds))))
        if both := sorted(set(seeds) & set(held_seeds)):
            raise InputError(
                f"seed {both[0]}: is tuned on and held out; give other seeds to hold out, such as 1000..1003."
            )
        order = np.random.default_rng(seed).permutation(len(prompts))
        tuned, held = ([prompts[i] for i in part] for part in (order[:count], order[count:]))
        for metric in metrics:
            _check_pictures(metric, len(tuned) * len(seeds), "tuned on", "seeds")
            _check_pictures(metric, len(held) * len(held_seeds), "held out", "seeds to hold out")
        plain = Setting(name=TRIAL, group="baseline", title=TRIAL, guidance=Guidance(1))
        stated = {name: value for name, value in fields.items() if value is not None}
        base = Experiment(
            name="tune",
            prompts=tuple(tuned),
            seeds=tuple(seeds),
            steps=steps,
            baseline=plain,
            settings=(plain,),
            **stated,
        )
        search = cls(
            guidance=guidance,
            constant=constant,
            metrics=tuple(metrics),
            base=base,
            held_prompts=tuple(held),
            held_seeds=tuple(held_seeds),
            seed=seed,
        )
        for text in search.texts.values():
            SearchSpace.of(text, steps)
        return search

    @property
    def texts(self) -> dict[str, str]:
        """What is tuned by the same rules: constant scales, which have to be beaten, and the guidance with gaps."""
        return {"constant": f"{{w:{self.constant}}}", "tuned": self.guidance}

    @property
    def chunks(self) -> tuple[tuple[str, ...], ...]:
        """The prompts in the order in which a trial draws them; one chunk where a trial cannot be cut short."""
        prunes = len(self.metrics) == 1 and METRICS[self.metrics[0]].of == "image"
        count = max(1, min(CHUNKS, len(self.base.prompts) // SMALLEST)) if prunes else 1
        return tuple(tuple(part.tolist()) for part in np.array_split(np.array(self.base.prompts, dtype=object), count))

    def part(self, name: str, settings: Sequence[Setting], prompts: Sequence[str], seeds: Sequence[int]) -> Experiment:
        """Return an experiment like `base`.

        Args:
            name: its name.
            settings: its settings, the baseline first.
            prompts: its prompts.
            seeds: its seeds.
        """
        fields = {field: getattr(self.base, field) for field in Experiment.model_fields}
        if self.base.noise == "nested" and prompts[0] in self.base.prompts:  # noises of its own for every chunk
            fields["prompt_offset"] = self.base.prompts.index(prompts[0])
        fields |= {"name": name, "baseline": settings[0], "settings": tuple(settings)}
        return Experiment(**{**fields, "prompts": tuple(prompts), "seeds": tuple(seeds)})


def _check_metric(metric: str) -> None:
    definition = METRICS.get(metric)
    if definition is None:
        hint = nearest(metric, METRICS) or " see cfglab list metrics."
        raise InputError(f"metric '{metric}' is unknown;{hint}")
    if definition.model and definition.of == "set":
        raise InputError(f"metric '{metric}' is measured by cfglab score alone; tune clip_score, alignment or kid.")
    if definition.better is None:
        raise InputError(f"metric '{metric}' has no better direction, so it cannot be tuned; tune alignment, or kid.")


def _check_pictures(metric: str, count: int, which: str, more: str) -> None:
    if METRICS[metric].of == "set" and count < ENOUGH:
        raise InputError(
            f"metric '{metric}' needs {ENOUGH} images, and {count} are {which}; give more prompts or {more}."
        )


def as_stored(folder: Path, search: Search) -> Search:
    """Return the search with the noise of the stored one, where it states none; see `Experiment.as_stored`.

    Args:
        folder: the folder of a search.
        search: the search.
    """
    try:
        stored = Search.model_validate_json((folder / SEARCH).read_bytes())
    except (OSError, ValueError):
        return search  # `check_folder` says what is wrong
    return search.model_copy(update={"base": search.base.as_stored(stored.base)})


def check_folder(folder: Path, search: Search) -> bool:
    """Return whether the folder holds this search already.

    Args:
        folder: the folder of a search; it does not need to exist.
        search: the search.

    Raises:
        InputError: if the folder holds another search, or other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a search is a folder, but this is a file; choose another --out.")
    path = folder / SEARCH
    if not path.is_file():
        if folder.exists() and any(
            entry.name != LOCK and not entry.name.startswith(f".{SEARCH}.") for entry in folder.iterdir()
        ):
            raise InputError(f"{folder}: holds other files and no search; choose another --out.")
        return False
    try:
        stored = Search.model_validate_json(read_bytes(path, SEARCH_BYTES))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read, another version wrote it; choose another --out.") from None
    if stored.id != search.id:
        for name in Search.model_fields:
            requested, kept = getattr(search, name), getattr(stored, name)
            if requested != kept:
                change = f"{name} {_short(kept)}, not {_short(requested)}"
                if name == "base":
                    change = describe_difference(kept, requested)
                raise InputError(f"{folder}: holds another search, {change}; choose another --out.")
    return True


def _short(value: object) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
