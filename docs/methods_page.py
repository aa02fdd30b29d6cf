"""docs/methods.md: every published method, written from its card and its class, with its picture where there is one."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cfglab.card import Card
from cfglab.guidance import TRANSFORMS, Transform
from cfglab.guidance.left_out import LEFT_OUT
from cfglab.schedules import PUBLISHED, SHAPES
from cfglab.schedules.cards import CARDS
from cfglab.schedules.text import number

PAGE = Path(__file__).parent / "methods.md"
PICTURES = "pictures/methods"

GROUPS: dict[str, tuple[str, ...]] = {
    "Schedules": tuple(CARDS),
    "Scales that read the predictions": ("magnitude_aware", "update_power", "feedback", "adaptive", "reuse"),
    "Lengths and limits": (
        "prediction_norm",
        "update_norm",
        "full_norm",
        "cfg_norm",
        "rescale",
        "imagen_threshold",
        "mimic_threshold",
        "skimmed",
        "mahiro",
    ),
    "Directions and frequencies": (
        "apg",
        "cfg_zero_star",
        "tcfg",
        "fdg",
        "fresca",
        "momentum",
        "epsilon_scaling",
    ),
    "Several conditions": ("perp_neg", "composed", "dual_cfg", "nag"),
    "Weaker models": ("autoguidance", "pag", "seg", "sag", "skip_layers", "s2", "tsg"),
    "Noisy conditions": ("icg", "cads"),
}

INTRO = """\
# Methods

Every published method of guidance that cfglab has: what it does, its formula, the space its tensors are in, how many
denoiser rows a guided step costs, where its defaults come from, and how other programs differ from it. `u` and `c` are
the unconditional and the conditional prediction, `w` the scale of `u + w (c - u)` (w = 1 is no guidance), `g` the
guided prediction, `D` a prediction of the clean picture, `i / N` the elapsed fraction of the run. Plain guidance costs
2 rows.

Schedules say what w is; any number of transforms follows, each after a bar: `limited_interval(w=5) | apg() | pag(s=2)`.
What its symbols mean is in its docstring: `help(cfglab.guidance.APG)`. Every transform has `strength` (0 is plain
guidance) and may be used in another `space` where that has a meaning. A method *asks for* what has no default: the
paper chooses it per model, or it could not be checked. What could not be had at all stands [at the end](#not-here).

This page is written by `make docs` from the code; the pictures by `python docs/methods_pictures.py`.
"""

SPACES = {"epsilon": "epsilon", "x0": "x0", "v": "v", "flow": "flow", "model": "any, it does not matter"}


def methods_page() -> str:
    """The page, as Markdown."""
    parts = [INTRO]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        parts.append(_overview(names))
        parts += [_section(name) for name in names]
    parts.append(_not_here())
    return "\n".join(parts)


def card_of(name: str) -> Card:
    """The card of a schedule or transform by its name in text."""
    card = CARDS[name] if name in CARDS else TRANSFORMS[name].card
    assert card is not None
    return card


def _overview(names: Iterable[str]) -> str:
    rows = [f"| [{card_of(name).title}](#{_anchor(card_of(name).title)}) | {card_of(name).says} |" for name in names]
    return "\n".join(["| method | what it does |", "|---|---|", *rows, ""])


def _section(name: str) -> str:
    card = card_of(name)
    facts = [
        f"`{_signature(name)}`",
        *([f"[arXiv:{card.paper}](https://arxiv.org/abs/{card.paper})"] if card.paper else []),
        f"{card.rows} rows",
        *([] if name in CARDS else [f"space: {_space(TRANSFORMS[name])}"]),
    ]
    lines = [f"### {card.title}\n", " · ".join(facts) + "\n", f"{card.says}\n", f"    {card.formula}\n"]
    if needed := _needed(name):
        lines.append(f"- Asks for: {', '.join(f'`{one}`' for one in needed)}")
    lines.append(f"- Defaults: {card.defaults}")
    if card.source:
        lines.append(f"- Source: {card.source}")
    lines += [f"- {host.name}: {host.differs or 'the same'}" for host in card.hosts]
    picture = f"{PICTURES}/{name}.png"
    if (PAGE.parent / picture).exists():
        lines.append(f"\n![{card.title} beside plain guidance]({picture})")
    return "\n".join([*lines, ""])


def _signature(name: str) -> str:
    """Its text with every default written out, … for what has to be said."""
    fields = ", ".join(
        f"{field}={'…' if default is ... else _said(default)}" for field, default in _fields(name).items()
    )
    return f"{name}({fields})" if name != "constant" else "7.5"


def _needed(name: str) -> list[str]:
    return [] if name == "constant" else [field for field, default in _fields(name).items() if default is ...]


def _fields(name: str) -> dict[str, Any]:
    """Field -> default, ... for one that has none."""
    if name in PUBLISHED:
        parameters = inspect.signature(PUBLISHED[name]).parameters.values()
        return {one.name: ... if one.default is one.empty else one.default for one in parameters}
    owner = SHAPES[name] if name in SHAPES else TRANSFORMS[name]
    hidden = {"kind", "space", "strength"} - ({"strength"} if _own_strength(owner) else set())
    fields = {field: info for field, info in owner.model_fields.items() if field not in hidden}
    return {field: ... if info.is_required() else info.default for field, info in fields.items()}


def _own_strength(owner: Any) -> bool:
    return "strength" in owner.model_fields and owner.model_fields["strength"].default != 1


def _space(transform: type[Transform]) -> str:
    return SPACES[str(transform.model_fields["space"].default)]


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_said, value))}{',' if len(value) == 1 else ''})"
    return value if isinstance(value, str) and value.isidentifier() else number(value)


def _anchor(title: str) -> str:
    """How GitHub names the anchor of a heading."""
    return "".join(one for one in title.lower().replace(" ", "-") if one.isalnum() or one in "-_")


def _not_here() -> str:
    lines = ["## Not here\n", "| method | paper | why |", "|---|---|---|"]
    for one in LEFT_OUT:
        paper = f"[arXiv:{one.paper}](https://arxiv.org/abs/{one.paper})" if one.paper else ""
        lines.append(f"| {one.title} | {paper} | {one.reason} |")
    return "\n".join([*lines, ""])
