"""docs/methods.md is what the cards say, and every method is on it."""

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sympy import Max, Symbol
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from cfglab.guidance import TRANSFORMS, parse_guidance
from cfglab.guidance.methods.not_implemented import LEFT_OUT
from cfglab.method_card import Card
from cfglab.schedules import PUBLISHED, SHAPES, parse
from cfglab.schedules.published.cards import CARDS
from cfglab.step import Step
from docs.oracles import Differences

READ = (*standard_transformations, convert_xor, implicit_multiplication)
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_page", DOCS / "methods_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_cards_say(page: ModuleType) -> None:
    assert (DOCS / "methods.md").read_text(encoding="utf-8") == page.methods_page(), "run `make docs`"


def test_every_method_is_on_the_page_once(page: ModuleType) -> None:
    listed = [name for names in page.GROUPS.values() for name in names]
    assert sorted(listed) == sorted([*CARDS, *TRANSFORMS])
    titles = [page.card_of(name).title for name in listed]
    assert len(set(titles)) == len(titles)
    text = page.methods_page()
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    headings = [page.anchor(line.removeprefix("### ")) for line in text.splitlines() if line.startswith("### ")]
    assert [one for one in anchors if one not in {*headings, "not-here", "first-and-last-steps", "oracles"}] == []
    for recipe, _, _ in page.RECIPES.values():
        assert parse_guidance(recipe).start().plan(Step(0, 10)).on
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert [one for one in pictures if not (DOCS / one).exists()] == []


def test_every_method_has_an_oracle_whose_tests_are_there_and_whose_difference_is_measured(page: ModuleType) -> None:
    assert list(page.ORACLES) == page.METHODS == list(page.measured())
    for name, several in page.ORACLES.items():
        assert len(several) == len(page.measured()[name])
        for oracle, difference in zip(several, page.measured()[name], strict=True):
            text = (page.TESTS / oracle.file).read_text(encoding="utf-8")
            assert [test for test in oracle.tests if f"def {test}(" not in text] == [], name
            assert 0 <= difference <= (1e-5 if "float32" in oracle.what or "digits" in oracle.what else 1e-9), name


def test_the_largest_comparison_that_holds_is_what_is_measured() -> None:
    noted = Differences()
    with noted.recording():
        noted.test = "a"
        numbers, other = [2.0, 4.0], 3.0
        assert numbers == pytest.approx([2.0, 4.00000001], rel=1e-6)
        assert other != pytest.approx(1, abs=0.1)
        np.testing.assert_allclose(np.ones(2), np.ones(2))
        noted.test = "b"
        torch.testing.assert_close(torch.tensor([1e-9, 2.0]), torch.tensor([0.0, 2.0]))
        assert not torch.equal(torch.zeros(1), torch.ones(1))
        assert torch.equal(torch.ones(1), torch.ones(1))
    assert noted.largest == pytest.approx({"a": 2.5e-9, "b": 5e-10}, rel=1e-5)


def test_every_published_schedule_has_a_card() -> None:
    words = {"linear", "cosine", "power", "table"}  # shapes that no paper owns
    assert set(CARDS) == {*PUBLISHED, *SHAPES} - words
    for name, card in CARDS.items():
        assert isinstance(card, Card)
        assert card.says.endswith(".")
        assert card.defaults
        assert card.source
        assert "\n" not in "".join((card.title, card.says, card.formula, card.source, card.defaults))
        if card.paper and name in PUBLISHED:
            assert card.paper in (PUBLISHED[name].__doc__ or "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("limited_interval", "limited_interval(w=2, sigma=(0.19, 1.61))"),
        ("pcs", "pcs(w0=…, s=1)"),
        ("constant", "7.5"),
        ("pag", "pag(start=0, stop=1, s=3, layers=(mid,))"),
        ("rescale", "rescale(strength=0.7)"),
        ("mahiro", "mahiro()"),
    ],
)
def test_how_a_method_is_written(page: ModuleType, name: str, expected: str) -> None:
    assert page._signature(name) == expected


def test_formulas_of_schedules_are_what_is_computed() -> None:
    values = {"w0": 5.0, "low": 2.0, "s": 0.7, "scale": 4.0, "max": 6.0, "rate": 2.0}
    checked = [name for name in CARDS if name.startswith("wang") or name in ("pcs", "cogvideox", "c2fg")]
    assert len(checked) == 11
    for name in checked:
        fields = _fields(name)
        text = f"{name}({', '.join(f'{field}={values[field]}' for field in fields)})"
        symbols = {field: Symbol(field) for field in (*fields, "i", "N")} | ({} if "max" in fields else {"max": Max})
        formula = parse_expr(CARDS[name].formula, local_dict=symbols, transformations=READ)
        given = [
            {symbols[field]: values[field] for field in fields} | {symbols["i"]: i, symbols["N"]: 8} for i in range(8)
        ]
        assert parse(text).values(8) == pytest.approx([float(formula.subs(one)) for one in given]), name


def _fields(name: str) -> list[str]:
    owner = PUBLISHED.get(name)
    return list(inspect.signature(owner).parameters) if owner else ["max", "rate"]


def test_what_is_left_out_has_a_reason() -> None:
    here = {card.title for card in (*CARDS.values(), *(kind.card for kind in TRANSFORMS.values())) if card}
    for one in LEFT_OUT:
        assert one.reason.endswith(".")
        assert len(one.reason) > 40
        assert one.title not in here
    assert len({one.title for one in LEFT_OUT}) == len(LEFT_OUT)


def test_this_check_can_fail(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(page.GROUPS, "Noisy conditions", ("icg",))
    assert (DOCS / "methods.md").read_text(encoding="utf-8") != page.methods_page()
