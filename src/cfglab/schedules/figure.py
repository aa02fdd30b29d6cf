"""The curves of schedules in a notebook: w over the steps and, where a schedule reads it, over sigma."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from cfglab import svg
from cfglab.notebook import Bundle, Html, bundle, card, html_of, text_of_error
from cfglab.step import Step, steps

STEPS = 50
"""Steps of a figure where none are asked for; a list of scales may have fewer."""
WIDTH = 374
"""The width of a figure in SVG units."""
LETTERS = 60
"""The longest text of a schedule in a legend."""


class Drawable(Protocol):
    """What a figure needs of a schedule."""

    def __call__(self, step: Step) -> float:
        """The scale at a step."""

    def is_on(self, step: Step) -> bool:
        """Whether guidance is on at a step."""

    def reads_sigma(self) -> bool:
        """Whether the schedule reads a value of the sampler."""


def reference_sigmas(count: int) -> list[float]:
    """The noise levels on which a schedule that reads sigma is shown, if none are given: 14.6 to 0.03, then 0.

    Args:
        count: The number of steps, 1 or more.

    Returns:
        count + 1 levels (noise over signal), falling.

    Reference:
        arXiv:2206.00364, equation 5 with rho = 7; the range is that of Stable Diffusion 1.x.
    """
    high, low = 14.6 ** (1 / 7), 0.03 ** (1 / 7)
    return [*((high + index / max(1, count - 1) * (low - high)) ** 7 for index in range(count)), 0.0]


def bundle_of(
    text: str,
    schedules: Sequence[Drawable],
    count: int | None,
    sigmas: Sequence[float] | None,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> Bundle:
    """The MIME bundle of schedules in common axes.

    Args:
        text: The text/plain of the bundle.
        schedules: The schedules.
        count: The number of steps; None for 50, or the length of the shortest list of scales.
        sigmas: The noise levels (noise over signal), as many as steps or one more; None for `reference_sigmas`.
        include: The MIME types to include; None for all.
        exclude: The MIME types to leave out.

    Returns:
        text/plain and text/html.
    """
    count = count or steps_shown(schedules)

    def page() -> Html:
        about = [f"{count} steps", *_range(schedules, count, sigmas)]
        single = Html(f"<code>{html_of(' '.join(str(schedules[0]).split()))}</code>")
        title = single if len(schedules) == 1 else f"{len(schedules)} schedules"
        return card(title, figures(schedules, count, sigmas), about=about)

    return bundle(text, page, include, exclude)


def figures(schedules: Sequence[Drawable], count: int | None = None, sigmas: Sequence[float] | None = None) -> Html:
    """The curves over the steps and, if a schedule reads sigma or sigmas are given, over sigma; with reasons for what
    cannot be drawn.

    Args:
        schedules: The schedules.
        count: The number of steps, as in `bundle_of`.
        sigmas: The noise levels, as in `bundle_of`.

    Returns:
        The figures as HTML, for a card.
    """
    count = count or steps_shown(schedules)
    lines, reasons = _lines(schedules, count, sigmas)
    plots = [_plot(lines, count)] if lines else []
    if lines and (sigmas is not None or any(schedule.reads_sigma() for schedule in schedules)):
        levels = list(sigmas or reference_sigmas(count))[:count]
        plots.append(_over_sigma(lines, levels))
    notes = "".join(f'<p class="soft">{html_of(reason)}</p>' for reason in reasons)
    return Html(f'<div class="side">{"".join(plots)}</div>{notes}')


def curve(schedule: Drawable, count: int, sigmas: Sequence[float] | None = None) -> list[float | None]:
    """The scale at each step, None where guidance is off.

    Args:
        schedule: The schedule.
        count: The number of steps.
        sigmas: The noise levels; None for `reference_sigmas`.

    Returns:
        `count` values.

    Raises:
        InputError: The schedule cannot be evaluated at these steps.
    """
    levels = sigmas or reference_sigmas(count)
    return [schedule(step) if schedule.is_on(step) else None for step in steps(count, levels)]


def steps_shown(schedules: Sequence[Drawable]) -> int:
    """50, or the length of the shortest list of scales inside the schedules; a list alone is shown whole.

    Args:
        schedules: The schedules.

    Returns:
        The number of steps.
    """
    lengths = [length for schedule in schedules for length in _lengths(schedule)]
    alone = len(schedules) == 1 and hasattr(schedules[0], "entries")
    return lengths[0] if alone else min([STEPS, *lengths])


def _lengths(schedule: object) -> Iterator[int]:
    for name, part in getattr(schedule, "__dict__", {}).items():
        if name == "entries":
            yield len(part)
        elif hasattr(part, "reads_sigma"):
            yield from _lengths(part)


def _lines(
    schedules: Sequence[Drawable], count: int, sigmas: Sequence[float] | None
) -> tuple[list[svg.Line], list[str]]:
    lines, reasons = [], []
    for index, schedule in enumerate(schedules):
        colour = f"var(--c{index % svg.COLOURS})"
        try:
            values = curve(schedule, count, sigmas)
        except Exception as error:  # a function of the user's own, or a value that only a run has
            reasons.append(text_of_error(error))
            continue
        if None in values:
            off = [1.0 if value is None else None for value in values]
            lines.append(svg.Line(off, colour=colour, width=1.2, dashes="1 3"))
        lines.append(svg.Line(values, colour=colour, width=2, label=_short(schedule)))
    return lines, reasons


def _plot(lines: Sequence[svg.Line], count: int) -> str:
    labelled = sum(bool(line.label) for line in lines)
    numbers = [value for line in lines for value in line.y if value is not None]
    return svg.plot(
        "Scale w over the steps",
        description=f"{labelled} {'schedule' if labelled == 1 else 'schedules'} over {count} steps, "
        f"w from {min(numbers):.3g} to {max(numbers):.3g}.",
        lines=lines,
        x=svg.Axis("step", whole=True, margin=0.015),
        y=svg.Axis("scale w"),
        labels="legend" if labelled > 1 else "none",
        width=WIDTH,
        height=0.52 * WIDTH,
    )


def _over_sigma(lines: Sequence[svg.Line], levels: Sequence[float]) -> str:
    inside = [index for index, level in enumerate(levels) if 0 < level < float("inf")]
    moved = [
        svg.Line(
            [line.y[index] for index in inside],
            [levels[index] for index in inside],
            "",
            line.colour,
            line.width,
            line.dashes,
        )
        for line in lines
    ]
    return svg.plot(
        "Scale w over sigma",
        description=f"The same curves over sigma, from {levels[0]:.3g} to {levels[-1]:.3g}.",
        lines=moved,
        x=svg.Axis("sigma (a run goes from right to left)", logarithmic=True, margin=0.015),
        y=svg.Axis("scale w"),
        width=WIDTH,
        height=0.52 * WIDTH,
    )


def _range(schedules: Sequence[Drawable], count: int, sigmas: Sequence[float] | None) -> list[str]:
    """The smallest and largest w and the mean, for a schedule alone."""
    lines, _ = _lines(schedules, count, sigmas)
    if len(schedules) > 1 or not lines:
        return []
    values = [1.0 if value is None else value for value in lines[-1].y]
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return [f"w {low}" if low == high else f"w {low} to {high}, mean {sum(values) / len(values):.3g}"]


def _short(schedule: object) -> str:
    text = " ".join(str(schedule).split())
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
