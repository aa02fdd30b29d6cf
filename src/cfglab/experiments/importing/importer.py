"""Images of other programs as a run folder: configurations are what differs, pairs are prompt and seed."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.importing.generation import Generation, Unusable, label
from cfglab.experiments.importing.metadata import ENDINGS, listed_generation, read_generation, read_listing
from cfglab.experiments.importing.run_writer import ImportedImage, read_rgb, write_run
from cfglab.experiments.spec.document import ExcludedSettings
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import IMPORTED
from cfglab.experiments.spec.setting import Setting
from cfglab.file_input import given_path
from cfglab.limits import IMPORT_CELLS, IMPORT_FILES
from cfglab.progress import progress_bar
from cfglab.schedules.fields import counted, nearest

_NAMES = 3
"""Files that a note names."""


@dataclass(frozen=True)
class ImportedRun:
    """What an import wrote.

    Attributes:
        folder: the run folder.
        images: images in the run.
        settings: configurations.
        pairs: pairs of prompt and seed.
        notes: what was left out and why, and what is not known, one sentence each.
    """

    folder: Path
    images: int
    settings: int
    pairs: int
    notes: tuple[str, ...]


def import_images(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    baseline: str | None = None,
    unpaired: bool = False,
    quiet: bool = True,
) -> ImportedRun:
    """Write a run folder from images that other programs generated.

    An image is read if it carries the metadata of A1111, Forge, SD.Next, ComfyUI or InvokeAI, has a text file of the
    same name beside it, or is listed in the `metadata.jsonl` or `metadata.csv` of its folder. Images with the same
    prompt and seed are a pair; what else differs between images is a configuration. Images are stored as PNG with their
    pixels and an infotext; other metadata is dropped.

    Args:
        folders: folders of images, searched with all folders inside.
        out: the run folder.
        baseline: the name of the configuration that the others are compared with; None is the one with most images.
        unpaired: keep images whose prompt and seed occur in one configuration only.
        quiet: show no progress.

    Returns:
        The counts, and notes about what was left out.

    Raises:
        InputError: a folder does not exist, no image can be used, or no pair is in two configurations.
        MachineError: the run folder cannot be written.
    """
    out = given_path(out)
    left_out: dict[str, list[str]] = defaultdict(list)
    images = list(_read(_files(folders, out), left_out, quiet))
    images = _one_size(images, left_out)
    if not images:
        raise InputError(f"{folders[0]}: no image can be used{_reasons(left_out)}; give a folder of generated images.")
    names = _settings_of(images)
    images, names = _once(images, names, left_out)
    if not unpaired:
        images, names = _paired(images, names, left_out)
    experiment = _experiment(images, names, folders, baseline, left_out)
    write_run(experiment, images, names, out, quiet)
    notes = [f"{part.name}: {part.reason}" for part in experiment.left_out]
    pairs = {(image.generation.prompt, image.generation.seed) for image in images}
    return ImportedRun(out, len(images), len(experiment.settings), len(pairs), tuple(notes))


# -- reading


def _files(folders: Sequence[Path | str], out: Path) -> dict[Path, Path]:
    """The image files below the folders in a fixed order, without those of the run folder itself, each with the folder
    that was given."""
    files: dict[Path, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; give folders of images.")
        for root, inner, names in os.walk(folder):
            inner.sort()
            inner[:] = [name for name in inner if (Path(root) / name).resolve() != out.resolve()]
            for name in sorted(names):
                if name.lower().endswith(ENDINGS):
                    files[Path(root) / name] = folder
            if len(files) > IMPORT_FILES:
                raise InputError(f"{folder}: has more than {IMPORT_FILES:,} images; give fewer folders.")
    if not files:
        raise InputError(f"{folders[0]}: has no image ({', '.join(ENDINGS)}); give folders of images.")
    return files


def _read(files: Mapping[Path, Path], left_out: dict[str, list[str]], quiet: bool) -> Iterator[ImportedImage]:
    listings: dict[Path, Mapping[str, Mapping[str, object]]] = {}
    with progress_bar(len(files), quiet, "reading") as advance:
        for path, folder in files.items():
            advance(1)
            row = _row(path, folder, listings)
            try:
                if path.name.startswith("grid-"):
                    raise Unusable("is a grid of images")
                made = read_generation(path) if row is None else listed_generation(row)
                yield ImportedImage(path, read_rgb(path).shape[1::-1], made)
            except Unusable as error:
                left_out[str(error)].append(path.name)


def _row(
    path: Path, folder: Path, listings: dict[Path, Mapping[str, Mapping[str, object]]]
) -> Mapping[str, object] | None:
    """The row of an image in the listing of its own folder, or of the nearest one above up to the folder given."""
    for above in path.parents:
        if above not in listings:
            listings[above] = read_listing(above)
        row = listings[above].get(path.relative_to(above).as_posix())
        if row is not None or above == folder:
            return row
    return None


def _one_size(images: list[ImportedImage], left_out: dict[str, list[str]]) -> list[ImportedImage]:
    """The images of the most common size: metrics compare images of one size."""
    if not images:
        return images
    (width, height), _ = Counter(image.size for image in images).most_common(1)[0]
    for image in images:
        if image.size != (width, height):
            left_out[f"is not {width} x {height}, as most are; import other sizes into a run of their own"].append(
                image.path.name
            )
    return [image for image in images if image.size == (width, height)]


# -- configurations and pairs


def _settings_of(images: Sequence[ImportedImage]) -> list[str]:
    """The name of each image's configuration, made of the values that differ: `scale=7, sampler=Euler`."""
    values = [_values(image.generation) for image in images]
    for row, hashes in zip(values, _hashes(images), strict=True):
        row |= hashes
    fields = list(dict.fromkeys(name for row in values for name in row))
    varying = [name for name in fields if len({row.get(name) for row in values}) > 1]
    by_prompt: dict[str, set[str]] = defaultdict(set)
    for image in images:
        by_prompt[image.generation.prompt].add(image.generation.negative)
    if all(len(negatives) == 1 for negatives in by_prompt.values()):
        varying = [name for name in varying if name != "negative prompt"]  # each prompt has its own: part of the pair
    rows = [tuple(row.get(name, "unknown") for name in varying) for row in values]
    return _distinct(
        rows, [", ".join(f"{name}={label(value)}" for name, value in zip(varying, row, strict=True)) for row in rows]
    )


def _values(made: Generation) -> dict[str, str]:
    """What makes the configuration of an image, by name."""
    return {
        "scale": str(made.guidance),
        "steps": str(made.steps),
        "sampler": made.sampler,
        "model": made.model,
        "negative prompt": made.negative,
        **made.settings,
    }


def _hashes(images: Sequence[ImportedImage]) -> list[dict[str, str]]:
    """The hashes and paths of each image that its model, prompts and settings do not determine.

    Those of the model belong to its name, the hashes of LoRAs and embeddings also to the prompts and settings that name
    them. So they are the same wherever the names are, unless one name stands for several files.
    """
    rows: list[dict[str, str]] = [{} for _ in images]
    for name in dict.fromkeys(name for image in images for name in image.generation.hashes):
        known: dict[Hashable, set[str]] = defaultdict(set)
        keys = []
        for image, row in zip(images, rows, strict=True):
            made = image.generation
            key: tuple[Hashable, ...] = (made.model,)
            if not name.lower().startswith("model "):
                key += (made.prompt, made.negative, *made.settings.items(), *row.items())
            keys.append(key)
            if name in made.hashes:
                known[key].add(made.hashes[name])
        for image, row, key in zip(images, rows, keys, strict=True):
            if len(known[key]) > 1 and name in image.generation.hashes:
                row[name] = image.generation.hashes[name]
    return rows


def _distinct(keys: Sequence[Hashable], names: Sequence[str]) -> list[str]:
    """The names, cut to a length that a table shows, with a number where two configurations would have the same."""
    chosen: dict[Hashable, str] = {}
    for key, name in zip(keys, names, strict=True):
        if key not in chosen:
            short = name[:200] or "imported"
            same = sum(re.sub(r" #\d+$", "", used) == short for used in chosen.values())
            chosen[key] = f"{short} #{same + 1}" if same else short
    return [chosen[key] for key in keys]


def _pair(image: ImportedImage) -> tuple[str, int]:
    return image.generation.prompt, image.generation.seed


def _once(
    images: list[ImportedImage], names: list[str], left_out: dict[str, list[str]]
) -> tuple[list[ImportedImage], list[str]]:
    """One image for each configuration, prompt and seed."""
    first: dict[tuple[str, tuple[str, int]], ImportedImage] = {}
    kept = []
    for image, name in zip(images, names, strict=True):
        before = first.setdefault((name, _pair(image)), image)
        kept.append(before is image)
        if before is not image:
            same = np.array_equal(read_rgb(before.path), read_rgb(image.path))
            left_out[
                "is there twice, pixel for pixel"
                if same
                else "has the metadata of another image and other pixels: what differs is not recorded"
            ].append(image.path.name)
    return _filtered(images, names, kept)


def _paired(
    images: list[ImportedImage], names: list[str], left_out: dict[str, list[str]]
) -> tuple[list[ImportedImage], list[str]]:
    """The images whose prompt and seed are in two configurations or more."""
    count = Counter(map(_pair, images))
    kept = [count[_pair(image)] > 1 for image in images]
    if not any(kept):
        raise InputError(
            f"{counted(len(images), 'image')} in {counted(len(set(names)), 'configuration')}: no prompt and seed is "
            f"in two of them, so nothing can be compared{_reasons(left_out)}; generate the same prompts and seeds with "
            "each, or keep all with --unpaired."
        )
    left_out["has a prompt and seed that no other configuration has (--unpaired keeps it)"] += [
        image.path.name for image, keep in zip(images, kept, strict=True) if not keep
    ]
    images, _ = _filtered(images, names, kept)
    return images, _settings_of(images)  # fewer values differ between fewer images


def _filtered(
    images: Sequence[ImportedImage], names: Sequence[str], kept: Sequence[bool]
) -> tuple[list[ImportedImage], list[str]]:
    return (
        [image for image, keep in zip(images, kept, strict=True) if keep],
        [name for name, keep in zip(names, kept, strict=True) if keep],
    )


# -- the experiment


def _experiment(
    images: Sequence[ImportedImage],
    names: Sequence[str],
    folders: Sequence[Path | str],
    baseline: str | None,
    left_out: Mapping[str, Sequence[str]],
) -> Experiment:
    made = [image.generation for image in images]
    guidances = {name: each.guidance for name, each in zip(names, made, strict=True)}
    counts = Counter(names)
    ordered = sorted(guidances, key=_natural)
    if baseline is not None and baseline not in guidances:
        hint = nearest(baseline, ordered) or f" there are {'; '.join(ordered[:6])}."
        raise InputError(f"baseline {baseline!r:.80}: is no configuration;{hint}")
    first = baseline or max(ordered, key=lambda name: counts[name])
    settings = [
        Setting(name=name, group="baseline" if name == first else "imported", title=name, guidance=guidances[name])
        for name in [first, *(name for name in ordered if name != first)]
    ]
    prompts = tuple(sorted({each.prompt for each in made}))
    seeds = tuple(sorted({each.seed for each in made}))
    cells = len(settings) * len(prompts) * len(seeds)
    if cells > IMPORT_CELLS:
        raise InputError(
            f"{len(settings)} configurations x {len(prompts)} prompts x {len(seeds)} seeds: a run has at most "
            f"{IMPORT_CELLS:,} of them, missing images included; import fewer folders at once."
        )
    negatives = {each.negative for each in made}
    width, height = images[0].size
    return Experiment(
        name="imported",
        title=f"Images of {_listed({each.program for each in made})}",
        question=_question(made, folders),
        model=IMPORTED + _listed({each.model for each in made}),
        prompts=prompts,
        negative=negatives.pop() if len(negatives) == 1 else "",
        seeds=seeds,
        noise="crossed",
        steps=max(each.steps for each in made),
        sampler=_listed({each.sampler for each in made}),
        width=width,
        height=height,
        baseline=settings[0],
        settings=tuple(settings),
        left_out=tuple(
            ExcludedSettings(name=_file_names(files), reason=f"{reason}.")
            for reason, files in left_out.items()
            if files
        ),
    )


def _question(made: Sequence[Generation], folders: Sequence[Path | str]) -> str:
    """What the run is and what is not known of it, in sentences for the report."""
    origin = _listed({label(Path(folder).name) for folder in folders})
    sentences = [f"Imported from {origin}; cfglab did not generate these images."]
    unknown = [name for name in ("sampler", "model") if any(getattr(each, name) == "unknown" for each in made)]
    if unknown:
        sentences.append(f"Not recorded in every image: {' and '.join(unknown)}.")
    if len({each.steps for each in made}) > 1:
        sentences.append("The number of steps differs between configurations; curves are over the largest.")
    if len({each.negative for each in made}) > 1:
        sentences.append("Negative prompts differ.")
    sentences.append(
        "NFE, traces, precision and the versions of the other program are not known. A configuration is what the "
        "metadata says; a difference that it does not record (a VAE, an extension) is not seen."
    )
    return " ".join(sentences)


def _listed(names: Iterable[str], most: int = 3) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def _file_names(files: Sequence[str]) -> str:
    count = counted(len(files), "image")
    more = ", …" if len(files) > _NAMES else ""
    return f"{count} ({', '.join(map(label, files[:_NAMES]))}{more})"


def _reasons(left_out: Mapping[str, Sequence[str]]) -> str:
    """The two most frequent reasons, for a message."""
    ordered = sorted(left_out.items(), key=lambda pair: -len(pair[1]))[:2]
    return "".join(f"; {_file_names(files)}: {reason}" for reason, files in ordered)


def _natural(name: str) -> list[tuple[int, float, str]]:
    """Sort key: numbers in a name by their value."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if place % 2 else (1, 0.0, part) for place, part in enumerate(parts)]
