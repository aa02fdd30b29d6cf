"""validation(pipe, guidances, prompts): images of several guidances at each checkpoint of a training, as runs.

The object is made before the training loop, and called with the step, as `log_validation` of diffusers' example scripts
is. Each call writes a run folder and the page that compares all checkpoints so far.
"""

import copy
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cfglab.errors import InputError
from cfglab.experiments.backends.in_memory import Digests, InMemoryBackend
from cfglab.experiments.execution.run import Run, run
from cfglab.experiments.scoring.metric_models import MetricModel, measure
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.checkpoints import checkpoint_folder, checkpoint_folders
from cfglab.experiments.storage.png import read_pixels
from cfglab.experiments.storage.store import Result, Store
from cfglab.file_input import last_line
from cfglab.guidance.guidance import as_guidance
from cfglab.integrations.metric_models import metric_models_of
from cfglab.report import report
from cfglab.schedules.fields import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ValidationImage:
    """One image of a checkpoint.

    Attributes:
        path: the PNG file.
        caption: guidance, prompt and seed in one line.
        guidance: the name of the guidance.
        prompt: the prompt.
        seed: the seed.
    """

    path: Path
    caption: str
    guidance: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """What `Validation` made at one step, in the forms that trackers take.

    Attributes:
        step: the training step.
        run: the run folder, which `compare`, `report` and `export` read.
        images: the images, by guidance, prompt and seed; failed ones are left out.
        scalars: "validation/METRIC/GUIDANCE" -> the mean over the images, as `accelerator.log` takes it.
        page: the page that compares the checkpoints so far.
    """

    step: int
    run: Run
    images: tuple[ValidationImage, ...]
    scalars: Mapping[str, float]
    page: Path

    @property
    def pixels(self) -> "NDArray[np.uint8]":
        """The images as uint8 (n, h, w, 3), as `SummaryWriter.add_images(…, dataformats="NHWC")` takes them.

        Without an image (all failed) they are (0, 0, 0, 3), which trackers do not take: ask `if done.images`.
        """
        if not self.images:
            return np.zeros((0, 0, 0, 3), np.uint8)
        return np.stack([read_pixels(image.path) for image in self.images])


@dataclass(eq=False)
class Validation:
    """The validation of one training. Call it with the training step; `validation` makes it.

    Attributes:
        pipe: the pipeline whose networks are trained.
        experiment: the images of each checkpoint.
        folder: the folder of the run folders and of the page `report.html`.
        models: metric models that are applied to every checkpoint.
    """

    pipe: Any
    experiment: Experiment
    folder: Path
    models: Sequence[MetricModel] = ()
    _frozen: Digests = field(default_factory=dict, repr=False)
    _fits: bool = field(default=False, repr=False)

    def __call__(self, step: int) -> Checkpoint:
        """Generate the images of a checkpoint, score them, and write the page that compares the checkpoints.

        The training continues as if this had not been called: networks get their modes back, the pipe its scheduler,
        and Python, NumPy and torch their random states; no gradient is computed. An image that cannot be generated is
        recorded as failed; but the first call refuses a guidance of which every image fails. A checkpoint that is
        there with the same weights is read; one of other weights (a training that was repeated from an earlier
        checkpoint) stays, and the new one has its hash in its name.

        Args:
            step: the number of optimizer steps so far, 0 or more.

        Returns:
            The Checkpoint.

        Raises:
            InputError: if the step is no whole number, the folder holds another experiment, or, at the first call,
                every image of a guidance fails.
            MachineError: if the folder cannot be written.
        """
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise InputError(f"step {step!r}: a training step is a whole number, 0 or more; give global_step.")
        with undisturbed(self.pipe) as autocast:
            backend = InMemoryBackend(self.pipe, self._frozen, autocast)
            experiment = backend.run_by(self.experiment).model_copy(update={"title": f"Step {step:,}"})
            folder = checkpoint_folder(self.folder, step, backend.facts.weights)
            with _removed_on_refusal(folder, first=not self._fits):
                done = run(experiment, folder, pipe=backend, quiet=True)
                if not self._fits:
                    _check_fits(done.store)
            self._fits = True
            with Store.create(folder, experiment) as store:
                for model in self.models:
                    measure(store, model)
            report(folder)
        return Checkpoint(step, done, *_contents(done.store), report(self.folder))


def validation(
    pipe: Any,
    guidances: Any,
    prompts: str | Sequence[str],
    *,
    out: Path | str = "validation",
    seeds: Any = 0,
    steps: int = 25,
    negative: str = "",
    width: int | None = None,
    height: int | None = None,
    metrics: Sequence[str | MetricModel] = (),
) -> Validation:
    """Return an object that generates images of several guidances when it is called in a training loop.

    Args:
        pipe: a pipeline of the networks that are trained, unwrapped: `unet=accelerator.unwrap_model(unet)`. Its own
            scheduler generates the images; the training's noise scheduler may be the same object.
        guidances: as in `guide`, but no functions: one or a list, or name -> guidance. The first is the baseline of
            comparisons.
        prompts: one or more prompts.
        out: the folder of the checkpoints.
        seeds: as in an experiment: a number, a list, or text such as "0..3". They are the same at every checkpoint.
        steps: sampling steps.
        negative: the negative prompt.
        width: image width in pixels; None is that of the pipeline.
        height: image height in pixels; None is that of the pipeline.
        metrics: names of metrics with a metric model, such as "clip_score", or ImageScorer objects. Prompts of the
            world of `scenes` have alignment without one.

    Returns:
        The Validation.

    Raises:
        InputError: in one line, for an unknown layout, a pipeline that makes no images of a prompt alone, a guidance or
            prompt that is not valid, a metric without a model, or a folder that holds checkpoints of another
            experiment. Whether a method fits the network, and whether the pipeline can make the images at all, is
            known at the first call, which refuses them: call it once with step 0 before the loop.

    Examples:
        validate = cfglab.validation(pipe, ["5", "7.5 | apg()"], ["a red apple"], out="runs/lora/validation")
        validate(0)
        ...
        if accelerator.is_main_process and global_step % 500 == 0:
            done = validate(global_step)
            accelerator.log(done.scalars, step=global_step)
    """
    named = guidances if isinstance(guidances, Mapping) else {str(entry): entry for entry in _several(guidances)}
    if not named:
        raise InputError("guidances: there are none; give at least one, such as 7.5.")
    settings = tuple(
        Setting(name=str(name), group="guidances", title=str(name), guidance=as_guidance(guidance))
        for name, guidance in named.items()
    )
    experiment = Experiment(
        name="validation",
        model=type(pipe).__name__,
        prompts=tuple(_several(prompts)),
        negative=negative,
        seeds=seeds,
        steps=steps,
        width=width,
        height=height,
        baseline=settings[0],
        settings=settings,
    )
    if isinstance(metrics, str):
        raise InputError(f"metrics {shown(metrics)}: a list of them is needed; write metrics=[{shown(metrics)}].")
    names = [metric for metric in metrics if isinstance(metric, str)]
    models = [metric for metric in metrics if not isinstance(metric, str)]
    frozen: Digests = {}
    experiment = InMemoryBackend(pipe, frozen).run_by(experiment)
    for folder in checkpoint_folders(Path(out)).values():
        Store.check(folder, experiment)
    device = str(getattr(pipe, "device", "cpu"))
    return Validation(
        pipe, experiment, Path(out), [*(metric_models_of(names, None, device) if names else []), *models], frozen
    )


@contextmanager
def _removed_on_refusal(folder: Path, *, first: bool) -> Iterator[None]:
    """The run folder that a refused first call made is removed, so that another experiment may take its place."""
    new = first and not folder.exists()
    try:
        yield
    except InputError:
        if new and folder.exists():
            shutil.rmtree(folder)
        raise


def _check_fits(store: Store) -> None:
    """Refuse a guidance of which no image could be generated."""
    by_setting: dict[str, list[Result]] = {}
    for result in store.results():
        by_setting.setdefault(result.setting, []).append(result)
    for setting, results in by_setting.items():
        if all(result.image is None for result in results):
            error = last_line(results[0].error or "") or "failed without a message"
            count = f"all {len(results):,} images failed, the first with: " if len(results) > 1 else ""
            raise InputError(f"guidance {shown(setting)}: {count}{error}")


@contextmanager
def undisturbed(pipe: Any) -> Iterator[torch.autocast]:
    """Inside, the networks of a pipe are in evaluation mode and it has a scheduler of its own; after, all is as before.

    Autocast is off inside, because metrics are computed there; the autocast of the caller is for the pipeline alone.

    Args:
        pipe: a diffusers pipeline.

    Yields:
        The autocast of the caller.
    """
    kind = torch.device(pipe.device).type
    caller = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    modes = [(module, module.training) for network in networks for module in network.modules()]
    bar, scheduler = dict(getattr(pipe, "_progress_bar_config", {})), pipe.scheduler
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), torch.autocast(kind, enabled=False):
            for network in networks:
                network.eval()
            pipe.set_progress_bar_config(**{**bar, "disable": True})
            pipe.scheduler = copy.deepcopy(scheduler)
            yield caller
    finally:
        for module, mode in modes:
            module.training = mode
        pipe.scheduler = scheduler
        pipe.set_progress_bar_config(**bar)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.clear_autocast_cache()  # weights that autocast has converted here carry no gradient


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _contents(store: Store) -> tuple[tuple[ValidationImage, ...], dict[str, float]]:
    images, values = [], dict[str, list[float]]()
    for result in store.results():
        if result.image is None:
            continue
        caption = f"{result.setting} · {result.prompt} · seed {result.seed}"
        path = store.folder / result.image
        images.append(ValidationImage(path, caption, result.setting, result.prompt, result.seed))
        for metric, value in result.metrics.items():
            values.setdefault(f"validation/{metric}/{result.setting}", []).append(value)
    return tuple(images), {name: float(np.mean(column)) for name, column in values.items()}
