"""The state of the page as the query of a link, and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from cfglab import limits
from cfglab.errors import InputError
from cfglab.guidance.guidance import parse_guidance
from cfglab.schedules.fields import shown
from cfglab.ui.engine import SAMPLER, ImageRequest

LETTERS = 4_000
"""Characters of one value in a link."""


@dataclass(frozen=True, slots=True)
class PageState:
    """What a link restores."""

    prompt: str = ""
    guidance: str = "7.5"
    seed: int = 0
    steps: int = 20
    sampler: str = SAMPLER


def to_query(state: PageState) -> str:
    """The query of a link to this state, from the question mark on.

    Examples:
        >>> to_query(PageState(prompt="a cat", guidance="7.5 | apg()"))
        '?prompt=a+cat&guidance=7.5+%7C+apg%28%29&seed=0&steps=20&sampler=euler'
    """
    return f"?{urlencode(asdict(state))}"


def from_query(query: Mapping[str, str], default: PageState) -> PageState:
    """The state that a link describes; values that it does not have are those of `default`.

    Args:
        query: the parameters of the link.
        default: the state without a link.

    Returns:
        The checked state.

    Raises:
        InputError: a value is too long or not valid, such as a method that does not exist.
    """
    for name in ("prompt", "guidance", "seed", "steps", "sampler"):
        if len(query.get(name, "")) > LETTERS:
            raise InputError(f"the link's {name} has more than {LETTERS:,} characters; ask for a shorter link.")
    try:
        guidance = parse_guidance(query.get("guidance", default.guidance))
        state = PageState(
            query.get("prompt", default.prompt),
            str(guidance),
            _whole(query, "seed", default.seed),
            _whole(query, "steps", default.steps),
            query.get("sampler", default.sampler),
        )
        ImageRequest(state.prompt, (guidance,), state.seed, state.steps, state.sampler)
    except InputError as error:
        raise InputError(f"this link cannot be opened: {error}") from None
    return state


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > limits.DIGITS:
        raise InputError(f"{name} {shown(text)}: it is a whole number; write 0.")
    return int(text)
