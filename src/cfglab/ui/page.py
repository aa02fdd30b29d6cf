"""The page: what every tab shares, the four tabs, and the state that a link restores."""

import json
from html import escape
from typing import Any

import gradio as gr

from cfglab.errors import CfglabError
from cfglab.pipelines.loading.samplers import SAMPLERS
from cfglab.ui import compare_tab, generate_tab, markup, runs_tab, sweep_tab
from cfglab.ui.catalogue import completions
from cfglab.ui.engine import MODEL_SAMPLER, SAMPLER
from cfglab.ui.links import PageState, from_query
from cfglab.ui.shared import GUIDANCE, PROMPT, QUIET, RequestBar, Services, asset

ACCENT = (
    *("#fff4ef", "#ffe4d8", "#ffc7b0", "#ffa27d", "#ff8d5f", "#e2602f"),
    *("#c4471c", "#a03715", "#7d2c13", "#5c2110", "#38140a"),
)
"""The accent colour of the reports, from 50 to 950."""


def theme() -> Any:
    """Fonts of the system only: the page asks no other server for anything."""
    sans = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")
    accent = gr.themes.Color(*ACCENT)
    return gr.themes.Base(
        primary_hue=accent,
        neutral_hue=gr.themes.colors.stone,
        font=sans,
        font_mono=mono,
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        body_background_fill="#fbfaf7",
        body_background_fill_dark="#131416",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1b1d20",
        block_border_color="#e3e0d9",
        block_border_color_dark="#34373d",
        input_background_fill="#f6f4f0",
        input_background_fill_dark="#24262a",
        button_secondary_background_fill="#eceae5",
        button_secondary_background_fill_dark="#2f3238",
        button_secondary_background_fill_hover_dark="#3d4147",
        button_primary_background_fill="#c4471c",
        button_primary_background_fill_hover="#a03715",
        button_primary_background_fill_dark="#c4471c",
        button_primary_text_color="#ffffff",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
    )


def head() -> str:
    """What the page adds to the head: the words for completion, and the scripts."""
    words = json.dumps(completions()).replace("<", "\\u003c")
    return f"<script>window.cfglabWords={words};</script><script>{asset('completion.js')}</script>"


def build(services: Services) -> Any:
    """The page of these services.

    Args:
        services: the model, the runs and the file of votes.

    Returns:
        The gr.Blocks.
    """
    engine = services.engine
    with gr.Blocks(
        analytics_enabled=False, title="cfglab playground", fill_width=True, delete_cache=(3600, 3600)
    ) as page:
        gr.HTML(
            f'<header class="cl-head"><h1>cfglab <span>playground</span></h1><p>model <b>{escape(engine.model)}</b>'
            " · w is the guidance scale, <code>uncond + w (cond − uncond)</code>; w = 1 is no guidance</p></header>"
        )
        notice = gr.HTML(elem_id="notice", visible=True)
        with gr.Row(elem_id="bar", equal_height=True):
            prompt = gr.Textbox(PROMPT, label="Prompt", scale=6, min_width=280, max_lines=3, elem_id="prompt")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, scale=1, min_width=90, elem_id="seed")
            steps = gr.Slider(1, 100, 20, step=1, label="Steps", scale=2, min_width=150, elem_id="steps")
            sampler = gr.Dropdown(
                [*SAMPLERS, MODEL_SAMPLER], value=SAMPLER, label="Sampler", scale=1, min_width=130, elem_id="sampler"
            )
        inputs = RequestBar(prompt, seed, steps, sampler)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Generate", id="generate") as first:
                guidance = generate_tab.build(services, inputs)
            with gr.Tab("Compare", id="compare") as second:
                compare_tab.build(services, inputs, guidance)
            with gr.Tab("Sweep", id="sweep") as third:
                sweep_tab.build(services, guidance)
            with gr.Tab("Runs", id="runs") as fourth:
                runs_tab.build(services, fourth)
        for tab, shown in ((first, True), (second, True), (third, False), (fourth, False)):
            tab.select(
                None, None, None, js=f"() => {{document.body.classList.toggle('cl-nobar', {str(not shown).lower()})}}"
            )
        page.load(_restore, None, [notice, prompt, guidance, seed, steps, sampler], **QUIET)
    return page


def _restore(request: gr.Request) -> list[Any]:
    """The values of the inputs that the page's own address describes."""
    default = PageState(PROMPT, GUIDANCE)
    message = ""
    try:
        state = from_query(dict(request.query_params), default)
    except CfglabError as fault:
        state, message = default, markup.error(fault)
    return [f'<i class="cl-ready"></i>{message}', state.prompt, state.guidance, state.seed, state.steps, state.sampler]
