"""The tab Compare: two to six guidances on one starting noise, in one batch, and a vote on two of them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from cfglab.errors import CfglabError, InputError
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import parse_guidance
from cfglab.ui import markup, votes
from cfglab.ui.engine import ImageRequest
from cfglab.ui.shared import MODEL, QUIET, RequestBar, Services, asset, numbers

MOST = 6
"""The most guidances beside each other."""
START = "1\n7.5\ncosine(max=7.5, min=1)\n7.5 | rescale()"


@dataclass(frozen=True, slots=True)
class Round:
    """The images of one seed and the two that are voted on; it lives in the state of one page."""

    guidances: tuple[str, ...]
    urls: tuple[str, ...]
    left: int
    right: int
    prompt: str
    seed: int
    steps: int
    sampler: str
    voted: bool = False


def read_guidances(text: str) -> list[Guidance]:
    """Two to six guidances, one a line.

    Raises:
        InputError: a line cannot be read, two are the same, or there are too few or too many.
    """
    guidances: list[Guidance] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                guidances.append(parse_guidance(line))
            except InputError as fault:
                raise InputError(f"line {number}: {fault}") from None
    if not 2 <= len(guidances) <= MOST:
        raise InputError(f"{len(guidances)} guidances: a comparison has two to {MOST}, one a line.")
    if twice := next((item for item in guidances if guidances.count(item) > 1), None):
        raise InputError(f"{twice} stands there twice: a comparison is between different ones; change a line.")
    return guidances


def build(services: Services, bar: RequestBar, guidance: Any) -> None:
    """The tab."""

    def standing() -> str:
        try:
            return markup.votes_table(votes.table(services.votes))
        except CfglabError as fault:
            return markup.error(fault)

    state = gr.State(None)
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            texts = gr.Textbox(
                START,
                label="Guidances, one a line",
                info="Two to six, on the same starting noise, in one batch.",
                lines=5,
                max_lines=8,
                elem_id="guidances",
                elem_classes=["cl-complete", "cl-code"],
            )
            checked = gr.HTML(elem_id="compared")
            with gr.Row():
                start = gr.Button("Compare", variant="primary", elem_id="compare")
                following = gr.Button("Next seed", elem_id="next-seed")
            add = gr.Button("Add the guidance of Generate", size="sm")
            blind = gr.Checkbox(True, label="Blind: names are shown after the vote", elem_id="blind")
            with gr.Row():
                first = gr.Dropdown([], label="Left", visible=False, elem_id="left", min_width=140)
                second = gr.Dropdown([], label="Right", visible=False, elem_id="right", min_width=140)
            curves = gr.HTML(markup.schedule_curve(START.splitlines(), 20))
        with gr.Column(scale=6, min_width=320):
            view = gr.HTML(
                markup.note("The images appear here."), js_on_load=asset("viewer.js"), elem_id="pair", min_height=200
            )
            with gr.Row(elem_id="vote"):
                buttons = [
                    gr.Button(label, elem_id=f"vote-{outcome}", min_width=90)
                    for label, outcome in (("Left is better", "left"), ("Tie", "tie"), ("Right is better", "right"))
                ]
            said = gr.HTML(elem_id="voted")
            thumbs = gr.HTML(elem_id="thumbs")
            table = gr.HTML(standing, elem_id="table")

    def look(text: str, steps: Any) -> tuple[str, str]:
        try:
            found = read_guidances(text)
            _, count = numbers(0, steps)
            return markup.note(f"✓ {len(found)} guidances"), markup.schedule_curve(map(str, found), count)
        except CfglabError as fault:
            return markup.error(fault), ""

    gr.on(
        [texts.change, bar.steps.change],
        look,
        [texts, bar.steps],
        [checked, curves],
        trigger_mode="always_last",
        **QUIET,
    )

    def appended(text: str, more: str) -> str:
        return "\n".join([*(line for line in text.splitlines() if line.strip()), more.strip()])

    add.click(appended, [texts, guidance], texts, **QUIET)
    outputs = [state, view, thumbs, said, first, second, bar.seed]

    def run(
        prompt: str, seed: Any, steps: Any, sampler: str, text: str, hidden: bool, before: Round | None, further: int
    ) -> Iterator[list[Any]]:
        keep = [gr.skip()] * 3
        try:
            guidances = read_guidances(text)
            whole_seed, count = numbers(seed, steps)
            request = ImageRequest(prompt, tuple(guidances), whole_seed + further, count, sampler)
            for frame in services.engine.frames(request):
                line = markup.note(f"step {frame.step} of {frame.steps}, {len(guidances)} images in one batch")
                if not frame.done:
                    yield [gr.skip(), line, "", "", *keep]
                    continue
                urls = tuple(map(markup.data_url, frame.images or ()))
                left, right = _pair(before, tuple(map(str, guidances)), hidden)
                played = Round(tuple(map(str, guidances)), urls, left, right, prompt, request.seed, count, sampler)
                yield [played, *_shown(played, hidden), "", *_choices(played, hidden), request.seed]
        except CfglabError as fault:
            yield [gr.skip(), markup.error(fault), gr.skip(), "", *keep]

    given = [*bar.inputs(), texts, blind, state]
    start.click(run, [*given, gr.State(0)], outputs, trigger_mode="once", **MODEL)
    following.click(run, [*given, gr.State(1)], outputs, trigger_mode="once", **MODEL)

    def pick(played: Round | None, hidden: bool, left: str, right: str) -> list[Any]:
        if played is None:
            return [gr.skip()] * 5
        if not hidden and left in played.guidances and right in played.guidances and left != right:
            ends = played.guidances.index(left), played.guidances.index(right)
            played = _with(played, *ends, voted=played.voted and ends == (played.left, played.right))
        return [played, *_shown(played, hidden), *_choices(played, hidden)]

    for part in (first, second, blind):
        part.input(pick, [state, blind, first, second], [state, view, thumbs, first, second], **QUIET)

    def vote(played: Round | None, hidden: bool, outcome: str) -> list[Any]:
        if played is None:
            return [
                gr.skip(),
                gr.skip(),
                gr.skip(),
                markup.error("no images to vote on: press Compare first."),
                gr.skip(),
            ]
        if played.voted:
            return [gr.skip()] * 3 + [markup.error("this pair has its vote: press Next seed."), gr.skip()]
        left, right = played.guidances[played.left], played.guidances[played.right]
        try:
            stored = votes.StoredVote.model_validate(
                {
                    **{"left": left, "right": right, "outcome": outcome, "blind": hidden},
                    **{"prompt": played.prompt, "seed": played.seed, "steps": played.steps},
                    **{"sampler": played.sampler, "model": services.engine.model},
                }
            )
            votes.add_vote(services.votes, stored)
            rows = markup.votes_table(votes.table(services.votes))
        except CfglabError as fault:
            return [gr.skip(), gr.skip(), gr.skip(), markup.error(fault), gr.skip()]
        played = _with(played, played.left, played.right, voted=True)
        line = {"left": left, "right": right}.get(outcome)
        message = markup.note(f"Stored: {line} is better." if line else "Stored: a tie.")
        return [played, *_shown(played, hidden), message, rows]

    for button, outcome in zip(buttons, ("left", "tie", "right"), strict=True):
        button.click(vote, [state, blind, gr.State(outcome)], [state, view, thumbs, said, table], **QUIET)


def _with(played: Round, left: int, right: int, *, voted: bool) -> Round:
    from dataclasses import replace

    return replace(played, left=left, right=right, voted=voted)


def _pair(before: Round | None, guidances: tuple[str, ...], hidden: bool) -> tuple[int, int]:
    """The two that are voted on: those of the round before where the guidances are the same, sides at random while it
    is blind; else any two."""
    if before is not None and before.guidances == guidances:
        pair = [before.left, before.right]
    else:
        pair = random.sample(range(len(guidances)), 2) if hidden else [0, 1]
    if hidden:
        random.shuffle(pair)
    return pair[0], pair[1]


def _shown(played: Round, hidden: bool) -> tuple[str, str]:
    """The pair and all images; without names, and without the rest, until a blind vote is cast."""
    names = played.guidances[played.left], played.guidances[played.right]
    secret = hidden and not played.voted
    pair = markup.pair_view(played.urls[played.left], played.urls[played.right], names, blind=secret)
    return pair, "" if secret else markup.strip(played.urls, played.guidances)


def _choices(played: Round, hidden: bool) -> tuple[Any, Any]:
    listed = list(played.guidances)
    return (
        gr.Dropdown(listed, value=None if hidden else listed[played.left], visible=not hidden),
        gr.Dropdown(listed, value=None if hidden else listed[played.right], visible=not hidden),
    )
