"""What there is, shelf by shelf, as (name, one line about it). Loads no torch."""

import inspect
from collections.abc import Callable

from cfglab.experiments import Experiment
from cfglab.experiments.spec.experiment import preset_names
from cfglab.guidance import TRANSFORMS
from cfglab.metrics import METRICS
from cfglab.mixtures.toys import TOYS
from cfglab.pipelines import SAMPLERS
from cfglab.pipelines.loading.samplers import OWN
from cfglab.scenes import installed
from cfglab.schedules import PUBLISHED, SHAPES

Rows = list[tuple[str, str]]


def schedules() -> Rows:
    """The shapes and the published schedules by their name in text, then the words that combine them."""
    from cfglab.schedules import Schedule
    from cfglab.schedules.registry import WORDS

    words = [(f".{word}(…)", _first(getattr(Schedule, word))) for word in WORDS]
    return [(f"{name}(…)", _first(shape)) for name, shape in {**SHAPES, **PUBLISHED}.items()] + words


def transforms() -> Rows:
    """Every transform by its name in text."""
    return [(f"{kind}(…)", _first(transform)) for kind, transform in sorted(TRANSFORMS.items())]


_MODELS = {
    "scenes": "The bundled text-to-image model: 128 x 128 scenes of emoji-style objects, on any machine. A U-Net.",
    "scenes-flow": "A second model of the same scenes: flow matching, a transformer with joint attention, as in SD3.",
}


def models() -> Rows:
    """What `--model` takes."""
    return [
        *((name, _MODELS[name]) for name in installed()),
        ("FOLDER", "A text-to-image pipeline of diffusers that was saved to disk: docs/runs.md, Models."),
        ("mixture:NAME", f"Exact samples instead of images, prompts: 'class 0'. NAME is one of {', '.join(TOYS)}."),
        ("OWNER/NAME", "A hub id, such as prompthero/openjourney; naming it is consent to download it."),
    ]


def presets() -> Rows:
    """Every preset by name, with its title."""
    return [(name, Experiment.preset(name).title) for name in preset_names()]


def samplers() -> Rows:
    """Every sampler by name, with the scheduler of diffusers that it is."""
    return [(OWN, "the scheduler that the model comes with"), *SAMPLERS.items()]


def metrics() -> Rows:
    """Every metric by name, its direction and what it says."""
    return [
        (name, f"{metric.says}{_direction(metric.better)}{f' [cfglab score: {metric.model}]' if metric.model else ''}")
        for name, metric in METRICS.items()
    ]


SHELVES: dict[str, Callable[[], Rows]] = {
    shelf.__name__: shelf for shelf in (schedules, transforms, models, presets, samplers, metrics)
}


def table(rows: Rows, indent: int = 0) -> str:
    """Return rows as aligned text, one per line.

    Args:
        rows: (name, description).
        indent: the number of spaces before each line.
    """
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{' ' * indent}{name:<{width}}  {about}".rstrip() for name, about in rows)


def _direction(better: str | None) -> str:
    return f" {better.capitalize()} is better." if better else ""


def _first(thing: object) -> str:
    """The first sentence of a docstring, without code marks."""
    words = " ".join((inspect.getdoc(thing) or "").split()).replace("`", "")
    return words.partition(". ")[0].rstrip(".") + "."
