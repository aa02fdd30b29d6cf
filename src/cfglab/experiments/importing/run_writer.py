"""The run folder of imported images: every image as PNG, its row and its metrics."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfglab.experiments.importing.generation import Generation, Unusable
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.infotext import GUIDANCE, KEYWORD, write_infotext
from cfglab.experiments.storage.png import encode_pixels, open_image
from cfglab.experiments.storage.png_chunks import with_text
from cfglab.experiments.storage.store import Result, ResultRow, Store
from cfglab.limits import IMAGE_PIXELS
from cfglab.metrics.images import contrast, saturation
from cfglab.progress import progress_bar


@dataclass(frozen=True)
class ImportedImage:
    """One image of a folder: its file, its size in pixels, and how it was generated."""

    path: Path
    size: tuple[int, int]
    generation: Generation


def read_rgb(path: Path) -> np.ndarray:
    """uint8 (h, w, 3). Raises Unusable."""
    try:
        return np.asarray(open_image(path, IMAGE_PIXELS))
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error


def write_run(
    experiment: Experiment, images: Sequence[ImportedImage], names: Sequence[str], out: Path, quiet: bool
) -> None:
    """The run folder with every image, recorded and scored."""
    from cfglab.experiments.scoring.scorer import score

    place = _places(experiment)
    with Store.create(out, experiment) as store:
        with progress_bar(len(images), quiet, "importing") as advance:
            for image, name in zip(images, names, strict=True):
                store.record([_recorded(out, image, name, place)])
                advance(1)
        score(store, quiet)
        store.write_csv()


def _places(experiment: Experiment) -> Callable[[str, str, int], int]:
    """The position of a setting, prompt and seed in the experiment's order."""
    settings = {setting.name: index for index, setting in enumerate(experiment.settings)}
    prompts = {prompt: index for index, prompt in enumerate(experiment.prompts)}
    seeds = {seed: index for index, seed in enumerate(experiment.seeds)}
    return lambda name, prompt, seed: (settings[name] * len(prompts) + prompts[prompt]) * len(seeds) + seeds[seed]


def _recorded(out: Path, image: ImportedImage, name: str, place: Callable[[str, str, int], int]) -> ResultRow:
    made, pixels = image.generation, read_rgb(image.path)
    text = write_infotext(made.prompt, made.negative, _infotext_settings(image))
    file = with_text(encode_pixels(pixels), KEYWORD, text)
    digest = hashlib.sha256(file).hexdigest()
    identity = json.dumps([name, made.prompt, made.seed, digest])
    cell = hashlib.sha256(identity.encode()).hexdigest()
    write_whole(out / "images" / f"{cell}.png", file)
    floats = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    result = Result(
        cell=cell,
        position=place(name, made.prompt, made.seed),
        setting=name,
        prompt=made.prompt,
        seed=made.seed,
        torch_seed=made.seed,
        status="done",
        image=f"images/{cell}.png",
        metrics={"saturation": float(saturation(floats)[0]), "contrast": float(contrast(floats)[0])},
    )
    return ResultRow(result=result, settled=True, sha256=digest)


def _infotext_settings(image: ImportedImage) -> dict[str, object]:
    made = image.generation
    return {
        "Steps": made.steps,
        "Sampler": made.sampler,
        "Seed": made.seed,
        "Size": f"{image.size[0]}x{image.size[1]}",
        "Model": made.model,
        GUIDANCE: made.guidance,
    }
