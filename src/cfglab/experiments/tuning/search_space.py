"""A guidance with gaps: the text of one, in which placeholders say what may stand there.

cosine(max={max:1..6}, min=1, k={k:0.2..5:log}).inverted()
constant({w:1..6}).inside(progress=(0, {end:0.3..1})) | prediction_norm(strength={s:0..1})
{w:knots(5):0..6}                     five knots over the run, straight lines between them
{w:1..6} | {norm:full_norm|update_norm}
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.spec.document import check_steps
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import parse_guidance
from cfglab.schedules.fields import inline, shown

# Every repetition is possessive, so that no text is read in more ways than one.
_GAP = re.compile(r"\{([^{}]*+)\}")
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{limits.NAME_LETTERS - 1}}}+")
_NUMBER = r"[+-]?(?:[0-9]++(?:\.(?!\.)[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?::(?P<how>log|int))?+")
_KNOTS = re.compile(r"knots\(([0-9]{1,9})\)")
_HOW = "write {k:0.2..5}, {k:0.2..5:log}, {n:1..8:int}, {w:knots(5):1..6} or {norm:full_norm|update_norm}"

Value = float | int | str


class Parameter(BaseModel):
    """One number (low to high, both included; `log` for a logarithmic scale, `whole` for whole numbers) or choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def end(self, end: str) -> Value:
        """The value at an end of the range, `low` or `high`; the first choice at both."""
        if self.choices:
            return self.choices[0]
        value: float = getattr(self, end)
        return int(value) if self.whole else value


class SearchSpace(BaseModel):
    """A text with gaps and its parameters, in the order in which they appear; `knots` are counts by placeholder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    steps: int
    parameters: tuple[Parameter, ...]
    knots: dict[str, int]

    @classmethod
    def of(cls, text: str, steps: int) -> Self:
        """Read the placeholders of a guidance's text. `{k}` repeats one that was written out before.

        Raises:
            InputError: no placeholder, one that cannot be read, or a text that is no guidance at the ends of its
                ranges.
        """
        found: dict[str, list[Parameter]] = {}
        knots: dict[str, int] = {}
        if len(text) > limits.TUNED_LETTERS:
            raise InputError(
                f"{shown(text)}: a guidance to tune has at most {limits.TUNED_LETTERS} letters; write a shorter one."
            )
        check_steps(steps)
        gaps = _GAP.findall(text)
        if len(gaps) > limits.PLACEHOLDERS:
            raise InputError(
                f"{shown(text)}: it has {len(gaps)} placeholders, and {limits.PLACEHOLDERS} at most; {_HOW}"
            )
        for gap in gaps:
            name, colon, spec = (part.strip() for part in gap.partition(":"))
            if not _NAME.fullmatch(name) or (not colon and name not in found):
                raise InputError(
                    f"'{{{inline(gap)}}}' in the guidance to tune: a placeholder has a name and a range; {_HOW}"
                )
            if not colon:
                continue
            if name in found:
                raise InputError(f"'{{{inline(gap)}}}': {name} was given a range before; repeat it as {{{name}}}")
            found[name] = _parameters(name, spec, gap)
            if len(found[name]) > 1:
                knots[name] = len(found[name])
        if not found:
            raise InputError(f"{shown(text, 200)} has no placeholder, so there is nothing to tune; {_HOW}")
        parameters = tuple(one for several in found.values() for one in several)
        space = cls(text=text, steps=steps, parameters=parameters, knots=knots)
        if sum(len(it.choices) for it in parameters) > limits.PLACEHOLDERS:
            raise InputError(f"{shown(text)}: more than {limits.PLACEHOLDERS} choices; leave some out.")
        low, high = ({it.name: it.end(end) for it in parameters} for end in ("low", "high"))
        others = ({**low, it.name: choice} for it in parameters for choice in it.choices[1:])
        for values in (low, high, *others):
            space.guidance(values)
        return space

    def guidance(self, values: Mapping[str, Value]) -> Guidance:
        """The guidance with its gaps filled; numbers are rounded to four digits, so that its text says them all.

        Raises:
            InputError: values that make no guidance, or one that cannot run this many steps.
        """

        whole = {parameter.name for parameter in self.parameters if parameter.whole}

        def fill(gap: re.Match[str]) -> str:
            name = gap[1].partition(":")[0].strip()
            if name not in self.knots:
                return _said(int(values[name]) if name in whole else values[name])
            heights = [float(values[f"{name}{i}"]) for i in range(self.knots[name])]
            places = np.linspace(0, len(heights) - 1, self.steps)
            line = np.interp(places, np.arange(len(heights)), heights)
            return f"[{', '.join(_said(float(w)) for w in line)}]"

        found = parse_guidance(_GAP.sub(fill, self.text))
        levels = [14.6 * (0.03 / 14.6) ** (index / max(1, self.steps - 1)) for index in range(self.steps)]
        found.schedule.values(self.steps, levels)
        return found


def _said(value: Value) -> str:
    """A value as text: a whole number exactly, any other with a point, for 1 may be a step where 1.0 is all of them."""
    if isinstance(value, str | int):
        return str(value)
    said = f"{value:.4g}"
    return said if "." in said or "e" in said else f"{said}.0"


def _parameters(name: str, spec: str, gap: str) -> list[Parameter]:
    head, colon, rest = spec.partition(":")
    if counted := _KNOTS.fullmatch(head.strip()):
        count = int(counted[1])
        if not 2 <= count <= limits.KNOTS or not colon:
            raise InputError(
                f"'{{{inline(gap)}}}': knots are 2 to {limits.KNOTS}, with a range; write {{{name}:knots(5):1..6}}"
            )
        one = _range(name, rest.strip(), gap)
        return [one.model_copy(update={"name": f"{name}{i}"}) for i in range(count)]
    if ".." not in spec and "|" in spec:
        choices = tuple(part.strip() for part in spec.split("|"))
        if not all(choices) or len(set(choices)) < len(choices):
            raise InputError(f"'{{{inline(gap)}}}': choices are different words; {_HOW}")
        return [Parameter(name=name, choices=choices)]
    return [_range(name, spec, gap)]


def _range(name: str, spec: str, gap: str) -> Parameter:
    found = _RANGE.fullmatch(spec.replace(" ", ""))
    if not found:
        raise InputError(f"'{{{inline(gap)}}}' in the guidance to tune cannot be read; {_HOW}")
    low, high, how = float(found["low"]), float(found["high"]), found["how"]
    if not (isfinite(low) and isfinite(high) and low < high):
        raise InputError(
            f"'{{{inline(gap)}}}': a range runs upwards; write {{{name}:{min(low, high):g}..{max(low, high):g}}}"
        )
    if how == "log" and low <= 0:
        raise InputError(f"'{{{inline(gap)}}}': a logarithmic range is above 0; start it at 0.1, or leave :log out")
    if how == "int" and (low != int(low) or high != int(high) or max(-low, high) > 2**53):
        low, high = max(low, -(2**53)), min(high, 2**53)
        raise InputError(
            f"'{{{inline(gap)}}}': whole numbers have whole ends; write {{{name}:{int(low)}..{int(high)}:int}}"
        )
    return Parameter(name=name, low=low, high=high, log=how == "log", whole=how == "int")
