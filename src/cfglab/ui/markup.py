"""The pieces of the page that are HTML: every text from outside is escaped here."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.analysis.bradley_terry import BradleyTerry, Strength
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import parse_guidance
from cfglab.svg import Axis, Line, plot
from cfglab.ui.catalogue import Method
from cfglab.ui.engine import Frame


def error(message: object) -> str:
    """One line about what is wrong."""
    return f'<p class="cl-error" role="alert">{escape(str(message))}</p>'


def note(message: str) -> str:
    """One quiet line."""
    return f'<p class="cl-note">{escape(message)}</p>'


def data_url(image: Any, *, preview: bool = False) -> str:
    """A PIL image as a data URL: PNG, or a small WebP while it is not complete."""
    buffer = io.BytesIO()
    if preview:
        image.save(buffer, "WEBP", quality=80, method=0)
    else:
        image.save(buffer, "PNG")
    return f"data:image/{'webp' if preview else 'png'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def checked(text: str, steps: int) -> str:
    """What is said below the text of a guidance: its error, or its canonical form, dose and cost."""
    try:
        guidance = parse_guidance(text)
        values = scales(guidance, steps)
    except InputError as fault:
        return error(fault)
    dose = "" if values is None else f" · dose {sum(values) / steps:.3g}"
    canonical = "" if str(guidance) == text.strip() else f"<code>{escape(str(guidance))}</code>"
    transforms = len(guidance.transforms)
    more = f" · {transforms} transform{'s' if transforms > 1 else ''}" if transforms else ""
    return f'<p class="cl-ok">✓ {canonical}{dose}{more}</p>'.replace("✓  · ", "✓ ")


def scales(guidance: Guidance, steps: int) -> list[float] | None:
    """w at every step; None where it depends on the noise levels of the run. Raises InputError for other faults."""
    try:
        return guidance.schedule.values(steps)
    except InputError as fault:
        if "sigma" in str(fault) or "timestep" in str(fault):
            return None
        raise


def curve(named: Sequence[tuple[str, Sequence[float | None]]], *, height: float = 200) -> str:
    """The curves of schedules over the steps."""
    if not named:
        return ""
    several = len(named) > 1
    lines = [
        Line(values, label=name if len(name) <= 56 else f"{name[:55]}…", width=1.8 if several else 2.4)
        for name, values in named
    ]
    return _figure(
        plot(
            "Guidance scale over the steps",
            lines=lines,
            x=Axis("step", whole=True),
            y=Axis("scale w"),
            labels="legend" if several else "none",
            height=height,
        )
    )


def schedule_curve(texts: Iterable[str], steps: int) -> str:
    """The curves of the guidances that can be read; a schedule that needs noise levels has none before a run."""
    curves = []
    for text in texts:
        try:
            guidance = parse_guidance(text)
            values = scales(guidance, steps)
        except InputError:
            continue
        if values is not None:
            curves.append((str(guidance), values))
    return curve(curves) if curves else note("The curve of this schedule needs the noise levels of a run: generate.")


def trace_lines(frame: Frame, image: int = 0) -> str:
    """w, the length of the update, the cosine and the denoiser rows of one image, over the calls so far."""
    records = list(frame.trace.steps)
    if not records:
        return ""
    columns: dict[str, list[float | None]] = {
        "scale w": [record.w[image] for record in records],
        "‖cond − uncond‖": [record.difference[image] for record in records],
        "cosine": [record.cosine[image] for record in records],
        "rows run": [float(record.rows_run) for record in records],
    }
    cells = []
    for name, values in columns.items():
        present = [value for value in values if value is not None]
        last = f"{present[-1]:.4g}" if present else "–"
        ends = [min(present), max(present)] if present else [0.0, 1.0]
        svg = spark(values, ends[0], ends[1])
        cells.append(f'<div class="cl-spark"><span>{escape(name)}</span><b>{last}</b>{svg}</div>')
    total, saved = frame.trace.rows_run, frame.trace.rows_saved
    line = f"{len(records)} calls · {total} denoiser rows run, {saved} saved"
    return f'<div class="cl-sparks">{"".join(cells)}</div>{note(line)}'


def spark(values: Sequence[float | None], low: float, high: float) -> str:
    """A line as large as a word."""
    from cfglab.svg import path

    span = (high - low) or 1.0
    width = max(1, len(values) - 1)
    points = [
        None if value is None else (2 + 96 * index / width, 26 - 24 * ((value - low) / span if high > low else 0.5))
        for index, value in enumerate(values)
    ]
    return f'<svg viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true"><path d="{path(points)}"/></svg>'


def image_view(frame: Frame | None, url: str, caption: str) -> str:
    """The large image with its progress."""
    if frame is None:
        return (
            '<figure class="cl-image"><div class="cl-empty"><p>Press <b>Generate</b>, or Enter in the prompt.</p></div>'
            "</figure>"
        )
    share = 100 * frame.step / frame.steps
    state = f"{frame.seconds:.1f} s" if frame.done else f"step {frame.step} of {frame.steps}"
    image = f'<img src="{url}" alt="{escape(caption, quote=True)}">' if url else '<div class="cl-empty"></div>'
    bar = "" if frame.done else f'<div class="cl-bar"><i style="width:{share:.0f}%"></i></div>'
    return (
        f'<figure class="cl-image" data-done="{str(frame.done).lower()}">{image}{bar}'
        f"<figcaption><span>{escape(caption)}</span><span>{state}</span></figcaption></figure>"
    )


def pair_view(left: str, right: str, names: tuple[str, str], *, blind: bool) -> str:
    """Two images in one place: beside each other, under a slider, or flickering. Without names while it is blind."""
    shown = ("left", "right") if blind else names
    sides = "".join(
        f'<figure><img class="{side}" src="{url}" alt="{escape(name, quote=True)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for side, url, name in zip(("left", "right"), (left, right), shown, strict=True)
    )
    modes = "".join(
        f'<button type="button" data-mode="{mode}" aria-pressed="{str(mode == "beside").lower()}">{label}</button>'
        for mode, label in (("beside", "Side by side"), ("slider", "Slider"), ("flicker", "Flicker"))
    )
    return (
        f'<div class="cl-pair" data-mode="beside"><div class="cl-modes" role="group" aria-label="View">{modes}</div>'
        f'<div class="cl-stage">{sides}</div>'
        '<input class="cl-cut" type="range" min="0" max="100" value="50" aria-label="Left share"></div>'
    )


def strip(urls: Sequence[str], names: Sequence[str]) -> str:
    """All images of a comparison, small, with the guidances."""
    tiles = "".join(
        f'<figure><img src="{url}" alt=""><figcaption>{escape(name)}</figcaption></figure>'
        for url, name in zip(urls, names, strict=True)
    )
    return f'<div class="cl-strip">{tiles}</div>'


def method_card(method: Method) -> str:
    """What a method does: its line, formula, paper and cost."""
    paper = ""
    if method.paper:
        paper = f" · arXiv:{escape(method.paper)}"
    formula = f"<pre>{escape(method.formula)}</pre>" if method.formula else ""
    return (
        f'<div class="cl-card"><h3>{escape(method.title)}</h3><p>{escape(method.says)}</p>{formula}'
        f'<p class="cl-note">{escape(method.role)} · {escape(method.rows)} denoiser rows a step{paper}</p></div>'
    )


def votes_table(table: BradleyTerry) -> str:
    """The strengths with their intervals."""
    if not table.votes:
        return note("No votes yet. Each vote is stored; the table appears here.")
    ends = [end for row in table.rows for end in (row.low, row.high) if end is not None]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    rows = "".join(_vote_row(row, low, high) for row in table.rows)
    head = "<th>guidance</th><th>wins</th><th>ties</th><th>losses</th><th>strength, 95 % interval</th><th>chosen</th>"
    reason = note(f"No strengths yet: {table.reason}. More votes settle it.") if table.reason else ""
    votes = "1 vote" if table.votes == 1 else f"{table.votes} votes"
    caption = f"{votes} · Bradley–Terry with ties; strength is log-odds against an average one"
    return (
        f'<div class="cl-votes"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{reason}"
    )


def _vote_row(row: Strength, low: float, high: float) -> str:
    cells = f"<td>{row.wins}</td><td>{row.ties}</td><td>{row.losses}</td>"
    name = f"<th scope=row><code>{escape(row.name)}</code></th>"
    if row.strength is None or row.low is None or row.high is None or row.share is None:
        return f"<tr>{name}{cells}<td>–</td><td>–</td></tr>"

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low)

    paths = (
        f'<path class="zero" d="M{at(0):.1f} 0V12"/><path d="M{at(row.low):.1f} 6H{at(row.high):.1f}"/>'
        f'<path class="dot" d="M{at(row.strength):.1f} 6h0"/>'
    )
    bar = f'<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
    numbers = f"{row.strength:+.2f} ({row.low:+.2f} to {row.high:+.2f})".replace("-", "−")
    return f"<tr>{name}{cells}<td>{bar}<span>{numbers}</span></td><td>{100 * row.share:.0f} %</td></tr>"


def _figure(svg: str) -> str:
    return f'<div class="cl-figure">{svg}</div>'
