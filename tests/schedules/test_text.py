"""The text form: what is read, what is printed, and what each mistake is told."""

import pytest

from cfglab.errors import InputError
from cfglab.schedules import Constant, Cosine, Function, Linear, Power, Table, as_schedule, parse

SAME = [  # text as people write it, the value, the canonical text
    ("7.5", Constant(7.5), "7.5"),
    (" -2 ", Constant(-2), "-2"),
    ("constant(7.5)", Constant(7.5), "7.5"),
    ("cosine()", Cosine(), "cosine(max=7.5, min=1)"),
    ("cosine(max=7.5,min=1,k=0.3)", Cosine(k=0.3), "cosine(max=7.5, min=1, k=0.3)"),
    ("cosine(k=.3).inverted()", Cosine(k=0.3).inverted(), "cosine(max=7.5, min=1, k=0.3).inverted()"),
    (
        "cosine(warmup=5, warmup_start=1, cycles=1.5)",
        Cosine(cycles=1.5, warmup=5, warmup_start=1),
        "cosine(max=7.5, min=1, cycles=1.5, warmup=5, warmup_start=1)",
    ),
    ("power(power=3)", Power(power=3), "power(max=7.5, min=1, power=3)"),
    ("[8, 6, 4]", Table([8, 6, 4]), "[8, 6, 4]"),
    ("table([8, 8, 6])", Table([8, 8, 6]), "2x8+1x6"),
    ("10x4+10x6+10x8", Table([4] * 10 + [6] * 10 + [8] * 10), "10x4+10x6+10x8"),
    (" 2 x 4 + 1X-1.5e1 ", Table([4, 4, -15]), "2x4+1x-15"),
    ("2*linear() + 1", 2 * Linear() + 1, "2 * linear(max=7.5, min=1) + 1"),
    ("2*(linear() - 3)", 2 * (Linear() - 3), "2 * (linear(max=7.5, min=1) - 3)"),
    ("-linear()", -1 * Linear(), "-1 * linear(max=7.5, min=1)"),
    ("1 - (2 - linear())", 1 - (2 - Linear()), "1 - (2 - linear(max=7.5, min=1))"),
    ("2*3 + 0.5", Constant(6.5), "6.5"),
    ("constant(2) + 3", Constant(2) + 3, "constant(2) + 3"),
    ("constant(2).warmed_up(3)", Constant(2).warmed_up(3), "constant(2).warmed_up(steps=3)"),
    ("linear().then(7.5, at=10)", Linear().then(7.5, at=10), "linear(max=7.5, min=1).then(7.5, at=10)"),
    ("linear().then([2, 3], at=.5)", Linear().then([2, 3], at=0.5), "linear(max=7.5, min=1).then([2, 3], at=0.5)"),
    ("(5x4+5x6).inside(progress=(0.2, 0.8))", Table([4] * 5 + [6] * 5).inside(progress=(0.2, 0.8)), None),
    ("1 + (5x4+5x6)", 1 + Table([4] * 5 + [6] * 5), None),
    ("linear(max=7.5, min=1).inside(sigma=(0.28, 5.42))", Linear().inside(sigma=(0.28, 5.42)), None),
    ("linear(max=7.5, min=1).inside(steps=(5, 20))", Linear().inside(steps=(5, 20)), None),
    ("linear(max=7.5, min=1).warmed_up(fraction=0.1, start=0)", Linear().warmed_up(fraction=0.1, start=0), None),
    ("linear(max=7.5, min=1).matched_to(3)", Linear().matched_to(3), None),
    ("linear(max=7.5, min=1).matched_to(3, limit=20)", Linear().matched_to(3, limit=20), None),
    ("linear(max=7.5, min=1).scaled(1.5).reversed()", Linear().scaled(1.5).reversed(), None),
    ("linear(max=7.5, min=1).clip(low=2)", Linear().clip(low=2), None),
    ("(linear(max=7.5, min=1) + 1).inverted(low=2, high=8.5)", (Linear() + 1).inverted(low=2, high=8.5), None),
]


@pytest.mark.parametrize(("text", "value", "canonical"), SAME, ids=[text for text, _, _ in SAME])
def test_text_is_the_value_and_back(text, value, canonical):
    assert parse(text) == value
    assert str(value) == (canonical or text)
    assert parse(str(value)) == value


def test_repr_is_python():
    assert repr(Cosine(k=0.3).inverted()) == "Cosine(max=7.5, min=1, k=0.3).inverted()"
    assert repr(Constant(2)) == "Constant(2)"
    assert repr(Table([1, 1]) * 2 + Constant(3)) == "Table([1, 1]) * 2 + 3"
    assert repr(Constant(2).then(Table([3, 4]), at=1)) == "Constant(2).then(Table([3, 4]), at=1)"


def test_effective_matching_in_text_becomes_its_factor():
    schedule = parse("cosine(k=0.3).matched_to(3, weight='effective', sigmas=[14, 5, 1.5, 0.5, 0], s=1)")
    assert str(schedule).startswith("cosine(max=7.5, min=1, k=0.3).scaled(")
    assert schedule.effective_dose([14, 5, 1.5, 0.5, 0]) == pytest.approx(3)


def test_a_function_prints_but_is_not_read():
    schedule = 2 * Function(max)
    assert str(schedule) == "2 * function(max)"
    with pytest.raises(InputError, match=r"a function is not read from text: it lives in a program"):
        parse(str(schedule))
    with pytest.raises(
        InputError, match=r"^the function 'max' cannot be stored: .* Table\(schedule\.values\(50\)\)\.$"
    ):
        schedule.to_json()


MISTAKES = [
    (
        "cosin(max=7.5)",
        "unknown shape 'cosin': the shapes are constant, linear, cosine, power, table, beta, c2fg, cfg_plus_plus,",
    ),
    ("Cosine(max=7.5)", "did you mean cosine?"),
    ("cosine(maks=7.5)", "cosine has no 'maks': it takes max, min, warmup, warmup_start, k, cycles; did you mean max?"),
    ("cosine(max_val=9)", "did you mean max?"),
    ("cosine(cycle_mul=2)", "within one run that parameter of get_cos_sched changes nothing"),
    ("cosine(k=0)", "cosine(k=0): it must be above 0; 1 is the plain shape."),
    ("cosine(k=-1)", "cosine(k=-1): it must be above 0"),
    ("cosine(k=1e999)", "cosine(k=inf): a finite number is needed"),
    ("cosine(k=nan)", "nan: a finite number is needed"),
    ("-Infinity", "Infinity: a finite number is needed"),
    ("cosine", "cosine without brackets: a shape is called with its fields; write cosine(…)."),
    ("cosine(9)", "values are given by name; write cosine(max=9, …)."),
    (
        "cosine().invert()",
        "unknown word .invert(): the words are inverted, reversed, then, inside, warmed_up, matched_to,",
    ),
    ("cosine().invert()", "did you mean inverted?"),
    ("cosine().inside(sigmas=(1, 2))", "inside has no 'sigmas': it takes progress, sigma, steps; did you mean sigma?"),
    ("cosine().then(3)", ".then(): missing a required argument: 'at'; it is written then(other, at)."),
    ("cosine().values(3)", "unknown word .values()"),
    ("cosine().__class__", "only numbers, lists, shapes, words after a dot and + - * are read"),
    ("(cosine() + 1).inverted()", "declare no min and max; write .inverted(low=1, high=7.5)."),
    ("cosine() / 2", "cosine() / 2: only numbers, lists, shapes, words after a dot and + - * are read; write 0.5 *"),
    ("__import__('os').system('true')", "unknown shape '__import__'"),
    ("cosine(k=open('x'))", "unknown shape 'open'"),
    ("[x for x in (1, 2)]", "only numbers, lists, shapes"),
    ("cosine(**{})", "'**': fields are named one by one"),
    ("cosine(k=1, k=2)", "k twice: a field has one value; give it once."),
    ("constant(1, value=2)", "constant with value twice"),
    ("cosine(max=7.5", "is not written as a schedule is: numbers, shapes with named fields, words after a dot, + - *;"),
    ("", "is no schedule: it has 1 to 500000 letters; write 7.5 or cosine(max=7.5, min=1)."),
    ("0x4+2x6", "parts of 0 to 2 steps, 2 in all: a part has 1 or more steps, a list 10000 at most; write 10x8+10x6."),
    ("999999999x4", "a list 10000 at most"),
    ("[1, [2]]", "table(entries.1=[2]): a finite number is needed"),
    ("[]", "a list has 1 to 10000 scales, this one 0"),
    ("1e308 * 10", "constant(value=inf): a finite number is needed"),
    ("cosine().warmed_up(0)", "warmed_up(over=0): a whole step (1 or more) or a fraction between 0 and 1 is needed"),
    ("cosine().warmed_up(0.5)", "warmed_up(steps=0.5): steps are whole, a fraction is between 0 and 1;"),
    (
        "cosine().inside(sigma=(0.1, 2)).matched_to(3, sigmas=5)",
        "sigmas 5: the falling noise levels of a run are needed",
    ),
    ("-" * 100_000 + "1", "is not written as a schedule is"),
    ("(" * 100_000, "is not written as a schedule is"),
    ("cosine(" * 150 + ")" * 150, "parts inside parts more than 100 deep"),
    ("cosine()" + ".inverted()" * 150, "parts inside parts more than 100 deep"),
]


@pytest.mark.parametrize(
    ("text", "message"), MISTAKES, ids=[f"{text[:30]}-{i}" for i, (text, _) in enumerate(MISTAKES)]
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    assert len(said) < 520
    assert said.startswith(repr(text[:20])[:-1])  # it begins with what was written


def test_what_stands_for_a_schedule():
    assert as_schedule(3) == as_schedule(3.0) == as_schedule("3") == as_schedule({"kind": "constant", "value": 3})
    assert as_schedule([3, 4]) == as_schedule((3, 4)) == as_schedule("[3, 4]") == Table([3, 4])
    assert as_schedule(Cosine()) is not None
    assert as_schedule(print) == Function(print)
    for wrong, message in [
        (None, "None is no schedule: a number, text such as"),
        (True, "True is no schedule"),
        (Cosine, r"Cosine is a class: a schedule is a value; write Cosine\(…\)\."),
        ({"kind": "cosin"}, r"a schedule of kind 'cosin': the kinds are .*did you mean cosine\?"),
        ({"kind": "cosine", "k": -1}, r"cosine\(k=-1\): it must be above 0"),
        ({"kind": "inverted", "base": {"kind": "cosine", "k": -1}}, r"cosine\(k=-1\): it must be above 0"),
        ({}, "a schedule of kind None"),
        (b"75", r"b'75' is no list of scales: a bytes holds bytes"),
        (bytearray(b"75"), "a bytearray holds bytes"),
        ({7, 5}, "a set holds no order"),
        (frozenset([7]), "a frozenset holds no order"),
    ]:
        with pytest.raises(InputError, match=message):
            as_schedule(wrong)


def test_numpy_numbers_and_arrays():
    numpy = pytest.importorskip("numpy")
    assert as_schedule(numpy.float32(2)) == Constant(2)
    assert as_schedule(numpy.array(2.0)) == Constant(2)
    assert as_schedule(numpy.array([2.0, 3.0])) == Table([2, 3])


def test_equal_schedules_are_stored_alike():
    assert Constant(-0.0).to_json() == Constant(0).to_json()
    assert str(Constant(-0.0)) == "0"


def test_stored_json_is_pinned():
    """What older runs wrote is read for ever: these lines never change."""
    for line, text in [
        ('{"kind":"constant","value":7.5}', "7.5"),
        (
            '{"kind":"cosine","max":7.5,"min":1.0,"warmup":0,"warmup_start":0.0,"k":0.3,"cycles":0.5}',
            "cosine(max=7.5, min=1, k=0.3)",
        ),
        ('{"kind":"table","entries":[8.0,6.0]}', "[8, 6]"),
        (
            '{"kind":"inside","base":{"kind":"inverted","base":{"kind":"constant","value":2.0},"low":null,"high":null},'
            '"progress":[0.2,0.8],"sigma":null,"steps":null}',
            "constant(2).inverted().inside(progress=(0.2, 0.8))",
        ),
        (
            '{"kind":"then","first":{"kind":"matched","base":{"kind":"linear","max":4.0,"min":1.0,"warmup":0,'
            '"warmup_start":0.0},"target":2.0,"limit":15.0},"second":{"kind":"constant","value":1.0},"at":10}',
            "linear(max=4, min=1).matched_to(2).then(1, at=10)",
        ),
        (
            '{"kind":"arithmetic","op":"*","left":{"kind":"constant","value":2.0},"right":{"kind":"power","max":7.5,'
            '"min":1.0,"warmup":0,"warmup_start":0.0,"power":2.0,"k":1.0}}',
            "2 * power(max=7.5, min=1)",
        ),
    ]:
        assert parse(text).to_json() == line
        assert Cosine.from_json(line) == parse(text)
    for broken in ("{", "[", '{"kind":"cosine","q":1}', '{"kind":"x"}', "null"):
        with pytest.raises(InputError, match=r"^the JSON of a schedule: "):
            Cosine.from_json(broken)
