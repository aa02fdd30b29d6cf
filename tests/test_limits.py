"""The limits that docs/runs.md states are those of the code."""

from pathlib import Path

import pytest

from cfglab import limits

PAGE = (Path(__file__).parents[1] / "docs" / "runs.md").read_text(encoding="utf-8")
STATED = [
    "DOCUMENT_BYTES",
    "CONFIG_BYTES",
    "TOKENIZER_BYTES",
    "WEIGHTS_BYTES",
    "FOLDER_ENTRIES",
    "PROMPTS",
    "PROMPT_CHARACTERS",
    "NAME_CHARACTERS",
    "IMAGE_BYTES",
    "IMAGE_PIXELS",
    "REAL_PIXELS",
    "PNG_CHUNKS",
    "PNG_TEXT_BYTES",
    "PNG_TEXTS",
    "STEPS",
    "PIXELS",
    "LARGEST_SEED",
    "RECORD_VERSIONS",
    "MODEL_BLOCKS",
    "MODEL_LAYERS",
    "MODEL_TRANSFORMERS",
    "MODEL_CHANNELS",
    "MODEL_VOCABULARY",
    "MODEL_POSITIONS",
    "MODEL_LATENTS",
    "MODEL_TIMESTEPS",
    "MODEL_DEPTH",
]


@pytest.mark.parametrize("name", STATED)
def test_the_page_states_the_limit(name: str) -> None:
    section = PAGE.split("## What is read, and how much of it")[1]
    assert f" {getattr(limits, name):,} " in section.replace(", ", " , ")
