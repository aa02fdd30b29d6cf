"""diffusers, imported and used without its progress bars and advice to install things."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no warnings about configurations that are as their authors left them."""
    tools: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    previous = [(tool.get_verbosity(), tool.is_progress_bar_enabled()) for tool in tools]
    hub_verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # a request that failed is in the error that follows
    for tool in tools:
        tool.set_verbosity_error()
        tool.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub_logging.set_verbosity(hub_verbosity)
        for tool, (verbosity, bars) in zip(tools, previous, strict=True):
            tool.set_verbosity(verbosity)
            if bars:
                tool.enable_progress_bar()


with quiet():
    from diffusers import DiffusionPipeline, StableDiffusionPipeline

__all__ = ["DiffusionPipeline", "StableDiffusionPipeline", "quiet"]
