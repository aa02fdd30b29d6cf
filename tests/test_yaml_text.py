"""YAML is read as YAML 1.2, each key once, within limits; what is written is read back."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cfglab import limits, yaml_text
from cfglab.errors import InputError
from cfglab.yaml_text import Unclear, read_yaml, refuse_unclear, write_yaml

# From the tables of the YAML 1.2.2 specification, section 10.3, not from the code.
CORE = {
    "null": None,
    "~": None,
    "": None,
    "true": True,
    "FALSE": False,
    "0": 0,
    "-19": -19,
    "0x3A": 58,
    "0.": 0.0,
    "-.5": -0.5,
    "+12e03": 12000.0,
    "1e3": 1000.0,
    ".inf": float("inf"),
    "a word": "a word",
    "2001-12-14": "2001-12-14",
    "1.2.3": "1.2.3",
    "0..7": "0..7",
    "=": "=",
    "0x": "0x",
}


@pytest.fixture(params=["libyaml", "pure Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure Python":
        monkeypatch.setattr(yaml_text, "_Loader", yaml.SafeLoader)


@pytest.mark.usefixtures("loader")
def test_plain_values_are_those_of_the_core_schema() -> None:
    for text, value in CORE.items():
        read = read_yaml(f"a: {text}")["a"]
        assert (read, type(read)) == (value, type(value)), text
        quoted = read_yaml(f"a: '{text}'")["a"]
        assert (quoted, type(quoted)) == (text, str)


@pytest.mark.parametrize(
    "text",
    ["7:30", "190:20:30.15", "010", "-017", "08", "0o10", "0b11", "1_000", "1_0.5", "yes", "No", "ON", "off", "y", "N"],
)
def test_what_the_versions_of_yaml_read_differently_is_text_and_refused_as_a_number(text: str) -> None:
    value = read_yaml(f"- {text}")[0]
    assert value == text
    assert isinstance(value, Unclear)
    with pytest.raises(ValueError, match=r"in YAML 1\.1 and something else in YAML 1\.2; write"):
        refuse_unclear(value)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3: 'a' is given twice, first on line 1; leave one of them out\."),
        ("a: {b: 1, 'b': 2}", r"line 1: 'b' is given twice"),
        ("- {k: 1}\n- k: 1\n  j: 2\n  k: 3", r"line 4: 'k' is given twice, first on line 2"),
        ("b: &x {c: 1}\na:\n  <<: *x", r"line 3: << merges mappings in YAML 1\.1"),
        ("a: &x [*x]", r"line 1: \*'x' stands for nothing that has ended"),
        ("a: !!int abc", r"line 1: the tag '!!int' is not read"),
        ("a: !!python/object/apply:os.system [true]", r"the tag '!!python/object/apply:os.system' is not read"),
        ("? [1]\n: 2", r"line 1: a key is a list, mapping or alias"),
        ("a: 1\n---\nb: 2", r"line 2: a second document begins"),
        ("a: " + "1" * 5000, r"line 1: a number of 5,000 digits; at most 400"),
        ("[" * 1000, rf"line 1: lists and mappings more than {limits.DOCUMENT_DEPTH} deep"),
        ("- " * 1000, r"deep"),
        ("a: x\x85y", r"line 1: the character U\+0085 ends a line in YAML 1\.1"),
        ("a: 1\nb: x\u2028y", r"line 2: the character U\+2028"),
        ("a: \x07", r"no YAML"),
        ("a: \ud800", r"no YAML"),
        ("a: [1", r"no YAML at line"),
        ("a: " + "x" * limits.DOCUMENT_BYTES, r"bytes; at most 8,388,608 are read"),
        ("- 1\n" * (limits.DOCUMENT_NODES + 1), rf"more than {limits.DOCUMENT_NODES:,} values"),
        (
            "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20)),
            rf"more than {limits.DOCUMENT_NODES:,} values",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_refused_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read_yaml(text, "mine.yaml")
    assert str(refused.value).startswith("mine.yaml")
    assert "\n" not in str(refused.value)


def test_an_alias_is_what_it_stands_for() -> None:
    assert read_yaml("a: &x [1, {b: 2}]\nc: *x") == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


WORDS = st.one_of(
    st.sampled_from(
        [*CORE, "yes", "010", "7:30", "1_0", "@x", "- a", "a: b", "#", "<<", "\x85", "a\u2028 b", " x ", "---"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(-(10**30), 10**30), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS.filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert read_yaml(write_yaml(value)) == value
