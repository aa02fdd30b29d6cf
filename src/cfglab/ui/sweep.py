"""A sweep: a guidance with axes as an experiment, run in the background while the page shows its folder."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.execution.outcome import Batch, Load, Outcome, Workers, describe_environment, generate_batch
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.files import folder_name
from cfglab.experiments.storage.session import StopRequested
from cfglab.experiments.storage.store import DATABASE
from cfglab.guidance.guidance import parse_guidance
from cfglab.schedules.fields import shown
from cfglab.ui.engine import SAMPLER, Engine, explained

_AXIS = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
IMAGES = 400
"""The most images of a sweep that is started from the page."""


@dataclass(frozen=True, slots=True)
class SweepForm:
    """What the page asks about a sweep; prompts one a line, `template` with axes such as `{w:3, 5, 7.5}`."""

    template: str
    prompts: str
    seeds: str = "0"
    steps: int = 20
    sampler: str = SAMPLER
    name: str = "sweep"


def read_axes(template: str) -> tuple[str, dict[str, list[float | str]]]:
    """The template as experiments write it, and the values of its axes.

    Args:
        template: a guidance in which `{name:value, value, …}` is an axis; `{name}` repeats one.

    Returns:
        The text with `{name}` in the place of every axis, and the values by name.

    Raises:
        InputError: there is no axis, an axis has no values, or a name has two lists of values.

    Examples:
        >>> read_axes("cosine(max={w:3, 7.5}, k={k:1}) | rescale(strength={s:0, 0.5})")
        ('cosine(max={w}, k={k}) | rescale(strength={s})', {'w': [3, 7.5], 'k': [1], 's': [0, 0.5]})
    """
    axes: dict[str, list[float | str]] = {}
    for name, values in _AXIS.findall(template[: limits.TUNED_LETTERS]):
        listed = [_value(part.strip()) for part in values.split(",") if part.strip()]
        if listed and name in axes:
            raise InputError(f"the axis {name!r} has two lists of values: write them once, and {{{name}}} elsewhere.")
        if listed:
            axes[name] = listed
    for name, _ in _AXIS.findall(template):
        if name not in axes:
            raise InputError(f"the axis {{{shown(name)[1:-1]}}} has no values: write {{{name}:3, 5, 7.5}}.")
    if not axes:
        raise InputError(f"{shown(template)}: a sweep has an axis; write cosine(max={{w:3, 5, 7.5}}).")
    return _AXIS.sub(r"{\1}", template), axes


def scaled(guidance: str) -> str:
    """A guidance as the template of a sweep over its scale: the schedule times 0.5, 1 and 1.5.

    Examples:
        >>> scaled("cosine(max=6) | rescale()")
        '(cosine(max=6, min=1)) * {scale:0.5, 1, 1.5} | rescale()'
    """
    parsed = parse_guidance(guidance)
    return " | ".join([f"({parsed.schedule}) * {{scale:0.5, 1, 1.5}}", *map(str, parsed.transforms)])


def experiment_of(form: SweepForm, model: str) -> Experiment:
    """The experiment of a form; its baseline is the constant 7.5.

    Raises:
        InputError: a field is not valid, or the sweep has more than IMAGES images.
    """
    template, axes = read_axes(form.template)
    prompts = [line.strip() for line in form.prompts.splitlines() if line.strip()]
    if not prompts:
        raise InputError("a sweep without a prompt: write one a line.")
    if prompt := next((prompt for prompt in prompts if prompt.startswith("@")), None):
        raise InputError(f"prompt {shown(prompt)}: @ names a file, which the page does not read; write the prompts.")
    folder_name(form.name)
    fields = {
        "name": form.name,
        "model": model,
        "prompts": prompts,
        "seeds": form.seeds.strip() or "0",
        "steps": form.steps,
        "sampler": form.sampler,
        "baseline": {"name": "constant", "guidance": 7.5},
        "groups": [{"name": "sweep", "guidance": template, "axes": axes}],
    }
    from cfglab.yaml_text import write_yaml

    experiment = Experiment.from_yaml(write_yaml(fields) + "\n")
    count = len(experiment.settings) * len(experiment.prompts) * len(experiment.seeds)
    if count > IMAGES:
        raise InputError(f"{count:,} images: the page starts at most {IMAGES}; use `cfglab run` for more.")
    return experiment


def size_of(experiment: Experiment) -> str:
    """How many images an experiment has, as a product."""
    settings, prompts, seeds = len(experiment.settings), len(experiment.prompts), len(experiment.seeds)
    parts = [_plural(settings, "setting"), _plural(prompts, "prompt"), _plural(seeds, "seed")]
    return f"{' × '.join(parts)} = {_plural(settings * prompts * seeds, 'image')}"


class _Stopped(Exception):
    """The page stopped the run."""


@dataclass
class Job:
    """One run of the page.

    Attributes:
        folder: the run folder.
        total: the number of images of the experiment.
        error: what ended it, in one line; empty if nothing did.
        running: whether it still runs.
    """

    folder: Path
    total: int
    error: str = ""
    running: bool = True
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop after the batch that is being generated; the run can be continued."""
        self._stop.set()


@dataclass
class Jobs:
    """The runs that this server has started, by the name of their folder."""

    engine: Engine
    runs: Path
    started: dict[str, Job] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> list[str]:
        """The run folders, the newest first."""
        try:
            folders = [
                entry for entry in self.runs.iterdir() if not entry.is_symlink() and (entry / DATABASE).is_file()
            ]
            return [entry.name for entry in sorted(folders, key=lambda entry: -entry.stat().st_mtime)]
        except OSError:
            return []

    def folder(self, name: str) -> Path:
        """The run folder of this name.

        Raises:
            InputError: there is no run of this name directly in the folder of runs.
        """
        if name not in self.names():
            raise InputError(f"run {shown(name)}: there is no such run in {self.runs.name}/; choose one of the list.")
        return self.runs / name

    def start(self, experiment: Experiment, name: str) -> Job:
        """Run an experiment in the background, or continue it.

        Raises:
            InputError: the run is being written already, or the name is no folder's.
        """
        folder = self.runs / folder_name(name)
        total = len(experiment.settings) * len(experiment.prompts) * len(experiment.seeds)
        with self._lock:
            before = self.started.get(name)
            if before is not None and before.running:
                raise InputError(f"run {shown(name)}: it runs already; wait for it, or stop it.")
            job = self.started[name] = Job(folder, total)
        threading.Thread(target=self._work, args=(job, experiment), daemon=True, name="cfglab-sweep").start()
        return job

    def _work(self, job: Job, experiment: Experiment) -> None:
        shared = self._is_shared(experiment)
        hub = self.engine.hub if shared else {"allow_download": False}
        try:
            run(
                experiment,
                job.folder,
                self.engine.device,
                quiet=True,
                load=(lambda _: self.engine.pipe()) if shared else None,
                executor=self._executor(job, experiment),
                **hub,
            )
        except (_Stopped, StopRequested):
            job.error = "stopped; Continue goes on where it was."
        except BaseException as fault:
            job.error = str(explained(fault))
        finally:
            job.running = False

    def _executor(self, job: Job, experiment: Experiment) -> Any:
        """Batch after batch with the lock of the engine, so that people who generate meanwhile wait for one batch."""

        shared = self._is_shared(experiment)

        @contextmanager
        def executor(load: Load, device: str, most: int) -> Iterator[Workers]:  # noqa: ARG001
            with self.engine.lock:
                backend = load(device)
                backend.check_experiment(experiment)

            def draw(batches: Sequence[Batch]) -> Iterator[list[Outcome]]:
                for batch in batches:
                    if job.stopping:
                        raise _Stopped
                    with self.engine.lock:
                        if shared:
                            self.engine.use_sampler(experiment.sampler)
                        outcomes = generate_batch(backend, batch)
                    yield outcomes

            yield Workers(describe_environment(backend), draw)

        return executor

    def _is_shared(self, experiment: Experiment) -> bool:
        """Whether the experiment runs on the model of the page."""
        settings = experiment.model, experiment.dtype, experiment.compile
        return settings == (self.engine.model, self.engine.dtype, False)


def _value(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if re.fullmatch(rf"[+-]?[0-9]{{1,{limits.DIGITS}}}", text) else number


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
