"""The tab Generate: one guidance, its image step by step, its curve and its trace; and the forms to take it away."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from cfglab.errors import CfglabError, InputError
from cfglab.guidance.guidance import parse_guidance
from cfglab.schedules import Table
from cfglab.ui import markup
from cfglab.ui.catalogue import Control, compose, methods
from cfglab.ui.engine import ImageRequest
from cfglab.ui.links import PageState
from cfglab.ui.shared import GUIDANCE, MODEL, QUIET, RequestBar, Services, asset, numbers
from cfglab.ui.take_away import FORMS, taken

KNOTS = 40
"""The most knots of a drawn curve."""
LARGEST = 100.0
"""The largest scale of a drawn curve."""


def build(services: Services, bar: RequestBar) -> Any:
    """The tab.

    Returns:
        The box with the guidance's text.
    """
    with gr.Row(elem_id="generate-row"):
        with gr.Column(scale=5, min_width=320, elem_id="generate-left"):
            guidance = gr.Textbox(
                GUIDANCE,
                label="Guidance",
                info="A schedule, then transforms after bars. Tab completes a word.",
                elem_id="guidance",
                elem_classes=["cl-complete", "cl-code"],
                max_lines=4,
            )
            checked = gr.HTML(markup.checked(GUIDANCE, 20), elem_id="checked")
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="generate", scale=3)
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            with gr.Tabs(elem_id="ways"):
                with gr.Tab("Method"):
                    _method_panel(guidance)
                with gr.Tab("Draw the curve"):
                    _curve_panel(guidance, bar)
                with gr.Tab("Take away"):
                    _take_away(services, bar, guidance)
        with gr.Column(scale=5, min_width=320, elem_id="generate-right"):
            view = gr.HTML(markup.image_view(None, "", ""), elem_id="view")
            curve = gr.HTML(markup.schedule_curve([GUIDANCE], 20), elem_id="curve")
            trace = gr.HTML(elem_id="trace")

    def look(text: str, steps: Any) -> tuple[str, str]:
        _, count = numbers(0, steps)
        return markup.checked(text, count), markup.schedule_curve([text], count)

    gr.on(
        [guidance.change, bar.steps.change],
        look,
        [guidance, bar.steps],
        [checked, curve],
        trigger_mode="always_last",
        **QUIET,
    )

    def run(prompt: str, seed: Any, steps: Any, sampler: str, text: str) -> Iterator[tuple[Any, Any, Any]]:
        url = ""
        try:
            whole_seed, count = numbers(seed, steps)
            request = ImageRequest(prompt, (parse_guidance(text),), whole_seed, count, sampler)
            for frame in services.engine.frames(request):
                if frame.images:
                    url = markup.data_url(frame.images[0], preview=not frame.done)
                yield (
                    markup.image_view(frame, url, prompt),
                    _run_curve(frame),
                    markup.trace_lines(frame),
                )
        except CfglabError as fault:
            yield markup.error(fault), gr.skip(), gr.skip()

    started = gr.on(
        [generate.click, bar.prompt.submit, guidance.submit],
        run,
        [*bar.inputs(), guidance],
        [view, curve, trace],
        trigger_mode="once",
        **MODEL,
    )
    stop.click(None, None, None, cancels=[started])
    return guidance


def _run_curve(frame: Any) -> Any:
    """The curve as the run has it, at its last frame; before, the one that is there stays."""
    if not frame.done:
        return gr.skip()
    return markup.curve([("w", [record.w[0] for record in frame.trace.steps])])


def _method_panel(guidance: Any) -> None:
    """A method of the catalogue with controls made from its fields."""
    choices = [(f"{method.title} · {name}", name) for name, method in methods().items()]
    chosen = gr.Dropdown(choices, value="cosine", label="Method", filterable=True, elem_id="method")

    def controls(name: str) -> None:
        method = methods().get(name)
        if method is None:
            gr.HTML(markup.error(f"no method {name!r}; choose one of the list."))
            return
        gr.HTML(markup.method_card(method))
        parts = [_widget(control) for control in method.controls]
        fault = gr.HTML()

        def changed(text: str, *values: Any) -> tuple[Any, Any]:
            named = dict(zip((control.name for control in method.controls), values, strict=True))
            try:
                return compose(text, method, named), ""
            except InputError as error:
                return gr.skip(), markup.error(error)

        put = "Use as the schedule" if method.role == "schedule" else "Add to the guidance"
        button = gr.Button(put, size="sm", elem_id="use-method")
        events = [button.click, *(_event(part) for part in parts)]
        gr.on(events, changed, [guidance, *parts], [guidance, fault], trigger_mode="always_last", **QUIET)

    gr.render(inputs=[chosen])(controls)


def _widget(control: Control) -> Any:
    label = f"{control.name}{' (needed)' if control.required else ''}"
    match control.kind:
        case "slider":
            return gr.Slider(
                control.low, control.high, control.default, step=control.step, label=label, interactive=True
            )
        case "choice":
            return gr.Dropdown(list(control.choices), value=control.default, label=label, interactive=True)
        case "switch":
            return gr.Checkbox(control.default, label=label, interactive=True)
    return gr.Textbox(control.default, label=label, max_lines=1, interactive=True)


def _event(part: Any) -> Any:
    """What counts as a change by a person: the end of a drag, a choice, Enter."""
    if isinstance(part, gr.Slider):
        return part.release
    return part.submit if isinstance(part, gr.Textbox) else part.input


def _curve_panel(guidance: Any, bar: RequestBar) -> None:
    """A curve that is drawn by its knots; every change puts a list of scales, one a step, in place of the schedule."""
    drawn = gr.State(None)
    editor = gr.HTML(
        "",
        html_template='<div class="cl-draw"><svg role="group" aria-label="Guidance scale over the run"></svg>'
        '<p class="cl-note">Drag the knots. Double-click adds one, Delete removes it; arrow keys move it.</p></div>',
        js_on_load=asset("curve.js"),
        elem_id="draw",
    )

    def put(knots: Any, text: str, steps: Any) -> Any:
        if not knots:
            return gr.skip()
        _, count = numbers(0, steps)
        try:
            schedule = Table(interpolated(knots, count))
            transforms = parse_guidance(text).transforms
        except InputError:
            transforms = ()
        return " | ".join([str(schedule), *map(str, transforms)])

    def moved(text: str, steps: Any, event: gr.EventData) -> tuple[Any, Any]:
        knots = (event._data or {}).get("knots")
        return knots, put(knots, text, steps)

    editor.input(moved, [guidance, bar.steps], [drawn, guidance], trigger_mode="always_last", **QUIET)

    def again(knots: Any, text: str, steps: Any) -> Any:
        """With another number of steps, the list that was drawn is made again; other schedules stay."""
        try:
            of_curve = isinstance(parse_guidance(text).schedule, Table)
        except InputError:
            of_curve = False
        return put(knots, text, steps) if of_curve else gr.skip()

    bar.steps.change(again, [drawn, guidance, bar.steps], guidance, trigger_mode="always_last", **QUIET)


def interpolated(knots: Any, steps: int) -> list[float]:
    """The scale at every step of a curve through knots, straight between them, with two decimals.

    Args:
        knots: (position, scale) of each, the position from 0, the first step, to 1, the last one.
        steps: the number of steps.

    Returns:
        One scale a step.

    Raises:
        InputError: the knots are not pairs of finite numbers, or there are too many.
    """
    import numpy as np

    try:
        array = np.asarray(knots, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2 or not 1 <= len(array) <= KNOTS or not np.isfinite(array).all():
        raise InputError(f"a drawn curve has 1 to {KNOTS} knots, each a position and a scale; draw it again.")
    array = array[np.argsort(array[:, 0], kind="stable")].clip([0, -LARGEST], [1, LARGEST])
    places = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    return [round(value, 2) for value in np.interp(places, array[:, 0], array[:, 1]).tolist()]


def _take_away(services: Services, bar: RequestBar, guidance: Any) -> None:
    form = gr.Radio(list(FORMS), value="Text", label="Form", elem_id="form")
    box = gr.Code(
        GUIDANCE, label="Copy it", language=None, interactive=False, elem_id="taken", lines=1, wrap_lines=True
    )
    fault = gr.HTML()

    def show(
        chosen: str, text: str, prompt: str, seed: Any, steps: Any, sampler: str, request: gr.Request
    ) -> tuple[str, str]:
        try:
            state = PageState(prompt, text, *numbers(seed, steps), sampler)
            address = f"{request.headers.get('origin', '')}/"
            return taken(chosen, state, services.engine.model, address), ""
        except CfglabError as error:
            return "", markup.error(error)

    gr.on(
        [form.change, guidance.change, *(part.change for part in bar.inputs())],
        show,
        [form, guidance, *bar.inputs()],
        [box, fault],
        trigger_mode="always_last",
        **QUIET,
    )
