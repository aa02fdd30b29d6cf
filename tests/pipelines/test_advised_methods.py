"""What advise() says of the methods that change a network, against what they do on a tiny model of each class."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from torch import nn

import cfglab as cl
from cfglab import cli
from cfglab.errors import InputError
from cfglab.guidance.perturbations.layer_names import transformer_blocks
from cfglab.pipelines.advice.catalogue import families, tried
from cfglab.pipelines.advice.methods import methods_for, not_guided
from cfglab.pipelines.advice.starting_points import starting_points
from cfglab.pipelines.interception.wrapped_modules import core_of
from tests.pipelines.families import Case, cases
from tests.pipelines.test_builders import shared

pytestmark = pytest.mark.filterwarnings("ignore:every row is run at every step of this run")

OTHER = "prompt='a grey dog'"  # of another length than the cases' own
METHODS = {
    "pag": "pag(layers={})",
    "seg": "seg(layers={})",
    "tpg": "tpg(layers={})",
    "pladis": "pladis(layers={})",
    "nag": f"nag(s=5, {OTHER})",
    "vsf": f"vsf({OTHER})",
    "skip_layers": "skip_layers(layers={}, start=0, stop=1)",
}
NEGATIVE = {"ZImagePipeline": "grey"}  # the tiny tokenizer makes no token of empty text
NO_MEANING = {("StableVideoDiffusionPipeline", "pladis")}  # attention to one vector has one weight, which is 1
CLASSES: dict[str, Case] = {}
for made in cases():
    if any(family.pipeline == made.cls and not not_guided(family) for family in families().values()):
        CLASSES.setdefault(made.cls, made)


def network(made: Case) -> nn.Module:
    return core_of(getattr(shared(made), made.denoisers[0]))


def layers(denoiser: nn.Module, method: str) -> Iterator[str]:
    """Layers that a user may name: blocks of every stack, and for what needs no whole block the parts of them."""
    stacks = [
        (name, part) for name, part in denoiser.named_children() if isinstance(part, nn.ModuleList) and len(part) > 0
    ]
    blocks = ["mid"] if getattr(denoiser, "mid_block", None) is not None else []
    blocks += [f"{name}.{index}" for name, part in stacks for index in sorted({0, len(part) - 1})]
    blocks = list(dict.fromkeys([*blocks, *transformer_blocks(denoiser)]))
    yield from blocks
    if method in ("pag", "seg", "pladis", "skip_layers"):
        inside = [name for name in blocks if name != "mid"]
        yield from (f"{name}.{part}" for name in inside for part, _ in denoiser.get_submodule(name).named_children())
        yield from (name for name, part in denoiser.named_modules() if hasattr(part, "to_q") and hasattr(part, "to_k"))


def refusal(made: Case, text: str) -> str:
    """Why a guidance is refused; "" if it runs."""
    negative = {"negative": NEGATIVE[made.cls]} if made.cls in NEGATIVE else {}
    try:
        with cl.guide(shared(made), text):
            made.call(shared(made), made.scales[1], steps=2, **negative)
    except InputError as error:
        return str(error)
    return ""


def acting(made: Case, method: str) -> str | None:
    """A layer with which a method runs, "" for one that names none; None if it is refused with every one."""
    named = "{}" in METHODS[method]
    tries = layers(network(made), method) if named else iter([""])
    return next((one for one in tries if not refusal(made, f"4 | {METHODS[method].format(repr(one))}")), None)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_is_refused_does_not_apply_and_what_applies_is_not_refused(name: str) -> None:
    made = CLASSES[name]
    for method in METHODS:
        refused = acting(made, method) is None
        for family in families().values():
            if family.pipeline == name:
                advice = next(one for one in methods_for(family) if one.name == method)
                if refused:
                    assert advice.applies is False, (family.name, method)
                    assert advice.reason
                elif (name, method) not in NO_MEANING:
                    assert advice.applies is not False, (family.name, method, advice.reason)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_advise_recommends_to_start_from_runs(name: str) -> None:
    for family in families().values():
        if family.pipeline == name:
            for point in starting_points(family, methods_for(family)):
                said = refusal(CLASSES[name], point.text)
                few = "s2()" in point.text and "has no two transformer blocks" in said  # the tiny one
                assert not said or few, (family.name, point.text)


@pytest.mark.parametrize(("name", "method"), sorted(key for key, (acts, _) in tried().items() if acts))
def test_layers_that_the_advice_names_are_those_with_which_a_method_acts(name: str, method: str) -> None:
    made, reason = CLASSES[name], tried()[name, method][1]
    blocks = list(chain(transformer_blocks(network(made)), layers(network(made), method)))
    if "attn1" in reason:
        assert refusal(made, f"4 | {method}()")
        good, bad = next(one for one in blocks if one.endswith(".attn1")), "mid"
    else:
        right, wrong = (part.split()[0] for part in (reason.split("layers of ")[1], reason.split("those of ")[1]))
        good, bad = (next(one for one in blocks if one.startswith(f"{stack.strip(';')}.")) for stack in (right, wrong))
    assert not refusal(made, f"4 | {METHODS[method].format(repr(good))}")
    assert refusal(made, f"4 | {METHODS[method].format(repr(bad))}")


def test_every_class_and_method_that_was_tried_is_tried_here() -> None:
    assert {name for name, _ in tried()} <= CLASSES.keys()
    assert {method for _, method in tried()} <= METHODS.keys()


def test_the_reason_is_told(capsys: pytest.CaptureFixture[Any]) -> None:
    methods: dict[str, Any] = {one.name: one for one in cl.advise("lumina-2", 4).methods}
    assert (methods["tpg"].applies, "one sequence" in methods["tpg"].reason) == (False, True)
    assert cli.call(["advise", "flux2-dev", "--steps", "4"]) == 0
    assert "with layers of transformer_blocks" in " ".join(capsys.readouterr().out.split())
