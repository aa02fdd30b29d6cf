"""YAML from outside, read as YAML 1.2 (its core schema), bounded, with each key once; a fault is one line.

PyYAML's parser gives the events, and this module decides what they mean: PyYAML's own resolver is that of YAML 1.1, in
which `010` is 8, `7:30` is 450 and `no` is false. Nothing is constructed but text, numbers, truth values, null, lists
and mappings.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from cfglab import limits
from cfglab.errors import InputError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAKS = re.compile("[\x85\u2028\u2029]")
"""Line breaks of YAML 1.1, ordinary characters of YAML 1.2."""

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{f"{sign}{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
_WHOLE = re.compile(r"[+-]?[0-9]++")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]++")
_FLOAT = re.compile(r"[+-]?(?:\.[0-9]++|[0-9]++(?:\.[0-9]*+)?+)(?:[eE][+-]?[0-9]++)?+")

# What YAML 1.1 and YAML 1.2 read as different things, and what the former makes of it.
_OLD_WORDS = {
    **{word: "true" for base in ("yes", "on", "y") for word in (base, base.capitalize(), base.upper())},
    **{word: "false" for base in ("no", "off", "n") for word in (base, base.capitalize(), base.upper())},
}
_OLD_NUMBERS = (
    (re.compile(r"[+-]?0[0-9_]++"), "a number in base 8"),
    (re.compile(r"0o[0-7_]++"), "text"),
    (re.compile(r"[+-]?0b[01_]++"), "a number in base 2"),
    (re.compile(r"[+-]?0x[0-9a-fA-F_]++"), "a number in base 16"),
    (re.compile(r"[+-]?[0-9][0-9_]*+(?::[0-5]?[0-9])++(?:\.[0-9_]*+)?+"), "a number in base 60"),
    (re.compile(r"[+-]?(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?+|\.[0-9_]++)(?:[eE][+-]?[0-9]++)?+"), "a number"),
)


class Unclear(str):
    """Plain text that YAML 1.1 reads as something else: refused where a number or a truth value is expected."""

    older: str
    """What YAML 1.1 reads: `true`, `a number in base 60`."""
    __slots__ = ("older",)


def refuse_unclear(value: Any) -> Any:
    """The value as it is. Raises ValueError for text of which it is unclear whether it is a number or truth value."""
    for part in value if isinstance(value, list) else (value,):
        if isinstance(part, Unclear):
            raise ValueError(
                f"{_short(part)} is {part.older} in YAML 1.1 and something else in YAML 1.2; write the number as 7.5, "
                "the truth value as true or false, or quotes around text"
            )
    return value


def read_yaml(text: str, name: str = "YAML") -> Any:
    """The value that one YAML document describes; None where it is empty.

    Args:
        text: The YAML, at most `limits.DOCUMENT_BYTES` long.
        name: What the text is, for the message: the path of its file.

    Raises:
        InputError: no YAML 1.2, a key that is given twice, a tag, a merge key, or something beyond a limit, with its
            line.
    """
    if len(text) > limits.DOCUMENT_BYTES:
        raise InputError(
            f"{name}: {len(text):,} bytes; at most {limits.DOCUMENT_BYTES:,} are read, give a shorter one."
        )
    text = text.removeprefix("\ufeff")
    if found := _BREAKS.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"{name}, line {line}: the character U+{ord(found[0]):04X} ends a line in YAML 1.1 and not in YAML 1.2; "
            'write it as an escape in double quotes, "\\N", "\\L" or "\\P".'
        )
    document = _Document(name)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            document.add(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise InputError(f"{name}: no YAML{place} ({problem}); compare it with a preset.") from None
    except UnicodeError:
        raise InputError(f"{name}: no YAML (half of a character); write it in UTF-8.") from None
    return document.root


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    value: Any
    anchor: str | None
    first: int
    """How many nodes there were before it."""
    key: str | None = None
    lines: dict[str, int] = field(default_factory=dict)
    """Where each key stands."""


class _Document:
    """The document as far as its events have come."""

    def __init__(self, name: str) -> None:
        self.name, self.root, self.documents, self.nodes = name, None, 0, 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}

    def add(self, event: Any) -> None:
        """Take the next event. Raises InputError."""
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.ScalarEvent():
                self._place(self._scalar(event, line), 1, event.anchor, line, event.value)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise self._fault(line, "a second document begins; give one, without --- between")
            case yaml.AliasEvent():
                if event.anchor not in self.anchors:
                    raise self._fault(line, f"*{_short(event.anchor)} stands for nothing that has ended; write it out")
                self._place(*self.anchors[event.anchor], None, line, None)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                if event.tag is not None:
                    raise self._tag(event.tag, line)
                value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._place(value, 1, None, line, None)
                if len(self.open) >= limits.DOCUMENT_DEPTH:
                    raise self._fault(line, f"lists and mappings more than {limits.DOCUMENT_DEPTH} deep; write it flat")
                self.open.append(_Open(value, event.anchor, self.nodes - 1))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self.open.pop()
                if ended.anchor is not None:
                    self.anchors[ended.anchor] = (ended.value, self.nodes - ended.first)

    def _place(self, value: Any, nodes: int, anchor: str | None, line: int, raw: str | None) -> None:
        """Put a value where it belongs; `raw` is the text of a scalar, which is what a key is."""
        self.nodes += nodes
        if self.nodes > limits.DOCUMENT_NODES:
            raise self._fault(line, f"more than {limits.DOCUMENT_NODES:,} values; give fewer")
        if anchor is not None:
            self.anchors[anchor] = (value, nodes)
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            parent.key = self._key(parent, raw, line)
        else:
            parent.value[parent.key] = value
            parent.key = None

    def _key(self, parent: _Open, raw: str | None, line: int) -> str:
        if raw is None:
            raise self._fault(line, "a key is a list, mapping or alias; write a name")
        if raw == "<<":
            raise self._fault(line, "<< merges mappings in YAML 1.1 and not in YAML 1.2; write the fields out")
        if raw in parent.lines:
            raise self._fault(
                line, f"{_short(raw)} is given twice, first on line {parent.lines[raw]}; leave one of them out"
            )
        parent.lines[raw] = line
        return raw

    def _scalar(self, event: Any, line: int) -> Any:
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise self._tag(event.tag, line)
        if event.tag is not None or event.style:
            return event.value
        if len(event.value) > limits.DIGITS and _FLOAT.fullmatch(event.value):
            raise self._fault(
                line, f"a number of {len(event.value):,} digits; at most {limits.DIGITS} are read, or quote text"
            )
        return plain(event.value)

    def _tag(self, tag: str, line: int) -> InputError:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        return self._fault(line, f"the tag {_short(shown)} is not read; write the value as it is, text in quotes")

    def _fault(self, line: int, message: str) -> InputError:
        return InputError(f"{self.name}, line {line}: {message}.")


def plain(text: str) -> Any:
    """What text without quotes is in YAML 1.2: null, a truth value, a number, text; `Unclear` text for YAML 1.1."""
    if text in _WORDS:
        return _WORDS[text]
    older = _OLD_WORDS.get(text)
    if older is None and text[0] in "+-.0123456789" and len(text) <= limits.DIGITS:
        if re.fullmatch(r"[+-]?(?:0|[1-9][0-9]*+)", text):
            return int(text)
        if _HEXADECIMAL.fullmatch(text):
            return int(text, 16)
        if not _WHOLE.fullmatch(text) and _FLOAT.fullmatch(text):
            return float(text)
        older = next((meaning for pattern, meaning in _OLD_NUMBERS if pattern.fullmatch(text)), None)
    if older is None:
        return text
    unclear = Unclear(text)
    unclear.older = older
    return unclear


class _Dumper(yaml.SafeDumper):
    """Writes what `read_yaml` reads back: no aliases, and quotes around text that could be anything else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = None
    if _BREAKS.search(value):
        style = '"'
    elif type(plain(value)) is not str:
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Unclear, _text)


def write_yaml(value: Any) -> str:
    """The YAML text of dicts, lists, text and numbers, in their order; `read_yaml` reads an equal value back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _short(text: str | None) -> str:
    text = text or ""
    return repr(str(text[: limits.NAME_LETTERS])) + ("…" if len(text) > limits.NAME_LETTERS else "")
