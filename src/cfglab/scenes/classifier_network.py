"""The networks of the two classifiers; torch alone, so that a training machine needs nothing else."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfglab.scenes.renderer import CELLS, SHOWN
from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURS, OBJECTS, SIZE, SceneLabels

ARRANGED = ("riding", "beside", "above", "apart")
PARTS: dict[str, tuple[str, ...]] = {
    "whole": ("whole",),
    "a": OBJECTS,
    "b": OBJECTS,
    "arranged": ARRANGED,
    "count": ("1", "2", "3"),
    "colour_a": COLOURS,
    "colour_b": COLOURS,
    "background": tuple(BACKGROUNDS),
}
FEATURES = 128
DAMAGED_CELLS = 3  # so many cells have a say in whether every object is whole


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    padding = (kernel - stride) // 2 if kernel % 2 == 0 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Grid(nn.Module):
    """Classifier 1: strided convolutions down to a 4×4 map, whose cells are all seen by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_conv(3, 32, 6, 2), _conv(32, 48, 4, 2), _conv(48, 96, 4, 2), _conv(96, 96)),
            *(_conv(96, 128, 4, 2), _conv(128, 128), _conv(128, 160, 4, 2)),
        )
        self.features = nn.Linear(160 * 16, FEATURES)

    def inner(self, pixels: Tensor) -> Tensor:
        """The map before the last convolution, `(n, 128, 8, 8)`."""
        return self.body[:-1](pixels)

    def pooled(self, inner: Tensor) -> Tensor:
        return self.features(self.body[-1](inner).flatten(1))


class Attentive(nn.Module):
    """Classifier 2: patches with their coordinates, residual blocks, and twelve learned questions that pool the map."""

    def __init__(self, width: int = 96, questions: int = 12) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, SIZE)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.place: Tensor
        self.register_buffer("place", grid, persistent=False)
        self.stem = nn.Sequential(_conv(5, 48, 4, 4), _conv(48, 64), _conv(64, width, 4, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
            for _ in range(2)
        )
        self.questions = nn.Conv2d(width, questions, 1)
        self.values = nn.Conv2d(width + 2, width, 1)
        self.features = nn.Linear(width * questions, FEATURES)

    def inner(self, pixels: Tensor) -> Tensor:
        """The map that is pooled, `(n, width, 16, 16)`."""
        x = self.stem(torch.cat([pixels, self.place.expand(len(pixels), -1, -1, -1)], 1))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return x

    def pooled(self, inner: Tensor) -> Tensor:
        attention = self.questions(inner).flatten(2).softmax(-1)
        coarse = functional.avg_pool2d(self.place, SIZE // inner.shape[-1]).expand(len(inner), -1, -1, -1)
        values = self.values(torch.cat([inner, coarse], 1)).flatten(2)
        return self.features((attention @ values.transpose(1, 2)).flatten(1))


class Network(nn.Module):
    """A body that gives 128 features, and one linear head for each part; class 0 of a head is "none of these".

    A further head names what each of 8×8 cells shows: a background, a sprite, or last, part of a damaged object. The
    cells that are most probably damaged have a say in `whole`.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.body = Grid() if number == 1 else Attentive()
        self.heads = nn.ModuleDict({part: nn.Linear(FEATURES, 1 + len(names)) for part, names in PARTS.items()})
        inner = 128 if number == 1 else 96
        self.cells = nn.Sequential(nn.Conv2d(inner, 128, 1), nn.ReLU(), nn.Conv2d(128, SHOWN + 1, 1))
        self.damage = nn.Linear(DAMAGED_CELLS, 2, bias=False)

    def read(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The features before the heads `(n, 128)`, the logits of every part, and those of what each cell shows
        `(n, SHOWN + 1, 8, 8)`."""
        inner = self.body.inner(pixels)
        features = functional.relu(self.body.pooled(inner))
        logits = {part: head(features) for part, head in self.heads.items()}
        cells = self.cells(functional.adaptive_avg_pool2d(inner, CELLS))
        odds = cells[:, -1] - cells[:, :-1].logsumexp(1)
        logits["whole"] = logits["whole"] + self.damage(odds.flatten(1).topk(DAMAGED_CELLS).values)
        return features, logits, cells

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.read(pixels)[1]


def labels_of(numbers: dict[str, int]) -> SceneLabels:
    """The labels of class numbers, 0 for none. An arrangement needs two objects, and a count one."""
    name = {part: names[numbers[part] - 1] if numbers[part] else None for part, names in PARTS.items()}
    pair = name["a"] is not None and name["b"] is not None
    return SceneLabels(
        whole=name["whole"] is not None,
        a=name["a"],
        colour_a=name["colour_a"],
        arranged=name["arranged"] if pair else None,
        b=name["b"],
        colour_b=name["colour_b"],
        count=None if name["count"] is None or name["b"] is not None else int(name["count"]),
        background=name["background"],
    )
