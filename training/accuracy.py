"""How good are the classifiers of the package? Both on images never learned from, written into docs/classifier.md.

python -m training.accuracy              # some minutes; writes the tables between the two marks of the page
python -m training.accuracy --count 40   # a look at fewer images

Whole scenes, as they are drawn and as the autoencoder of the package gives them back, count as read right in all parts;
scenes with one kind of damage as called damaged.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from cfglab.scenes import folder, renderer
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.classifier_network import labels_of
from cfglab.scenes.vocabulary import COLOURED, Scene, SceneLabels
from training import spoil
from training.autoencoder import to_bytes, to_pixels
from training.source import SceneSource
from training.spoil import DAMAGES, SYMMETRIC, Damage, Labeller

PAGE = Path(__file__).parents[1] / "docs/classifier.md"
START, END = "<!-- table -->", "<!-- end of table -->"
CLASSIFIERS: tuple[Literal[1, 2], ...] = (1, 2)
PARTS = tuple(field.name for field in fields(SceneLabels))
SEED = 9_100_000  # far from those that anything learned from
Labelled = tuple[Tensor, list[SceneLabels]]
"""Images, uint8 `(n, 3, 128, 128)`, and what each shows."""


def _objects(scene: Scene) -> set[str]:
    return {name for name in (scene.a, scene.b) if name is not None}


def _any_scene(_: Scene) -> bool:
    return True


def _can_be_halved(scene: Scene) -> bool:
    """Whether two halves of one side of its objects look wrong; those of a book hardly differ from the book."""
    return not _objects(scene) & {*SYMMETRIC, "book"}


def _comes_in_colours(scene: Scene) -> bool:
    return _objects(scene) <= set(COLOURED)


@dataclass(frozen=True)
class Kind:
    """One kind of image that `Labeller` makes.

    Attributes:
        title: Its name in the table.
        name: Its name in `Labeller.KINDS`.
        damages: Of "damaged": the damages that are done.
        fits: Whether it can be made of a scene.
    """

    title: str
    name: str
    damages: tuple[Damage, ...] = DAMAGES
    fits: Callable[[Scene], bool] = _any_scene


TITLES = (
    "a part missing",
    "doubled",
    "two halves that mirror each other",
    "melted or blurred",
    "half of another object, or two objects blended",
)  # in the order of DAMAGES
EMPTY = Kind("a background alone", "empty")
DAMAGED = (
    *(
        Kind(
            title,
            "damaged",
            (damage,),
            _can_be_halved if damage is spoil._two_headed else _any_scene,
        )
        for title, damage in zip(TITLES, DAMAGES, strict=True)
    ),
    Kind("one object in two colours", "swapped", fits=_comes_in_colours),
    Kind("an object too many", "third"),
)


class OneKind(Labeller):
    """A seeded stream of images of one kind."""

    def __init__(self, seed: int, kind: Kind) -> None:
        super().__init__(seed, tuple(float(name == kind.name) for name in self.KINDS), kind.damages)
        self.kind = kind

    def scene(self) -> Scene:
        while True:
            scene = super().scene()
            if self.kind.fits(scene):
                return scene


def of_kind(kind: Kind, count: int, seed: int = SEED) -> Labelled:
    """Images of one kind; of a damaged one the labels say no more than that it is not whole.

    Args:
        kind: The kind.
        count: How many.
        seed: The seed of the stream.
    """
    pictures, answers = OneKind(seed, kind).pictures(count, torch.device("cpu"))
    rows = [{part: max(0, int(column[i])) for part, column in answers.items()} for i in range(count)]
    return pictures, [labels_of(row) for row in rows]


def of_scenes(held_out: bool, count: int, seed: int = SEED) -> Labelled:
    """Whole scenes, as they are drawn.

    Args:
        held_out: Compositions that no model was trained on, or those that one was.
        count: How many.
        seed: The seed of the stream.
    """
    source = SceneSource(seed, held_out)
    scenes = [source.scene() for _ in range(count)]
    layouts = [renderer.arrange(scene, source.random) for scene in scenes]
    answers = [spoil.answer(layout, scene) for layout, scene in zip(layouts, scenes, strict=True)]
    return renderer.draw(layouts), [labels_of(answer) for answer in answers]


@torch.no_grad()
def rebuilt(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Images after the autoencoder, uint8 as they are saved."""
    chunks = to_pixels(pictures).split(16)
    return torch.cat([to_bytes(vae.decode(vae.encode(chunk).latent_dist.mean).sample) for chunk in chunks])


def shares(found: Sequence[SceneLabels], wanted: Sequence[SceneLabels]) -> dict[str, float]:
    """The share of images that are right in every part (`exact`), and in each.

    Args:
        found: What a classifier finds.
        wanted: What is there.
    """
    pairs = list(zip(found, wanted, strict=True))
    parts = {part: [getattr(a, part) == getattr(b, part) for a, b in pairs] for part in PARTS}
    return {"exact": sum(a == b for a, b in pairs) / len(pairs)} | {p: sum(v) / len(v) for p, v in parts.items()}


def tables(count: int) -> str:
    """Both tables, Markdown.

    Args:
        count: Images of each kind.
    """
    classifiers = [SceneClassifier.load(which) for which in CLASSIFIERS]
    vae = AutoencoderKL.from_pretrained(folder() / "vae").eval()
    whole = {
        "seen compositions": of_scenes(False, count),
        "held-out compositions": of_scenes(True, count),
    }
    whole |= {f"{title}, after the autoencoder": (rebuilt(vae, p), labels) for title, (p, labels) in whole.items()}
    whole[EMPTY.title] = of_kind(EMPTY, count)
    lines = [
        f"| images | n | classifier | **exact** | {' | '.join(PARTS)} |",
        f"|---|---|---|---|{'---|' * len(PARTS)}",
    ]
    for title, (pictures, labels) in whole.items():
        for which, classifier in zip(CLASSIFIERS, classifiers, strict=True):
            found = shares(classifier.classify(to_pixels(pictures)), labels)
            numbers = " | ".join(f"{100 * found[part]:.1f}" for part in PARTS)
            lines.append(f"| {title} | {count} | {which} | **{100 * found['exact']:.1f}** | {numbers} |")
    lines += [
        "",
        "| damage | n | called damaged by classifier 1 | by classifier 2 | after the autoencoder: 1 | 2 |",
        "|---|---|---|---|---|---|",
    ]
    for kind in DAMAGED:
        pictures, _ = of_kind(kind, count)
        called = [
            sum(not labels.whole for labels in classifier.classify(to_pixels(shown))) / count
            for shown in (pictures, rebuilt(vae, pictures))
            for classifier in classifiers
        ]
        lines.append(f"| {kind.title} | {count} | {' | '.join(f'{100 * share:.1f}' for share in called)} |")
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put a text between the two marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    page.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="images of each kind")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the tables go")
    given = parser.parse_args()
    text = tables(given.count)
    write(given.page, text)
    print(text)


if __name__ == "__main__":
    main()
