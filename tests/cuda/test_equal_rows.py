"""Equal rows on a device: taken by slices, followed by bookkeeping, compared there and read after the run."""

import itertools
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines.interception.row_sharing import is_determined
from cfglab.pipelines.interception.run_checks import check_claims
from tests.cuda.simulated import DEVICE, Device
from tests.cuda.test_half import run

GUIDANCES = (
    "5",
    "7",
    "0",
    "1",
    "constant(5).inside(progress=(0.5, 1))",
    "constant(7).inside(progress=(0.5, 1))",
    "5 | rescale()",
    "5 | apg(space=model, momentum=-0.5)",
    "7 | cfg_zero_star(zero_steps=1)",
)


@pytest.mark.parametrize("rows", [[0], [3], [0, 1, 2], [2, 1, 0], [0, 0, 3], [1, 2, 0, 1], [3, 0, 1, 3]])
@pytest.mark.parametrize("dim", [0, 1])
def test_rows_taken_by_slices_are_those_of_an_index(rows: list[int], dim: int) -> None:
    tensor = torch.randn(4, 4, 3)
    torch.testing.assert_close(take(tensor, rows, dim), tensor.index_select(dim, torch.tensor(rows)), rtol=0, atol=0)


def network(sample: Tensor, text: Tensor) -> Tensor:
    return (sample * text.mean(1, keepdim=True)).sin()


def guided(texts: list[str], latents: Tensor, cond: Tensor) -> list[tuple[Tensor, list[int]]]:
    """For four steps, the guided predictions of a batch and what bookkeeping says of the images afterwards."""
    rows = GuidedRows([Guidance(text) for text in texts], claims=[])
    sample, text = torch.cat([latents, latents]), torch.cat([torch.ones_like(cond), cond])
    results = []
    for step in run():
        prediction, _ = rows.predict(
            step,
            sample,
            [text],
            lambda needed, _: network(sample, text) if needed is None else network(sample[needed], text[needed]),
        )
        assert rows.still_equal is not None
        results.append((prediction, rows.still_equal))
    return results


@pytest.mark.parametrize("pair", [*itertools.combinations_with_replacement(GUIDANCES, 2)], ids=" and ".join)
def test_images_said_to_be_still_equal_have_equal_predictions(pair: tuple[str, str]) -> None:
    """Two equal images, one of another text, one of other noise: the word of bookkeeping against the numbers."""
    generator = torch.Generator().manual_seed(0)
    noise, texts = (torch.randn(2, 8, generator=generator) for _ in range(2))
    latents = torch.stack([noise[0], noise[0], noise[0], noise[1]])
    cond = torch.stack([texts[0], texts[0], texts[1], texts[0]])
    for prediction, still_equal in guided([*pair, pair[0], pair[0]], latents, cond):
        for a, b in itertools.combinations(range(4), 2):
            if still_equal[a] == still_equal[b]:
                assert torch.equal(latents[a], latents[b])
                assert torch.equal(prediction[a], prediction[b])


@pytest.mark.parametrize(
    ("pair", "together"),
    [
        (("5", "5"), [True] * 4),
        (("5", "7"), [False] * 4),
        (("5 | rescale()", "5 | rescale()"), [True] * 4),
        (("1", "constant(7).inside(progress=(0.5, 1))"), [True, True, False, False]),
        (
            ("constant(5).inside(progress=(0.5, 1))", "constant(7).inside(progress=(0.5, 1))"),
            [True, True, False, False],
        ),
    ],
)
def test_equal_images_stay_together_while_the_same_is_done_to_them(pair: tuple[str, str], together: list[bool]) -> None:
    latents, cond = torch.ones(2, 8), torch.full((2, 8), 0.5)
    results = guided(list(pair), latents, cond)
    assert [still[0] == still[1] for _, still in results] == together


def test_a_claim_about_equal_rows_is_compared_on_the_device_and_not_read(device: Device) -> None:
    claims: list[Tensor] = []
    rows = EqualRows(claims)
    text = torch.tensor([[1.0], [1.0], [2.0]], device=DEVICE)
    assert rows.labels(torch.ones(3, 2, device=DEVICE), [text]) == [0, 0, 1]
    device.waits.clear()
    assert rows.labels(torch.tensor([[3.0], [3.0], [4.0]], device=DEVICE), [text], [0, 0, 2]) == [0, 0, 1]
    assert rows.labels(torch.tensor([[3.0], [-3.0], [4.0]], device=DEVICE), [text], [0, 0, 2]) == [0, 0, 1]
    assert device.library_waits() == []
    assert [bool(claim) for claim in claims] == [True, False]


def test_rows_on_a_device_are_equal_bit_for_bit(device: Device) -> None:  # noqa: ARG001
    values = [0.0, -0.0, float("nan"), float("nan"), 1.0, 0.0]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        sample = torch.tensor(values, dtype=dtype, device=DEVICE)[:, None]
        assert EqualRows().labels(sample, []) == [0, 1, 2, 2, 3, 0]


def test_a_wrong_claim_is_one_clear_line() -> None:
    one_run: Any = type("Run", (), {"pipe": 3, "scheduler": diffusers.DDIMScheduler()})
    check_claims(one_run, [1.0, 1.0])
    with pytest.raises(
        InputError, match=r"^rows of this int that were equal .*; pass share_rows=False to guide\(\)\.$"
    ):
        check_claims(one_run, [1.0, 0.0])


@pytest.mark.parametrize(
    ("scheduler", "arguments", "expected"),
    [
        (diffusers.DDIMScheduler(), {"eta": 0.0, "num_images_per_prompt": 2, "callback_on_step_end": None}, True),
        (diffusers.DDIMScheduler(), {"eta": 0.5}, False),
        (diffusers.DDPMScheduler(), {}, False),
        (diffusers.EulerDiscreteScheduler(), {"callback_on_step_end_tensor_inputs": ["latents"]}, True),
        (diffusers.EulerAncestralDiscreteScheduler(), {}, False),
        (diffusers.DPMSolverMultistepScheduler(), {}, True),
        (diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), {}, False),
        (diffusers.FlowMatchEulerDiscreteScheduler(), {}, True),
        (diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), {}, False),
        (diffusers.DDIMScheduler(), {"callback_on_step_end": print}, False),
        (diffusers.DDIMScheduler(), {"mask_image": 1}, False),
        (diffusers.DDIMScheduler(), {"image": 1}, False),
    ],
)
def test_bookkeeping_is_for_loops_without_noise_and_edits(
    scheduler: Any, arguments: dict[str, Any], expected: bool
) -> None:
    pipe = type("Pipe", (), {"__module__": "diffusers.pipelines", "scheduler": scheduler})()
    assert is_determined(pipe, arguments) is expected
    foreign = type("Pipe", (), {"__module__": "community", "scheduler": scheduler})()
    assert not is_determined(foreign, arguments)
