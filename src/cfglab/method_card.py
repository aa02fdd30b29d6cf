"""Card: what a page about methods says of one, in a form that programs read. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

Need = Literal[
    "",
    "prompt",
    "text",
    "timestep",
    "layers",
    "self-attention",
    "cross-attention",
    "attention to the text",
    "longer text",
    "image",
    "frames",
    "image to edit",
    "sound of a video",
    "weak model",
]
"""What a method changes in a further pass of the network, or asks of the host, besides the two predictions."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """Another program that has the method, and how its version differs; "" where it does not."""

    name: str
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """The facts about a published method. Its defaults, space and kind are those of the class that carries it."""

    title: str
    says: str
    """One line: what it does."""
    formula: str
    paper: str | None = None
    """The arXiv id, None where there is no paper."""
    source: str = ""
    """Where in the paper, or which code: an equation, a section, a file."""
    rows: str = "2"
    """Denoiser rows per guided step; plain CFG has 2."""
    defaults: str = ""
    """Where the defaults come from."""
    hosts: tuple[Implementation, ...] = ()
    needs: Need = ""
    """"" for nothing but the two predictions. "prompt": the encoding of a further prompt; "text": the encoding of the
    prompt; "timestep": the embedding of the timestep; "layers": blocks to leave out; "self-attention" and
    "cross-attention": such layers, apart from each other or in known joint ones; "attention to the text": the second,
    and a further prompt; "longer text": its tokens behind those of the prompt, too; "image": a sample with height and
    width; "frames": those of a video; "image to edit": rows without it in the pipeline's own batch; "sound of a video":
    a network that predicts both; "weak model": a weaker network."""
