"""What the tabs share: services, the inputs above them, and the options of their events."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cfglab.ui.engine import Engine
from cfglab.ui.sweep import Jobs

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of events that only look something up."""
MODEL: dict[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""Options of events that use the model: one at a time, the others wait in the queue."""
PROMPT = "a photograph of an astronaut riding a horse"
GUIDANCE = "cosine(max=7.5, min=1)"


@dataclass(frozen=True, slots=True)
class Services:
    """What the tabs work with."""

    engine: Engine
    jobs: Jobs
    votes: Path


@dataclass(frozen=True, slots=True)
class RequestBar:
    """The inputs above the tabs that generate images."""

    prompt: Any
    seed: Any
    steps: Any
    sampler: Any

    def inputs(self) -> list[Any]:
        """In the order of `ImageRequest`'s fields in callbacks: prompt, seed, steps, sampler."""
        return [self.prompt, self.seed, self.steps, self.sampler]


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (files("cfglab.ui") / "assets" / name).read_text(encoding="utf-8")


def numbers(seed: Any, steps: Any) -> tuple[int, int]:
    """Seed and steps as whole numbers; 0 and 20 where a field is empty."""
    return int(seed or 0), int(steps or 20)
