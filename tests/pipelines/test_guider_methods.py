"""Every transform gives the same numbers through a guider as through guide(): Modular SDXL against the classic one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import AutoGuidance, Guidance, PredictionNorm, Transform
from cfglab.pipelines import guide
from cfglab.pipelines.guider.guider import to_guider
from tests.guidance.examples import EDITING, VALUES
from tests.pipelines.modular import MODULAR

SDXL = MODULAR["SDXL"]
PROMPTED = [value for value in VALUES if hasattr(value, "prompt")]
TWIN = [value for value in VALUES if isinstance(value, AutoGuidance) and value.model]
REFUSED = ("image_guidance", "audio_guidance", "modality_guidance")
"""They ask for rows or outputs that this model does not have."""
OTHERS = [
    value.model_copy(update={"layers": ("mid",)}) if getattr(value, "layers", ()) else value
    for value in VALUES
    if value not in PROMPTED and value not in TWIN and value not in EDITING and value.kind not in REFUSED
]


@pytest.fixture(scope="module")
def pipes() -> tuple[Any, Any]:
    classic = SDXL.case.build()
    return classic, SDXL.build(classic)


@pytest.fixture(scope="module")
def plain(pipes: tuple[Any, Any]) -> Tensor:
    return SDXL.run(SDXL.use(pipes[1], to_guider(4)))[-1]


@pytest.mark.parametrize("value", [*OTHERS, PredictionNorm(space="v", strength=0.5)], ids=str)
def test_a_transform_through_a_guider_and_through_guide(
    pipes: tuple[Any, Any], plain: Tensor, value: Transform
) -> None:
    classic, pipe = pipes
    guidance = Guidance(4, [value])
    with guide(classic, guidance) as trace:
        expected = SDXL.run_classic(classic, 4.0)
    guider = to_guider(guidance)
    ours = SDXL.run(SDXL.use(pipe, guider))
    size = float(expected[-1].abs().max())
    torch.testing.assert_close(ours[-1], expected[-1], rtol=0, atol=2e-5 * size)
    assert (ours[-1] - plain).abs().max() > 2e-4 * size  # ten times the tolerance
    assert [record.step for record in guider.trace.steps] == [record.step for record in trace.steps]
    assert [record.w for record in guider.trace.steps] == [pytest.approx(record.w, 1e-3) for record in trace.steps]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("image_guidance", "no rows without the image to edit"),
        ("audio_guidance", "guides no sound"),
        ("modality_guidance", "called without 'isolate_modalities'"),
    ],
)
def test_a_scale_of_another_condition_is_refused(pipes: tuple[Any, Any], kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SDXL.run(SDXL.use(pipes[1], to_guider(f"4 | {kind}()")))


@pytest.mark.parametrize("value", PROMPTED, ids=str)
def test_a_prompt_of_its_own_is_refused(pipes: tuple[Any, Any], value: Transform) -> None:
    with pytest.raises(InputError, match="a guider is given embeddings and cannot encode a text"):
        SDXL.run(SDXL.use(pipes[1], to_guider(Guidance(4, [value]))))
