"""A run folder on the page: the grid of its images as they come, from the folder itself."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from cfglab.experiments.storage.store import Store
from cfglab.ui.markup import note
from cfglab.ui.sweep import Job

ROWS = 24
"""The most rows of the grid: prompts × seeds."""


def grid(folder: Path, job: Job | None = None) -> str:
    """The images of a run, settings across and prompts with seeds down, with what is done and what failed.

    Raises:
        InputError: the folder holds no run.
    """
    with Store.open(folder) as store, store.snapshot():
        experiment = store.experiment
        cells = {result.position: result for result in store.results()}
    settings, seeds = experiment.settings, experiment.seeds
    rows = len(experiment.prompts) * len(seeds)
    done = sum(result.status == "done" for result in cells.values())
    failed = sum(result.status == "failed" for result in cells.values())
    head = "".join(
        f"<th scope=col><code>{escape(setting.name.removeprefix(f'{setting.group} '))}</code></th>"
        for setting in settings
    )
    body = []
    base = f"runs/{quote(folder.name, safe='')}"
    for row in range(min(rows, ROWS)):
        prompt, seed = experiment.prompts[row // len(seeds)], seeds[row % len(seeds)]
        tiles = []
        for column in range(len(settings)):
            result = cells.get(column * rows + row)
            if result is None:
                tiles.append('<td><i class="cl-wait"></i></td>')
            elif result.image is None:
                tiles.append(
                    f'<td><i class="cl-failed" title="{escape(result.error or "", quote=True)}">failed</i></td>'
                )
            else:
                tiles.append(f'<td><img src="{base}/{escape(result.image)}" alt="" loading="lazy"></td>')
        body.append(f"<tr><th scope=row>{escape(prompt)}<small>seed {seed}</small></th>{''.join(tiles)}</tr>")
    total = len(settings) * rows
    running = job is not None and job.running
    state = "running" if running else "complete" if done + failed == total else "not complete"
    more = f" · the first {ROWS} of {rows} rows" if rows > ROWS else ""
    line = f"{done} of {total} images{f', {failed} failed' if failed else ''} · {state}{more}"
    bar = f'<div class="cl-bar"><i style="width:{100 * (done + failed) / total:.0f}%"></i></div>' if running else ""
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'{note(line)}{bar}<div class="cl-grid">{table}</div>'


def report_frame(folder: Path) -> str:
    """The report of a run inside the page, and a link to it."""
    address = f"runs/{quote(folder.name, safe='')}/report.html"
    return (
        f'<p class="cl-note"><a href="{address}" target="_blank" rel="noopener">Open in a tab of its own</a></p>'
        f'<iframe class="cl-report" src="{address}" title="Report" '
        'sandbox="allow-scripts allow-popups allow-downloads"></iframe>'
    )
