"""docs/advise.md: what is published about the guidance of every model family, written from the catalogue."""

from pathlib import Path

from cfglab.pipelines.advice.catalogue import GROUPS, families, sources
from cfglab.pipelines.advice.family import CONVENTIONS, Family
from cfglab.pipelines.advice.methods import methods_for, not_guided
from cfglab.pipelines.advice.starting_points import starting_points
from cfglab.pipelines.advice.wording import facts_of

PAGE = Path(__file__).parent / "advise.md"

INTRO = """\
# What to set

`cfglab advise MODEL` says what is published about the guidance of a model: what its scale means, its defaults, what is
recommended and by whom, which methods apply, three guidances to start from, and the noise levels of its sampler.
MODEL is a family of this page, a pipeline class of diffusers, or a hub id. It is offline: {count} families are in a
catalogue, and each fact has its source, a quote and the day on which it was read. What is not known is said.

    cfglab advise FluxPipeline
    cfglab advise stabilityai/stable-diffusion-xl-base-1.0 --steps 30 --sampler dpm++2m
    cfglab advise wan-2.2-a14b --json

```python
>>> import cfglab as cl
>>> advice = cl.advise("krea/Krea-2-Turbo", 8)
>>> advice.family.convention.value, advice.family.recommended_steps.value
('none', 8)
>>> [point.text for point in cl.advise("sdxl", 30).starting_points]
['7.5', 'constant(7.5).inside(progress=(0.0, 0.7))', '7.5 | rescale(strength=0.7)']

```

In a notebook an advice shows itself. The starting points are no measurements of cfglab on these models: the first is
the recommended scale, the others are what to compare it with.

A recommendation is **stated** by its source, is used **in an example**, or is the **default of the authors' program**.
Defaults are those of the pipeline's own signature; a test compares them with the installed diffusers, and every quote
of its source with its files. Methods apply or mean nothing by what their cards say they need (layers, a text, a further
prompt), by the layout of the pipeline, and by running each method once on tensors of the family's shape. What `pag`,
`seg`, `tpg`, `pladis`, `nag`, `vsf` and `skip_layers` refuse was tried on a tiny model of the pipeline's class.

## What the number means

| convention | the pipeline's number |
|---|---|
{conventions}

In cfglab `w` is always the first one: `u + w (c - u)`. Starting points are in w; for a scale that is an input of the
network they are that number.

## Another number of steps

A guidance that was found at one number of steps, with one sampler or at one shift of sigma is
[transferred](schedules.md#other-noise-levels) to another:

```python
>>> before, after = cl.levels("scenes", 25, sampler="ddim"), cl.levels("scenes", 8, sampler="ddim")
>>> moved = cl.Guidance("linear(max=8, min=2)").transferred(before, after)
>>> [round(w, 2) for w in moved.schedule.values(8)]
{transferred}

```
"""


def advise_page() -> str:
    """The page, as Markdown."""
    from cfglab import Guidance, levels

    before, after = (levels("scenes", count, sampler="ddim") for count in (25, 8))
    moved = Guidance("linear(max=8, min=2)").transferred(before, after)
    conventions = "\n".join(f"| {name} | {text} |" for name, text in CONVENTIONS.items())
    values = str([round(w, 2) for w in moved.schedule.values(8)])
    parts = [INTRO.format(count=len(families()), conventions=conventions, transferred=values)]
    for group, title in GROUPS.items():
        entries = [family for family in families().values() if family.group == group]
        parts.append(f"## {title}\n\n{_overview(entries)}\n")
        parts += [_section(family) for family in entries]
    parts.append(_sources())
    return "\n".join(parts)


def _overview(entries: list[Family]) -> str:
    rows = ["| family | pipeline | scale | recommended | steps |", "|---|---|---|---|---|"]
    for family in entries:
        scale, steps = (_number(fact.value) for fact in (family.recommended_scale, family.recommended_steps))
        link = f"[{family.name}](#{_anchor(family)})"
        rows.append(f"| {link} | {family.pipeline} | {family.convention.value} | {scale} | {steps} |")
    return "\n".join(rows)


def _section(family: Family) -> str:
    lines = [f"### {family.title} {{ #{_anchor(family)} }}", ""]
    classes = ", ".join(f"`{name}`" for name in (family.pipeline, *family.classes))
    lines += [f"`{family.name}` · {classes} · {', '.join(f'`{name}`' for name in family.models)}", ""]
    lines += ["| | | source |", "|---|---|---|"]
    lines += [f"| {name} | {_cell(value)} | {_cell(origin)} |" for name, value, origin in facts_of(family)]
    points = starting_points(family, methods_for(family))
    texts = ", ".join(f"`{point.text}`" for point in points)
    lines += ["", f"Start from {texts}." if points else f"cfglab does not guide it: {not_guided(family)}.", ""]
    return "\n".join(lines)


def _sources() -> str:
    rows = [f"| {name} | {source['title']} | {source['read']} |" for name, source in sources().items()]
    return "\n".join(["## Sources", "", "| source | which | read |", "|---|---|---|", *rows, ""])


def _anchor(family: Family) -> str:
    return family.name.replace(".", "-")


def _number(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, list) else f"{value:g}"


MARKS = {"|": "&#124;", "*": "&#42;", "_": "&#95;", "<": "&lt;", "[": "&#91;", "`": "&#96;"}


def _cell(text: str) -> str:
    """Text in a cell of a table, in which no mark is Markdown."""
    return "".join(MARKS.get(letter, letter) for letter in text)
