"""The tab Runs: a run folder, its images, its report, and going on with it."""

from typing import Any

import gradio as gr

from cfglab.errors import CfglabError
from cfglab.experiments.storage.store import Store
from cfglab.ui import markup, run_view
from cfglab.ui.shared import QUIET, Services
from cfglab.ui.sweep_tab import progress


def build(services: Services, tab: Any) -> None:
    """The tab; the list is read again whenever the tab is opened."""
    timer = gr.Timer(1.0, active=False)
    with gr.Row(equal_height=True):
        chosen = gr.Dropdown([], label=f"Run in {services.jobs.runs.name}/", scale=4, elem_id="run")
        refresh = gr.Button("Refresh", scale=1, min_width=130, elem_id="run-refresh")
        report = gr.Button("Report", variant="primary", scale=1, min_width=110, elem_id="run-report")
        go_on = gr.Button("Continue", scale=1, min_width=110, elem_id="run-continue")
    said = gr.HTML(elem_id="run-said")
    grid = gr.HTML(elem_id="run-grid")
    page = gr.HTML(elem_id="run-page")

    def names(before: str | None) -> Any:
        listed = services.jobs.names()
        value = before if before in listed else (listed[0] if listed else None)
        return gr.Dropdown(listed, value=value)

    def images(name: str | None) -> tuple[str, str, str]:
        if not name:
            return markup.note("No run yet: start a sweep, or `cfglab run`."), "", ""
        try:
            return "", run_view.grid(services.jobs.folder(name), services.jobs.started.get(name)), ""
        except CfglabError as fault:
            return markup.error(fault), "", ""

    tab.select(names, chosen, chosen, **QUIET)
    refresh.click(names, chosen, chosen, **QUIET)
    gr.on([chosen.change, refresh.click], images, chosen, [said, grid, page], **QUIET)

    def show(name: str | None) -> tuple[str, str]:
        try:
            return "", run_view.report_frame(services.jobs.folder(name or ""))
        except CfglabError as fault:
            return markup.error(fault), ""

    report.click(show, chosen, [said, page], **QUIET)

    def resume(name: str | None) -> tuple[str, Any]:
        try:
            folder = services.jobs.folder(name or "")
            with Store.open(folder) as store:
                experiment = store.experiment
            services.jobs.start(experiment, folder.name)
        except CfglabError as fault:
            return markup.error(fault), gr.skip()
        return "", gr.Timer(active=True)

    go_on.click(resume, chosen, [said, timer], **QUIET)

    def tick(name: str | None) -> tuple[Any, ...]:
        return progress(services, name)

    timer.tick(tick, chosen, [said, grid, timer], trigger_mode="once", **QUIET)
