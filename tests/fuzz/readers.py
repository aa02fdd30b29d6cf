"""Every reader of text from outside, what good input looks like, and how it is spoiled.

A reader either gives a value that prints and reads back to an equal one, or raises a CfglabError of one line, within
`limits.SECONDS` of processor time.
"""

import gc
import json
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, PngImagePlugin

from cfglab import limits
from cfglab.errors import CfglabError
from cfglab.experiments.spec.experiment import Experiment, read_assignments
from cfglab.experiments.spec.prompts import expand_prompts, read_seeds
from cfglab.experiments.storage.png import read_record
from cfglab.experiments.tuning.search_space import SearchSpace
from cfglab.experiments.tuning.successive_halving import Rung
from cfglab.guidance import Guidance, parse_guidance
from cfglab.json_text import read_json
from cfglab.schedules import Schedule, as_schedule, from_invokeai, from_sd_cpp, parse, to_invokeai, to_sd_cpp
from cfglab.yaml_text import read_yaml, write_yaml
from tests.experiments.examples import SMALL

STEPS = 7
_FOLDER = tempfile.TemporaryDirectory()
IMAGE = Path(_FOLDER.name) / "image.png"
SIGMAS = [14.6, 7.0, 3.0, 1.5, 0.8, 0.3, 0.1, 0.0]


class TooSlow(BaseException):
    """A reader took more processor time than it may; no reader catches this."""


@contextmanager
def deadline(seconds: float = limits.SECONDS) -> Iterator[None]:
    """Raise TooSlow where what is inside takes more processor time; without effect where there are no such signals.

    The collector of cyclic garbage waits meanwhile: it looks through the objects of all tests before this one.
    """
    if not hasattr(signal, "SIGPROF"):
        yield
        return

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {seconds} s")

    before, collects = signal.signal(signal.SIGPROF, stop), gc.isenabled()
    gc.disable()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        if collects:
            gc.enable()


# -- readers -----------------------------------------------------------------------------------------------------------


def read_schedule(text: str) -> None:
    schedule = parse(text)
    assert parse(str(schedule)) == schedule
    assert Schedule.from_json(schedule.to_json()) == schedule
    _run(schedule)


def read_guidance(text: str) -> None:
    guidance = parse_guidance(text)
    assert parse_guidance(str(guidance)) == guidance
    assert Guidance.from_json(guidance.to_json()) == guidance


def read_schedule_json(text: str) -> None:
    schedule = Schedule.from_json(text)
    assert parse(str(schedule)) == schedule
    assert Schedule.from_json(schedule.to_json()) == schedule
    _run(schedule)


def read_guidance_json(text: str) -> None:
    guidance = Guidance.from_json(text)
    assert Guidance.from_json(guidance.to_json()) == guidance
    assert parse_guidance(str(guidance)) == guidance


def read_objects(text: str) -> None:
    """Objects of Python, as a program hands them over."""
    value = read_json(text)
    with suppress(CfglabError):
        _run(as_schedule(value))
    if isinstance(value, dict):
        with suppress(CfglabError):
            Guidance(**{"schedule": 7.5, **value})


def read_placeholders(text: str) -> None:
    SearchSpace.of(text, STEPS)


def read_yaml_text(text: str) -> None:
    value = read_yaml(text)
    if len(text) < 10_000 and "nan" not in str(value).lower():
        assert read_yaml(write_yaml(value)) == value


def read_experiment(text: str) -> None:
    experiment = Experiment.from_yaml(f"{text}\n")
    if len(text) > 10_000:  # writing is PyYAML's, which is slow
        return
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment


def read_set(text: str) -> None:
    experiment = Experiment.from_yaml(SMALL, set=read_assignments([text]))
    if len(text) > 10_000:
        return
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment


def read_lists(text: str) -> None:
    with suppress(CfglabError):
        schedule = from_sd_cpp(text)
        assert from_sd_cpp(to_sd_cpp(schedule, len(schedule.entries))) == schedule
    with suppress(CfglabError):
        schedule = from_invokeai(text)  # type: ignore[assignment]
        to_invokeai(schedule, STEPS)


def read_prompts_and_seeds(text: str) -> None:
    for read in (read_seeds, expand_prompts, Rung.read):
        with suppress(CfglabError):
            read(text)


def read_record_text(text: str) -> None:
    """The record in a PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_text("cfglab", text.encode("latin-1", "replace"), zip=True)
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="PNG", pnginfo=info)
    IMAGE.write_bytes(file.getvalue())
    read_record(IMAGE)


def _run(schedule: Schedule) -> None:
    with suppress(CfglabError):
        schedule.values(STEPS, SIGMAS)


# -- good input --------------------------------------------------------------------------------------------------------

SCHEDULES = [
    "7.5",
    "[8, 6, 4, 4, 4, 4, 4]",
    "3x8+4x6",
    "cosine(max=7.5, min=1, k=0.3, warmup=2).inverted()",
    "2 * linear(max=4, min=1) - 1",
    "constant(7.5).then(1, at=0.5).then([2, 3, 4, 5, 6, 7, 8], at=3)",
    "power(max=7.5, min=1, power=3).inside(progress=(0.2, 0.8))",
    "c2fg(max=2, rate=0.693).warmed_up(steps=2).clip(low=0, high=9)",
    "cfg_plus_plus(lam=0.6).inside(sigma=(0.28, 5.42))",
    "wang_v(w0=4).matched_to(3, weight='effective', sigmas=[14, 5, 1, 0.5, 0.2, 0.1, 0.05, 0])",
    "cutoff(w=7.5, at=0.4) + late_start(w=2, at=3)",
]
GUIDANCES = [
    *SCHEDULES[:4],
    "7.5 | prediction_norm(strength=0.5) | apg(eta=0.5, momentum=-0.5)",
    "cosine() | perp_neg(prompt='a | b', weight=1) | skip_layers(layers=('a', 'b'), stop=1)",
    '4 | dual_cfg(prompt="a \\"blue\\" ball") | reuse(every=2)',
]
SPACES = [
    "cosine(max={max:1..6}, min=1, k={k:0.2..5:log}).inverted() | prediction_norm(strength={s:0..1})",
    "constant({w:1..6}).warmed_up(steps={n:1..5:int}) | {norm:full_norm|update_norm}",
    "{w:knots(3):0..6}",
    "constant({w:1..6}).then({w}, at={at:0.1..1})",
]
YAML = [
    SMALL,
    "name: a\nprompts: ['x', \"y\\n\", 'scenes:4']\nseeds: [1, 3..4]\nsteps: 4\nconstants: {best: 4, t: [1, 2, 3, 4]}\n"
    "baseline: &b {guidance: '{best}'}\ngroups:\n- name: g\n  guidance: '{w}'\n  axes:\n    w: [1, 2.5, [1, 2, 3, 4]]\n"
    "settings:\n- {name: s, guidance: 7.5 | apg()}\n",
    "a: {b: [1, 0x1F, 1e3, ~, true, 'no', 7:30, 010]}\nc: &x [1, 2]\nd: *x\n? e\n: |\n  text\n  more\nf: !!str 12\n",
]
SETS = ["steps=20", "groups.0.axes.k=[0.3, 1]", "baseline.guidance=[8, 6, 4]", "prompts=scenes:4", "compile=true"]
LISTS = ["3x3+7x45", "7.5", "[7.5, 7, 3]", "3.0x3+7.0x45", "7", "0..7", "scenes:16", "32x1:3,64x2:2,64x8:1"]
RECORD = json.dumps(
    {
        "cell": (
            cell := {
                "model": "scenes",
                "weights": "a" * 64,
                "prompt": "a cat",
                "negative": "",
                "seed": 0,
                "steps": 5,
                "width": 8,
                "height": 8,
                "sampler": "lms",
                "sampler_config": {},
                "dtype": "float32",
                "guidance": json.loads(parse_guidance(GUIDANCES[4]).to_json()),
            }
        ),
        "batch": [cell],
        "index": 0,
        "versions": {"torch": "2.0"},
    }
)

READERS: dict[str, tuple[Callable[[str], None], list[str]]] = {
    "schedule": (read_schedule, SCHEDULES),
    "guidance": (read_guidance, GUIDANCES),
    "schedule json": (read_schedule_json, [parse(text).to_json() for text in SCHEDULES]),
    "guidance json": (read_guidance_json, [parse_guidance(text).to_json() for text in GUIDANCES]),
    "objects": (read_objects, [parse_guidance(text).to_json() for text in GUIDANCES[4:]]),
    "placeholders": (read_placeholders, SPACES),
    "yaml": (read_yaml_text, YAML),
    "experiment": (read_experiment, [*YAML[:2], json.dumps(yaml.safe_load(SMALL))]),
    "set": (read_set, SETS),
    "lists": (read_lists, LISTS),
    "prompts and seeds": (read_prompts_and_seeds, LISTS),
    "record": (read_record_text, [RECORD]),
}
"""Reader and good input by name."""

# -- how it is spoiled -------------------------------------------------------------------------------------------------

PIECES = [
    *"()[]{}:,.|&*!?-+='\"\\#%@`~<>/;_ \t\n\r\f\0\x1b\x7f\x85\xa0",
    *("\u2028", "\ufeff", "é", "٣", "７", "\ud800", "\U0001f600", "ß", "ﬁ"),
    *(
        "--",
        "..",
        "<<",
        "&a ",
        "*a",
        "!!int ",
        "!!python/object:os.system ",
        "---\n",
        "? ",
        "- ",
        ": ",
        "\n  ",
        "%YAML 1.1\n",
    ),
    *("0", "1", "10", "010", "0x", "0o10", "0b1", "1_0", "1e400", "1e-400", "-0", "1.0", "nan", "inf", ".inf", "7:30"),
    *("9" * 25, "9" * 500, "9" * 5000, "1" + "0" * 310, "0." + "1" * 300),
    *("null", "None", "true", "True", "yes", "off", "{}", "[]", "''", "()"),
    *(
        "x",
        "1x2",
        "+1x2",
        "a",
        "max",
        "max=1",
        "at=1.0",
        "kind",
        '"kind"',
        '"kind":"then"',
        "constant(1)",
        ".inverted()",
    ),
    *(".then(1, at=1)", "{w:1..2}", "{w}", "knots(3):", "strength=1", "transforms", "schedule", "guidance", "axes"),
    *("lambda: 0", "if", "else ", "for a in b", "f'{", "b''", "await ", "not ", ":=", "**", "//", "@", "1j"),
]
ODD: list[Any] = [
    *(None, True, False, "", "x", [], {}, [[]], {"kind": "constant"}, {"kind": []}, -1, 0, 1, 1.0, 2**31, 2**63, 2**64),
    *(10**30, 10**399, 1e308, 1e-320, -0.5, 0.5, 1.5, "\ud800", "\0", "9" * 5000, [0] * 50, {"": {"": {}}}, ["a", 1]),
    *([1, [2, [3, [4]]]], {"kind": "function"}, {"kind": "inverted", "base": 1}, "7.5", "7.5 | apg()", "{w}"),
]


def spoiled(text: str, choose: random.Random) -> str:
    """The text with a few pieces put in, taken out, repeated or exchanged."""
    for _ in range(choose.randint(1, 4)):
        first = choose.randint(0, len(text))
        last = min(len(text), first + choose.choice((0, 0, 1, 1, 3, 10, 40)))
        match choose.randint(0, 5):
            case 0 | 1 | 2:
                text = text[:first] + choose.choice(PIECES) + text[last:]
            case 3:
                text = text[:first] + text[last:]
            case 4:
                text = text[:first] + text[first:last] * choose.choice((2, 3, 30, 300)) + text[last:]
            case 5:
                other = choose.randint(0, len(text))
                text = text[:first] + text[other : other + 20] + text[last:]
    return text


def spoiled_json(text: str, choose: random.Random) -> str:
    """The JSON with one to three of its values replaced by odd ones, left out, or wrapped in itself."""
    data = json.loads(text)
    for _ in range(choose.randint(1, 3)):
        places = list(_places(data))
        if not places:
            break
        parent, key = choose.choice(places)
        match choose.randint(0, 5):
            case 0 | 1 | 2:
                parent[key] = deepcopy(choose.choice(ODD))
            case 3:
                parent.pop(key)
            case 4:
                with suppress(RecursionError):  # too deep to be copied
                    parent[key] = deepcopy(choose.choice(places)[0])
            case 5:
                value = parent[key]
                for _ in range(choose.choice((1, 5, 60, 300))):
                    value = choose.choice(
                        ({"kind": "inverted", "base": value}, [value], {"kind": "scaled", "base": value})
                    )
                parent[key] = value
    try:
        return json.dumps(data)
    except RecursionError:  # too deep to be written
        return text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield value, key
        yield from _places(inner)


def long(piece: str, length: int, before: str = "", after: str = "") -> str:
    """A piece so often that the text has about this length."""
    return before + piece * (length // len(piece)) + after


def check(name: str, text: str) -> None:
    """Let a reader read; anything but success or an error of one line is raised, with what was read."""
    reader = READERS[name][0]
    try:
        with deadline():
            reader(text)
    except CfglabError as error:
        message = str(error)
        assert message, "an error says something"
        assert "\n" not in message.strip("\n"), f"{name} answers {text[:300]!r} in several lines: {message!r}"
        assert len(message) < 5_000, f"{name} answers {text[:300]!r} with {len(message)} letters"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        kept = Path(tempfile.gettempdir()) / "cfglab-fuzz-input.txt"
        kept.write_text(text, encoding="utf-8", errors="surrogatepass")
        raise AssertionError(
            f"{name}: {type(error).__name__} {str(error)[:300]} for {text[:500]!r} (all: {kept})"
        ) from error
