"""The tab Sweep: a guidance with axes as an experiment, started from the page, its images as they come."""

from functools import partial
from typing import Any

import gradio as gr

from cfglab.errors import CfglabError
from cfglab.pipelines.loading.samplers import SAMPLERS
from cfglab.ui import markup, run_view
from cfglab.ui.engine import SAMPLER, explained
from cfglab.ui.shared import PROMPT, QUIET, Services, numbers
from cfglab.ui.sweep import SweepForm, experiment_of, scaled, size_of

TEMPLATE = "cosine(max={w:3, 5, 7.5}, min=1, k={k:0.3, 1})"


def build(services: Services, guidance: Any) -> None:
    """The tab."""

    def form(*values: Any) -> SweepForm:
        text, lines, seed_text, count, chosen, run_name = values
        return SweepForm(text, lines, seed_text, numbers(0, count)[1], chosen, run_name.strip())

    def look(*values: Any) -> str:
        try:
            return markup.note(f"✓ {size_of(experiment_of(form(*values), services.engine.model))}")
        except CfglabError as fault:
            return markup.error(fault)

    name = gr.State(None)
    timer = gr.Timer(1.0, active=False)
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            template = gr.Textbox(
                TEMPLATE,
                label="Guidance with axes",
                info="{name:value, value} is an axis; every combination is a setting.",
                elem_id="template",
                elem_classes=["cl-complete", "cl-code"],
                max_lines=4,
            )
            take = gr.Button("From the guidance of Generate: its scale as an axis", size="sm", elem_id="take-guidance")
            prompts = gr.Textbox(PROMPT, label="Prompts, one a line", lines=2, max_lines=6, elem_id="sweep-prompts")
            with gr.Row():
                seeds = gr.Textbox("0..1", label="Seeds", min_width=80, elem_id="seeds")
                steps = gr.Number(20, label="Steps", precision=0, minimum=1, min_width=80, elem_id="sweep-steps")
                sampler = gr.Dropdown(list(SAMPLERS), value=SAMPLER, label="Sampler", min_width=110)
                title = gr.Textbox("sweep", label="Name", min_width=120, elem_id="sweep-name")
            size = gr.HTML(partial(look, TEMPLATE, PROMPT, "0..1", 20, SAMPLER, "sweep"), elem_id="sweep-size")
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="sweep-start", min_width=90)
                stop = gr.Button("Stop", elem_id="sweep-stop", min_width=90)
                report = gr.Button("Report", elem_id="sweep-report", min_width=90)
        with gr.Column(scale=6, min_width=320):
            said = gr.HTML(elem_id="sweep-said")
            grid = gr.HTML(markup.note("The grid of images appears here."), elem_id="sweep-grid")
    page = gr.HTML(elem_id="sweep-page")
    fields: list[Any] = [template, prompts, seeds, steps, sampler, title]

    gr.on([part.change for part in fields], look, fields, size, trigger_mode="always_last", **QUIET)

    def from_generate(text: str) -> Any:
        try:
            return scaled(text)
        except CfglabError:
            return gr.skip()

    take.click(from_generate, guidance, template, **QUIET)

    def begin(*values: Any) -> tuple[Any, ...]:
        try:
            experiment = experiment_of(form(*values), services.engine.model)
            services.jobs.start(experiment, experiment.name)
        except CfglabError as fault:
            return gr.skip(), markup.error(fault), gr.skip(), gr.Timer(active=False)
        return experiment.name, "", markup.note("starting"), gr.Timer(active=True)

    start.click(begin, fields, [name, said, grid, timer], **QUIET)

    def tick(run_name: str | None) -> tuple[Any, ...]:
        return progress(services, run_name)

    timer.tick(tick, name, [said, grid, timer], trigger_mode="once", **QUIET)

    def end(run_name: str | None) -> str:
        job = services.jobs.started.get(run_name or "")
        if job is None or not job.running:
            return markup.error("no run of this page is going on.")
        job.stop()
        return markup.note("Stopping after this batch.")

    stop.click(end, name, said, **QUIET)

    def show(run_name: str | None) -> str:
        try:
            return run_view.report_frame(services.jobs.folder(run_name or ""))
        except CfglabError as fault:
            return markup.error(fault)

    report.click(show, name, page, **QUIET)


def progress(services: Services, run_name: str | None) -> tuple[Any, Any, Any]:
    """The line, the grid, and whether to look again, of a run that was started from the page."""
    job = services.jobs.started.get(run_name or "")
    if job is None:
        return "", gr.skip(), gr.Timer(active=False)
    running, message = job.running, markup.error(job.error) if job.error else ""
    try:
        images = run_view.grid(services.jobs.folder(run_name or ""), job)
    except CfglabError as fault:
        images = markup.note("loading the model") if running else markup.error(job.error or fault)
        message = ""
    except Exception as fault:
        images = markup.error(explained(fault))
    return message, images, gr.Timer(active=running)
