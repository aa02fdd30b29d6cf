"""Guidance as a value, as text and as JSON; Guide in the pipeline's own dtype; errors in one line."""

from typing import Any

import pytest
import torch
from pydantic import BaseModel

import cfglab.guidance as g
from cfglab.errors import InputError
from cfglab.guidance import FullNorm, Guidance, PredictionNorm, Transform, UpdateNorm, as_guidance, parse_guidance
from cfglab.schedules import Constant, Cosine, Function, Linear, Power, Table
from cfglab.step import Step
from tests.guidance.examples import needs

STEP = Step(3, 10)
VALUES = [
    Guidance(7.5),
    Guidance([7.5, 5.0, 1.0]),
    Guidance(Cosine(max=7.5, min=1, k=0.3).inverted(), [PredictionNorm()]),
    Guidance("10x8+10x6", [UpdateNorm(strength=0.5, space="x0"), PredictionNorm(strength=0.125)]),
    Guidance(Cosine(max=7.5, min=1).inside(progress=(0.2, 0.8)) + 1, (FullNorm(space="model"),)),
]
TEXTS = [
    "7.5",
    "[7.5, 5, 1]",
    "cosine(max=7.5, min=1, k=0.3).inverted() | prediction_norm()",
    "10x8+10x6 | update_norm(strength=0.5, space=x0) | prediction_norm(strength=0.125)",
    "cosine(max=7.5, min=1).inside(progress=(0.2, 0.8)) + 1 | full_norm(space=model)",
]


@pytest.mark.parametrize(("value", "text"), list(zip(VALUES, TEXTS, strict=True)), ids=TEXTS)
def test_text_repr_json_and_hash_come_back(value: Guidance, text: str) -> None:
    assert str(value) == text
    assert parse_guidance(text) == Guidance(text) == value
    names = {**vars(g), "Cosine": Cosine, "Constant": Constant, "Linear": Linear, "Power": Power, "Table": Table}
    assert eval(repr(value), names) == value
    assert Guidance.model_validate_json(value.model_dump_json()) == value
    assert Guidance.from_json(value.to_json()) == value
    assert Guidance.model_validate(value.model_dump()) == value
    assert hash(parse_guidance(text)) == hash(value)


ONE = '{"kind": "constant", "value": 3.0}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"schedule": %s, "transforms": [{"kind": "warped_norm"}]}',
            "no transform 'warped_norm': there are",
        ),
        ('{"schedule": %s, "transforms": [{"kind": "apg", "depth": 2}]}', "apg has no 'depth': it takes strength,"),
        ('{"schedule": %s, "transforms": [{"kind": "apg", "as_in": "forge"}]}', "input should be 'paper', 'diffusers'"),
        ('{"schedule": {"kind": "warp"}, "transforms": []}', "a schedule of kind 'warp': the kinds are constant,"),
        (
            '{"schedule": %s, "transforms": [], "sampler": "x"}',
            "guidance has no 'sampler': it takes schedule,",
        ),
    ],
)
def test_json_of_a_newer_version_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        Guidance.from_json(text.replace("%s", ONE))
    assert str(error.value).startswith("the JSON of a guidance: ")
    assert said in str(error.value)
    assert str(error.value).endswith("Where a newer cfglab wrote it, read it with that one.")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ['{"transforms": []}', '{"schedule": ', "[1, 2]", "7.5"])
def test_what_is_not_the_json_of_a_guidance_is_said(text: str) -> None:
    with pytest.raises(InputError, match=r"is not the JSON of a guidance: it is an object with a schedule"):
        Guidance.from_json(text)


def test_a_function_is_not_stored() -> None:
    with pytest.raises(InputError, match=r"^the function '<lambda>' cannot be stored"):
        Guidance(lambda _: 7.5).to_json()


def test_guidance_is_a_field_of_other_values() -> None:
    class Holder(BaseModel):
        guidance: Guidance

    holder = Holder(guidance=VALUES[3])
    assert Holder.model_validate_json(holder.model_dump_json()) == holder


def test_as_guidance_takes_what_stands_for_one() -> None:
    class Foreign:
        def start(self, prediction: str) -> object:
            return prediction

    foreign = Foreign()
    assert as_guidance(7.5) == as_guidance("7.5") == as_guidance(Constant(7.5)) == Guidance(7.5)
    assert as_guidance("7.5|prediction_norm") == Guidance(7.5, [PredictionNorm()])
    assert as_guidance(foreign) is foreign
    assert as_guidance([7.5, 1]) == Guidance(Table((7.5, 1)))


def test_a_value_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        VALUES[0].schedule = Constant(1)
    assert len({Guidance(7.5), Guidance(7.5), Guidance(7.0)}) == 2


def test_a_transform_of_ones_own_lives_in_text_and_json_too() -> None:
    class Halved(Transform):
        """Half the prediction."""

        kind: str = "halved_in_a_test"

        def prediction(self, guided: torch.Tensor, *_: object) -> torch.Tensor:
            return guided / 2

    try:
        value = Guidance(2, [Halved()])
        assert parse_guidance(str(value)) == value == Guidance.model_validate_json(value.model_dump_json())
        ones = torch.ones(1, 2)
        assert torch.equal(value.start().combine(ones, 2 * ones, STEP), 1.5 * ones)
    finally:
        del g.TRANSFORMS["halved_in_a_test"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("w", [0.0, 0.5, 3.0, 7.5])
def test_plain_cfg_stays_in_the_pipelines_dtype_bit_for_bit(dtype: torch.dtype, w: float) -> None:
    generator = torch.Generator().manual_seed(2)
    uncond, cond = (torch.randn(2, 4, 8, 8, generator=generator).to(dtype) for _ in range(2))
    got = Guidance(w).start().combine(uncond, cond, STEP)
    assert got.dtype == dtype
    assert torch.equal(got, uncond + w * (cond - uncond))


@pytest.mark.parametrize(
    ("guidance", "needed"),
    [
        (Guidance(7.5), (True, True)),
        (Guidance(1), (False, True)),
        (Guidance(0), (True, False)),
        (Guidance(1, [PredictionNorm()]), (True, True)),
        (Guidance(0, [PredictionNorm()]), (True, True)),
        (Guidance(1, [PredictionNorm(strength=0)]), (False, True)),
        (Guidance(Constant(7.5).inside(steps=(4, 9)), [PredictionNorm()]), (False, True)),
        (Guidance(Constant(7.5).inside(steps=(3, 9)), [PredictionNorm()]), (True, True)),
        (Guidance([7.5, 7.5, 7.5, 1, 1, 1, 1, 1, 1, 1]), (False, True)),
    ],
    ids=str,
)
def test_needs(guidance: Guidance, needed: tuple[bool, bool]) -> None:
    guide = guidance.start()
    uncond, cond = torch.randn(2, 3), torch.randn(2, 3)
    assert needs(guide, STEP) == needed
    got = guide.combine(uncond if needed[0] else None, cond if needed[1] else None, STEP)
    assert torch.equal(got, guide.combine(uncond, cond, STEP))
    if needed == (False, True):
        assert got is cond


def test_a_function_is_a_schedule() -> None:
    guidance = Guidance(lambda step: 1.0 + step.index)
    assert isinstance(guidance.schedule, Function)
    uncond, cond = torch.zeros(1, 2), torch.ones(1, 2)
    assert guidance.start().combine(uncond, cond, STEP).tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PredictionNorm(strength=2), "prediction_norm(strength=2): it must be between 0 (plain CFG) and 1"),
        (lambda: PredictionNorm(strength=float("nan")), "prediction_norm(strength=nan): a finite number is needed"),
        (lambda: UpdateNorm(space="eps"), "update_norm(space='eps')"),
        (lambda: UpdateNorm(power=2), "update_norm has no 'power': it takes strength, space"),
        (lambda: Guidance(7.5, [{"kind": "prediction_norn"}]), "did you mean prediction_norm?"),
        (lambda: Guidance(7.5, [3]), "3 is no transform"),
        (lambda: Guidance(object()), "is no schedule"),
        (
            lambda: parse_guidance("7.5 | prediction_norm(0.5)"),
            "values are given by name; prediction_norm takes strength, space, write prediction_norm(strength=…).",
        ),
        (lambda: parse_guidance("5 | nag(s=5, prompt=a cat)"), "text is written in quotes; write prompt='a cat'"),
        (lambda: parse_guidance("5 | image_guidance(s=linear(max=3))"), "in quotes; write s='linear(max=3)'"),
        (
            lambda: parse_guidance("5 | per_position(map='0 1', base=2 * linear(max=3).inverted())"),
            "in quotes; write base='2 * linear(max=3).inverted()'",
        ),
        (lambda: parse_guidance("5 | adg(keep_norm=yes)"), "adg(keep_norm='yes'): it is True or False; write"),
        (lambda: parse_guidance("5 | skimmed(flips=1)"), "skimmed(flips=1): it is True or False; write"),
        (lambda: parse_guidance("5 | dng(prompt=b, prior=0.9)"), "dng(prior=0.9, max=0.8): the posterior starts at"),
        (lambda: parse_guidance("5 | nag(s=5, prompt=ü 🐈)"), "text is written in quotes; write prompt='ü 🐈'"),
        (lambda: parse_guidance("7.5 | prediction_norm(strength=2*3)"), "is not written as a transform is"),
        (lambda: parse_guidance("7.5 | __import__('os')"), "no transform '__import__'"),
        (
            lambda: Guidance(5).start("v_prediction"),
            "prediction='v_prediction': a parameterization is epsilon, x0, v, flow, edm, logits, model; write v.",
        ),
        (lambda: Guidance(5).start("v", "sample"), "logits, model; write x0."),
        (lambda: parse_guidance("4 | pag(layers=single.3, s=1.5)"), "is written in quotes; write 'single.3'"),
        (lambda: parse_guidance("4 | pag(s=1.5, layers=(3, 7-9))"), "is written in quotes; write '7-9'"),
        (lambda: parse_guidance("7.5 | "), "is not written as a transform is"),
        (lambda: parse_guidance("7.5 | full_nrm()"), "did you mean full_norm?"),
        (lambda: parse_guidance("prediction_norm()"), "prediction_norm"),
    ],
)
def test_faults_are_one_line_with_the_value_and_the_rule(make: object, said: str) -> None:
    with pytest.raises(InputError) as error:
        make()  # type: ignore[operator]
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("guidance", ["3", "3 | update_norm()"])
@pytest.mark.parametrize(
    ("prediction", "step", "said"),
    [
        (torch.ones(1, 2), 0, "step 0: a Step is needed"),
        (torch.ones(1, 2), None, "step None: a Step is needed"),
        (torch.ones(1, 2).numpy(), STEP, "a prediction that is a ndarray of float32"),
        (torch.ones(1, 2, dtype=torch.int64), STEP, r"a prediction that is a Tensor of torch.int64"),
        ([[1.0, 1.0]], STEP, "a prediction that is a list at step"),
    ],
)
def test_values_of_another_kind_are_said(guidance: str, prediction: Any, step: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        Guidance(guidance).start().combine(prediction, prediction, step)
    assert "\n" not in str(error.value)


def test_a_missing_or_differently_shaped_prediction_is_said() -> None:
    guide = Guidance(3).start()
    with pytest.raises(InputError, match="no unconditional prediction at step 3 of 3: it is needed there"):
        guide.combine(None, torch.ones(1, 2), STEP)
    with pytest.raises(InputError, match="no conditional prediction"):
        guide.combine(torch.ones(1, 2), None, STEP)
    with pytest.raises(InputError, match=r"shape \(2, 2\) and \(1, 2\)"):
        guide.combine(torch.ones(2, 2), torch.ones(1, 2), STEP)
    with pytest.raises(InputError, match="without latents"):
        Guidance(3, [PredictionNorm(space="x0")]).start().combine(
            torch.ones(1, 2), torch.zeros(1, 2), Step(0, 1, sigma=1.0, alpha=0.7)
        )
