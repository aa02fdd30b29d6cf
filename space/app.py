"""The playground as a Space: the page of `cfglab ui`, on the port that the host forwards."""

import os
from pathlib import Path

from cfglab.ui.server import Settings, serve

folder = Path(os.environ.get("CFGLAB_FOLDER", "."))
serve(
    Settings(
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        runs=folder / "runs",
        votes=folder / "votes.jsonl",
    ),
    browser=False,
)
