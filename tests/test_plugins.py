"""Schedules and transforms of other packages: found by entry points or by subclassing, refused by contract."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, ConfigDict, Field

import cfglab
from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS, Guidance, Rescale, Transform, check_transform, parse_guidance, parse_transform
from cfglab.plugins import EntryPoints, NotReadyError, PluginWarning, Registry
from cfglab.schedules import SHAPES, AnySchedule, Constant, Cosine, Linear, Schedule, constructor, parse
from cfglab.schedules.registry import KINDS
from cfglab.step import Step

pytestmark = pytest.mark.usefixtures("names_as_before")
SOURCE = Path(cfglab.__file__).parents[1]
SAWTOOTH = '''
from cfglab.schedules import Linear, Schedule, constructor

class Sawtooth(Schedule):
    """Falls from high to low several times. More words."""

    kind: str = "sawtooth"
    low: float = 2.0
    high: float = 6.0
    teeth: int = 4

    def _w(self, step):
        return high_at(self, step)

def high_at(saw, step):
    return saw.high - (saw.high - saw.low) * (saw.teeth * step.progress % 1)

@constructor
def three_to(*, w: float):
    """A line from 3."""
    return Linear(max=3, min=w)
'''
DOUBLED = '''
from typing import Literal
from cfglab.guidance import Transform

class Doubled(Transform):
    """Twice the update."""

    kind: Literal["doubled"] = "doubled"

    def update(self, update, now):
        return 2 * update
'''
EXPERIMENT = """
name: own
model: mixture:two
sampler: euler
prompts: [class 0]
seeds: 0..1
steps: 4
baseline: {name: constant, guidance: "4"}
groups:
  - name: saw
    guidance: "sawtooth(teeth={teeth}) | doubled(strength=0.5)"
    axes: {teeth: [1, 4]}
"""


def distribution(folder: Path, name: str, entries: str, **modules: str) -> Path:
    """A folder for sys.path as an installed distribution leaves it: its modules, and a dist-info with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)
    return folder


def sawtooth(folder: Path) -> Path:
    return distribution(
        folder,
        "sawtooth",
        "[cfglab.schedules]\nsawtooth = saw_schedules:Sawtooth\nthree_to = saw_schedules:three_to\n"
        "[cfglab.transforms]\nall = saw_transforms\n",
        saw_schedules=SAWTOOTH,
        saw_transforms=DOUBLED,
    )


def python(*arguments: str, path: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(path)]), "COLUMNS": "300"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, timeout=120
    )


def test_a_second_distribution_is_listed_read_stored_and_run(tmp_path: Path) -> None:
    path = sawtooth(tmp_path / "installed")
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    code = """
import json, sys
import cfglab as cl
assert "saw_schedules" not in sys.modules
schedule = cl.parse("sawtooth(teeth=2).clip(high=5)")
import saw_schedules, saw_transforms
from cfglab.guidance import parse_transform
assert "saw_transforms" in sys.modules
assert schedule == saw_schedules.Sawtooth(teeth=2).clip(high=5)
assert cl.Schedule.from_json(schedule.to_json()) == schedule
assert json.loads(schedule.to_json())["base"] == {"kind": "sawtooth", "low": 2.0, "high": 6.0, "teeth": 2}
assert str(cl.parse("three_to(w=1)")) == "linear(max=3, min=1)"
guidance = cl.parse_guidance("sawtooth() | doubled(strength=0.5)")
assert cl.Guidance.from_json(guidance.to_json()) == guidance
assert "Sawtooth" in json.dumps(cl.Guidance.model_json_schema())
from cfglab.cli import call
assert call(["run", "own.yaml", "--out", "run"]) == 0
store = cl.Store.open("run")
assert [str(setting.guidance) for setting in store.experiment.settings[1:]] == [
    "sawtooth(teeth=1) | doubled(strength=0.5)", "sawtooth() | doubled(strength=0.5)"
]
assert len({result.cell for result in store.results() if result.status == "done"}) == 6
assert len({result.metrics["log_density"] for result in store.results()}) == 6
assert call(["list"]) == 0
"""
    done = python("-c", code, path=path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "Falls from high to low several times." in lines["sawtooth(…)"]
    assert "A line from 3." in lines["three_to(…)"]
    assert "Twice the update." in lines["doubled(…)"]
    assert "Warning" not in done.stderr


BROKEN = {
    "bad-import": ("[cfglab.schedules]\nb1 = b1:B\n", "import no_such_module\n", "No module named 'no_such_module'"),
    "bad-exit": ("[cfglab.schedules]\nb2 = b2:B\n", "raise SystemExit('goodbye')\n", "SystemExit: goodbye"),
    "bad-attribute": ("[cfglab.schedules]\nb3 = b3:B\n", "", "module 'b3' has no attribute 'B'"),
    "bad-value": ("[cfglab.schedules]\nb4 = b4:B\n", "B = 3\n", "b4:B is no schedule with the name 'b4'"),
    "bad-contract": (
        "[cfglab.schedules]\nb5 = b5:B\n",
        "from cfglab.schedules import Schedule\nclass B(Schedule):\n    kind: str = 'b5'\n"
        "    def _w(self, step):\n        return float('inf')\n",
        "schedule 'b5' of b5.B breaks the contract that w is a finite number",
    ),
    "bad-late": (
        "[cfglab.schedules]\nb6 = b6\n",
        "from cfglab.schedules import Schedule\nclass B(Schedule):\n    kind: str = 'b6'\n"
        "    def _w(self, step):\n        return value()\ndef value():\n    return float('nan')\n",
        "schedule 'b6' of b6.B breaks the contract that w is a finite number: nan",
    ),
    "bad-name": (
        "[cfglab.schedules]\nother = b7:B\n",
        "from cfglab.schedules import Schedule\nclass B(Schedule):\n    kind: str = 'b7'\n"
        "    def _w(self, step):\n        return 1.0\n",
        "b7:B is no schedule with the name 'other'",
    ),
    "bad-file": ("[cfglab.schedules]\nno equals sign\n", "", "left out"),
    "bad-again-a": ("[cfglab.schedules]\nagain = b8:B\n", "", "bad-again-a 1.0 and bad-again-b 1.0 have the same name"),
    "bad-again-b": ("[cfglab.schedules]\nagain = b9:B\n", "", "bad-again-a 1.0 and bad-again-b 1.0 have the same name"),
    "bad-lines": ("[cfglab.transforms]\nc1 = c1\n", "raise ValueError('one\\x1b[31m\\ntwo')\n", "ValueError: one"),
}


def test_a_broken_distribution_costs_one_line_that_names_it_and_all_else_works(tmp_path: Path) -> None:
    path = sawtooth(tmp_path)
    for name, (entries, code, _) in BROKEN.items():
        module = entries.rpartition("= ")[2].strip().partition(":")[0] if "=" in entries else "unused"
        distribution(path, name, entries, **{module: code})
    done = python("-m", "cfglab", "list", path=path)
    assert done.returncode == 0, done.stderr
    assert {"sawtooth(…)", "doubled(…)", "cosine(…)", "apg(…)"} <= {
        line.split()[0] for line in done.stdout.splitlines() if line
    }
    assert not {"b5(…)", "b6(…)", "b7(…)", "again(…)"} & {line.split()[0] for line in done.stdout.splitlines() if line}
    lines = done.stderr.splitlines()
    assert len(lines) == len(BROKEN), done.stderr
    for name, (_, _, reason) in BROKEN.items():
        (line,) = [line for line in lines if line.startswith(f"{name} 1.0:") or line.startswith(f"{name}:")]
        assert reason in line
        assert "\x1b" not in line


def test_help_and_import_load_no_entry_point_and_no_torch(tmp_path: Path) -> None:
    path = sawtooth(tmp_path)
    (path / "saw_schedules.py").write_text("raise SystemExit('imported')")
    (path / "saw_transforms.py").write_text("raise SystemExit('imported')")
    code = """
import sys
import cfglab as cl
from cfglab.cli import call
cl.parse("cosine(max=7.5, min=1).inverted()"), cl.parse_guidance("7.5 | rescale()").to_json()
assert call(["--help"]) == 0 and call(["run", "--help"]) == 0
assert not {"torch", "saw_schedules", "saw_transforms"} & {*sys.modules}
try:
    cl.parse("no_such_shape()")
except cl.InputError as error:
    assert "did you mean" in str(error) or "write one of them" in str(error)
assert "torch" not in sys.modules
"""
    done = python("-c", code, path=path)
    assert done.returncode == 0, done.stderr
    assert "sawtooth 1.0" in done.stderr  # the unknown name asked for the entry points


def schedule(kind: str = "own_in_a_test", base: type = Schedule, **members: Any) -> type:
    """A subclass of Schedule; members that are pairs are fields, (type, default)."""
    return _class(base, kind, {"_w": lambda *_: 2.0, **members})


def transform(kind: str = "own_in_a_test", base: type = Transform, **members: Any) -> type:
    return _class(base, kind, members)


def _class(base: type, kind: str, members: dict[str, Any]) -> type:
    fields = {name: value for name, value in members.items() if isinstance(value, tuple)}
    others = {name: value for name, value in members.items() if name not in fields}
    defaults = {name: value[1] for name, value in fields.items() if len(value) == 2}
    annotations = {"kind": str} | {name: value[0] for name, value in fields.items()}
    body = {"__annotations__": annotations, "__module__": __name__, "kind": kind, **defaults, **others}
    return type(base)("Own", (base,), body)


def test_a_subclass_is_read_printed_stored_and_compared_as_a_shape_is() -> None:
    own = schedule(low=(float, 2.0), count=(int, 3), limits=(tuple[float, ...], (1.0,)))
    value = own(low=2.5, limits=(1, 2))
    assert str(value) == "own_in_a_test(low=2.5, limits=(1, 2))"
    assert repr(value) == "Own(low=2.5, limits=(1, 2))"
    assert parse(str(value.inverted(1, 4))) == value.inverted(1, 4)
    assert Schedule.from_json((value + 1).to_json()) == value + 1
    assert SHAPES["own_in_a_test"] is own
    assert parse("own_in_a_test(limits=(4,))") == own(limits=(4,))
    with pytest.raises(InputError, match="own_in_a_test has no 'lo': it takes low, count, limits; did you mean low"):
        parse("own_in_a_test(lo=3)")
    with pytest.raises(InputError, match=r"own_in_a_test\(low=nan\): a finite number is needed"):
        own(low=math.nan)
    with pytest.raises(InputError, match="a class has one kind, own_in_a_test"):
        own(kind="cosine")


def test_a_schedule_around_another_is_called_by_name() -> None:
    class Around(Schedule):
        kind: Literal["around_in_a_test"] = "around_in_a_test"
        base: AnySchedule

        def _w(self, step: Step) -> float:
            return 2 * self.base(step)

    value = parse("around_in_a_test(base=linear(max=8, min=4) + 1).clip(high=20)")
    assert value.values(2) == [18.0, 14.0]
    assert str(value) == "around_in_a_test(base=linear(max=8, min=4) + 1).clip(high=20)"
    assert repr(Around(base=3)) == "Around(base=3)"
    assert Schedule.from_json(value.to_json()) == value
    assert parse("around_in_a_test(base=[1, 2])").values(2) == [2.0, 4.0]


def test_a_class_that_is_defined_again_takes_the_place_of_the_former() -> None:
    """As when a cell of a notebook runs twice."""
    first, second = schedule(low=(float, 2.0)), schedule(high=(float, 2.0))
    assert KINDS["own_in_a_test"] is second is not first


def test_a_class_that_uses_what_comes_below_it_is_checked_at_its_first_lookup() -> None:
    def names() -> dict[str, Any]:
        return {"__name__": "below", "Schedule": Schedule}

    code = "class Own(Schedule):\n    kind: str = 'own_in_a_test'\n    def _w(self, step):\n        return below()\n"
    exec(code, names())
    with pytest.raises(InputError, match="name 'below' is not defined while its contracts are checked; define it"):
        parse("own_in_a_test()")
    assert "own_in_a_test" not in KINDS.names()
    exec(code + "def below():\n    return 2.0\n", names())
    assert parse("own_in_a_test()").values(1) == [2.0]
    exec(code + "def below():\n    return float('nan')\n", names())
    with pytest.raises(InputError, match=r"below\.Own breaks the contract that w is a finite number"):
        parse("own_in_a_test()")


def changing() -> Any:
    values = iter(range(1000))
    return lambda *_: float(next(values))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "not frozen": ({"model_config": ConfigDict(frozen=False)}, "it is an immutable value, frozen=True"),
    "takes any field": ({"model_config": ConfigDict(extra="allow")}, "it refuses fields that it does not have"),
    "not hashable": ({"entries": (list, [])}, "equal values have one hash"),
    "repr": ({"__repr__": lambda _: "Constant(2)"}, r"breaks the contract eval\(repr\(x\)\) == x"),
    "repr of a name that is none": ({"__repr__": lambda _: "Own('"}, r"breaks the contract eval\(repr\(x\)\) == x"),
    "text": ({"__str__": lambda _: "2"}, r"breaks the contract parse\(str\(x\)\) == x"),
    "text of another value": (
        {"low": (float, 2.0), "__str__": lambda _: "own_in_a_test()"},
        r"breaks the contract parse\(str\(x\)\) == x, for 'own_in_a_test\(\)'",
    ),
    "words in text": ({"mode": (str, "a")}, r"numbers, tuples of numbers and schedules, but mode is 'a'"),
    "JSON": (
        {"low": (Annotated[float, Field(exclude=True)], 2.0)},
        r"breaks the contract from_json\(x\.to_json\(\)\) == x, for 'own_in_a_test\(low=3\)'",
    ),
    "infinite": ({"_w": lambda *_: math.inf}, "w is a finite number: inf at step 0 of 1"),
    "infinite in long runs": ({"_w": lambda _, step: math.nan if step.count == 50 else 1.0}, "nan at step 0 of 50"),
    "infinite for a field": ({"low": (float, 0.0), "_w": lambda self, *_: 1.0 if self.low < 1 else math.inf}, "inf"),
    "text for a number": ({"_w": lambda *_: "2"}, "w is a finite number: '2'"),
    "an error": ({"_w": lambda *_: 1 / 0}, "ZeroDivisionError while its contracts are checked"),
    "a memory": ({"_w": changing()}, "w depends on the step alone"),
    "sigma unsaid": ({"_w": lambda _, step: step.sigma or 1.0}, "breaks the contract of reads_sigma"),
    "no example": ({"low": (str,)}, r"no example of it could be made .* write example = \{'low': …\} in the class"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_schedule_that_breaks_a_contract_is_refused_by_name(name: str) -> None:
    members, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        schedule(**members)
    assert str(caught.value).startswith(f"schedule 'own_in_a_test' of {__name__}.Own")
    assert "\n" not in str(caught.value)
    assert "own_in_a_test" not in KINDS.names()
    with pytest.raises(InputError, match="unknown shape 'own_in_a_test'"):
        parse("own_in_a_test()")


def test_a_field_without_default_is_checked_with_the_example_of_the_class() -> None:
    def refuse(value: float) -> float:
        if value != 42:
            raise ValueError("it is 42; write 42.")
        return value

    answer = Annotated[float, AfterValidator(refuse)]
    with pytest.raises(InputError, match="no example of it could be made"):
        schedule(low=(answer,))
    own = schedule(low=(answer,), example={"low": 42.0})
    assert parse("own_in_a_test(low=42)") == own(low=42)


@pytest.mark.parametrize(
    "name", ["then", "warmed_up", "inverted", "nan", "steps", "pcs", "class", "Cosine", "a b", "", "ü"]
)
def test_a_name_that_the_language_uses_or_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="choose another"):
        schedule(name)
    with pytest.raises(InputError, match="choose another"):
        transform(name)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"schedule 'cosine' of .*Own: cfglab\.schedules\.shapes\.Cosine has this name"
    ):
        schedule("cosine")
    with pytest.raises(InputError, match="Cosine has this name"):
        schedule("cosine", base=Cosine)
    with pytest.raises(InputError, match=r"transform 'rescale' of .*Rescale has this name"):
        transform("rescale", base=Rescale)
    with pytest.raises(InputError, match="cosine is the name of a schedule"):
        transform("cosine")
    assert SHAPES["cosine"] is Cosine
    assert TRANSFORMS["rescale"] is Rescale

    def pcs(*, w: float) -> Schedule:
        return Linear(max=w)

    with pytest.raises(InputError, match="has this name"):
        constructor(pcs)
    pcs.__name__ = "linear"
    with pytest.raises(InputError, match="linear is the name of a schedule"):
        constructor(pcs)


REFUSED_TRANSFORMS: dict[str, tuple[dict[str, Any], str]] = {
    "not frozen": ({"model_config": ConfigDict(frozen=False)}, "it is an immutable value"),
    "not hashable": ({"layers": (list, [])}, "equal values have one hash"),
    "repr": ({"__repr__": lambda _: "PAG()"}, r"breaks the contract eval\(repr\(x\)\) == x"),
    "text": ({"__str__": lambda _: "pag()"}, r"breaks the contract parse\(str\(x\)\) == x"),
    "strength beyond 1": ({"strength": (float, 1.0)}, r"strength is 0 to 1: it takes -0\.5"),
    "no strength 0": ({"strength": (Literal[1.0], 1.0)}, "strength 0 is plain CFG: it refuses it"),
    "strength 0 that is none": (
        {"strength": (Annotated[float, AfterValidator(lambda value: max(value, 0.1))], 1.0)},
        r"strength 0 is plain CFG: it becomes 0\.1",
    ),
    "no example": ({"layer": (str,)}, "no example of it could be made"),
}


@pytest.mark.parametrize("name", REFUSED_TRANSFORMS)
def test_a_transform_that_breaks_a_contract_is_refused_by_name(name: str) -> None:
    members, message = REFUSED_TRANSFORMS[name]
    with pytest.raises(InputError, match=message) as caught:
        transform(**members)
    assert str(caught.value).startswith(f"transform 'own_in_a_test' of {__name__}.Own")
    assert "own_in_a_test" not in TRANSFORMS


def test_a_transform_with_texts_and_switches_is_fine() -> None:
    own = transform(mode=(str, "a b|c"), on=(bool, True), layers=(tuple[str, ...], ("mid",)))
    guidance = Guidance(3, [own(mode="x|y", on=False)])
    assert parse_guidance(str(guidance)) == guidance == Guidance.from_json(guidance.to_json())


NUMBERS: dict[str, tuple[Any, str]] = {
    "equal": (lambda _, guided, *__: guided + 1, "cond == uncond gives cond"),
    "finite": (lambda _, guided, *__: guided / 0, "the prediction is finite"),
    "batch": (lambda _, guided, now: guided + now.cond.mean() - now.uncond.mean(), "a batch gives the same"),
}


RESULTS: dict[str, tuple[Any, str]] = {
    "changed in place": (lambda _, guided, *__: guided.clamp_(-0.1, 0.1), "changes a tensor that it is given; a hook"),
    "changed another": (lambda _, guided, now: guided + now.cond.zero_(), "its prediction changes a tensor that"),
    "nothing": (lambda *_: None, r"returns NoneType: a hook returns a tensor of shape \(.*\), as it got"),
    "narrower": (lambda _, guided, *__: guided[:, :1], r"returns a tensor of shape \(.*\): a hook returns a tensor of"),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("strength", [1, 0.5])
def test_a_hook_that_breaks_what_it_is_given_or_returns_no_such_tensor_is_one_line(name: str, strength: float) -> None:
    hook, message = RESULTS[name]
    with pytest.raises(InputError, match=message):
        check_transform(transform(prediction=hook)(strength=strength))


@pytest.mark.parametrize("name", NUMBERS)
def test_check_transform_names_the_contract_that_the_numbers_break(name: str) -> None:
    hook, message = NUMBERS[name]
    with pytest.raises(InputError, match=message):
        check_transform(transform(prediction=hook)())


def test_check_transform_accepts_transforms_of_cfglab() -> None:
    for text in ("apg()", "rescale()", "pag()", "momentum()", "cfg_zero_star()", "mahiro()"):
        check_transform(parse_transform(text))


def test_a_value_that_fails_leaves_the_former_one() -> None:
    registry: Registry[Any] = Registry("schedule")
    first, second = (type("Own", (), {"__module__": "own"}) for _ in range(2))

    def refuse(_: Any) -> None:
        raise InputError("no.")

    registry.enter("own", first)
    with pytest.raises(InputError):
        registry.enter("own", second, refuse)
    assert registry["own"] is first


def test_entry_points_are_loaded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "counted_in_a_test.py").write_text(r"raise ValueError('once \x1b[31m')")
    distribution(tmp_path, "counted", "[cfglab.in_a_test]\nx = counted_in_a_test\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Any] = Registry("schedule", EntryPoints("cfglab.in_a_test"))
    with pytest.warns(PluginWarning, match="ValueError: once") as caught:
        assert "x" not in registry
    (warning,) = caught
    assert "\x1b" not in str(warning.message)
    assert warning.filename == "counted 1.0"
    assert list(registry) == []
    assert "y" not in registry


def test_a_schedule_is_not_equal_to_a_number() -> None:
    assert Constant(1) != 1
    assert Cosine() != "cosine()"


def test_a_name_of_a_package_that_is_not_installed_says_what_to_do() -> None:
    for read, text in (
        (Schedule.from_json, '{"kind": "zzzz"}'),
        (Guidance.from_json, '{"schedule": 3, "transforms": [{"kind": "zzzz"}]}'),
    ):
        with pytest.raises(InputError, match="or install the package that adds it"):
            read(text)


def test_a_class_of_another_module_that_is_not_ready_is_not_the_fault_of_a_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    distribution(tmp_path, "ready", "[cfglab.in_a_test]\nx = ready_in_a_test\n", ready_in_a_test="")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Any] = Registry("schedule", EntryPoints("cfglab.in_a_test"))

    def not_ready(_: Any) -> None:
        raise NotReadyError("not yet")

    registry.enter("own", Cosine, not_ready)
    assert "x" not in registry  # loads the entry point, without a warning
    with pytest.raises(InputError, match=r"schedule 'own' of cfglab\.schedules\.shapes\.Cosine: not yet"):
        registry["own"]
