"""Which rows run: counted with a denoiser that is a formula, so that every row's answer is known."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance import FullNorm, Guidance, Perturbation, PredictionNorm
from cfglab.schedules import Constant
from cfglab.step import Step, steps


class Denoiser:
    """sample * 0.9 + text, row by row; remembers how many rows each call had."""

    def __init__(self, sample: Tensor, text: Tensor) -> None:
        self.sample, self.text, self.calls = sample, text, list[int]()

    def __call__(self, rows: list[int] | None, variation: Perturbation | None) -> Tensor:
        assert variation is None
        sample, text = (x if rows is None else take(x, rows) for x in (self.sample, self.text))
        self.calls.append(len(sample))
        return sample * 0.9 + text.reshape(-1, 4, 1, 1)


def images(seeds: Sequence[int], prompts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Latents (B, 4, 6, 6) and texts (2 B, 4) of B images; every negative prompt is the same."""
    latents = torch.cat([torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(s)) for s in seeds])
    texts = torch.cat([torch.randn(1, 4, generator=torch.Generator().manual_seed(100 + p)) for p in prompts])
    return latents, torch.cat([torch.zeros_like(texts), texts])


def sample(
    specs: Sequence[Guidance], latents: Tensor, text: Tensor, count: int = 5, noise: Tensor | None = None
) -> tuple[Tensor, Trace, list[int]]:
    """A run of `count` steps that moves by a fifth of the prediction, as a deterministic sampler would."""
    rows, trace, calls = GuidedRows(specs), Trace(), []
    for step in steps(count, [5.0, 3.0, 2.0, 1.0, 0.5][:count]):
        doubled = torch.cat([latents, latents])
        denoiser = Denoiser(doubled, text)
        guided, record = rows.predict(step, doubled, [text], denoiser)
        trace.steps.append(record)
        calls += denoiser.calls
        latents = latents - 0.2 * guided
        if noise is not None:
            latents = latents + noise[step.index]
    return latents, trace, calls


def test_all_rows_run_for_different_images_under_guidance() -> None:
    _, trace, calls = sample([Guidance(7.5)] * 3, *images([1, 2, 3], [1, 2, 3]))
    assert calls == [6] * 5
    assert (trace.rows_run, trace.rows_saved) == (30, 0)


def test_no_unconditional_rows_where_guidance_is_off_or_one() -> None:
    off = Guidance(Constant(7.5).inside(steps=(1, 3)), [PredictionNorm()])
    _, trace, calls = sample([off, Guidance([7.5, 1, 1, 1, 7.5])], *images([1, 2], [1, 2]))
    assert calls == [3, 3, 3, 2, 3]
    assert [record.rows_saved for record in trace.steps] == [1, 1, 1, 2, 1]
    assert [record.w for record in trace.steps] == [(1, 7.5), (7.5, 1), (7.5, 1), (1, 1), (1, 7.5)]
    assert [[gap is None for gap in record.difference] for record in trace.steps] == [
        [True, False],
        [False, True],
        [False, True],
        [True, True],
        [True, False],
    ]


def test_no_conditional_rows_at_w_0() -> None:
    _, _, calls = sample([Guidance(0)] * 2, *images([1, 2], [1, 2]))
    assert calls == [2] * 5


def test_many_schedules_of_one_image_share_their_first_step_and_split() -> None:
    specs = [Guidance(w) for w in (7.5, 5, 3, 3, 1)]
    _, _, calls = sample(specs, *images([1] * 5, [1] * 5))
    # one pair, then four different latents: three pairs under guidance (3 and 3 stay together) and one row at w = 1
    assert calls == [2, 7, 7, 7, 7]


def test_a_grid_of_intervals_computes_exactly_its_distinct_rows() -> None:
    count = 5
    grid = [(first, end) for first in range(count) for end in range(first + 1, count + 1)]
    specs = [Guidance(Constant(7.5).inside(steps=steps)) for steps in grid]
    _, trace, calls = sample(specs, *images([1] * len(grid), [1] * len(grid)), count=count)
    # what an image is before step i is what guidance did to it so far; images of one past share their rows
    on = [[first <= i < end for i in range(count)] for first, end in grid]
    pasts = [{tuple(one[:i]) for one in on} for i in range(count)]
    guided = [{tuple(one[:i]) for one in on if one[i]} for i in range(count)]
    assert calls == [len(past) + len(some) for past, some in zip(pasts, guided, strict=True)]
    assert calls[0] == 2  # one image that all of them still are, with and without its prompt
    assert trace.rows_run + trace.rows_saved == 2 * len(grid) * count
    assert trace.rows_run < 2 * len(grid) * count / 2


def test_equal_schedules_stay_together_to_the_end() -> None:
    specs = [Guidance("7.5"), Guidance(7.5), Guidance(7.5, [FullNorm()]), Guidance(7.5, [FullNorm()])]
    _, trace, calls = sample(specs, *images([1] * 4, [1] * 4))
    assert calls == [2, 4, 4, 4, 4]
    assert trace.rows_saved == 40 - 18


def test_schedules_that_meet_later_are_together_until_they_differ() -> None:
    specs = [Guidance([7.5, 7.5, 7.5, 1, 1]), Guidance([7.5, 7.5, 7.5, 7.5, 7.5])]
    _, _, calls = sample(specs, *images([1, 1], [1, 1]))
    assert calls == [2, 2, 2, 2, 3]


def test_unconditional_and_conditional_rows_of_an_empty_prompt_are_one() -> None:
    latents, text = images([1], [1])
    got, _, calls = sample([Guidance(7.5)], latents, torch.zeros_like(text))
    assert calls == [1] * 5
    assert torch.equal(got, sample([Guidance(1)], latents, torch.zeros_like(text))[0])


def test_one_seed_under_two_prompts_shares_the_unconditional_row_once() -> None:
    _, _, calls = sample([Guidance(7.5)] * 2, *images([1, 1], [1, 2]))
    assert calls == [3, 4, 4, 4, 4]


def test_noise_of_the_sampler_separates_what_was_together() -> None:
    latents, text = images([1, 1], [1, 1])
    different = torch.randn(5, 2, 4, 6, 6, generator=torch.Generator().manual_seed(3))
    got, _, calls = sample([Guidance(3)] * 2, latents, text, noise=different)
    assert calls == [2, 4, 4, 4, 4]
    alone = sample([Guidance(3)], latents[1:], text[1::2], noise=different[:, 1:])[0]
    assert torch.equal(got[1:], alone)
    same = different[:, :1].expand(5, 2, 4, 6, 6)
    assert sample([Guidance(3)] * 2, latents, text, noise=same)[2] == [2] * 5


def test_conditioning_that_changes_on_the_way_separates_rows() -> None:
    latents, text = images([1, 1], [1, 1])
    rows = GuidedRows([Guidance(3)] * 2)
    doubled = torch.cat([latents, latents])
    first, second = steps(2)
    denoiser = Denoiser(doubled, text)
    rows.predict(first, doubled, [text], denoiser)
    text[3] += 1  # in place, as a callback may
    rows.predict(second, doubled, [text], denoiser)
    assert denoiser.calls == [2, 3]


@pytest.mark.parametrize("shared", [False, True])
def test_a_batch_gives_each_image_what_it_gets_alone(shared: bool) -> None:
    specs = [
        Guidance(7.5),
        Guidance("cosine(max=7.5, min=1, k=0.3)"),
        Guidance(Constant(5).inside(progress=(0.3, 0.7)), [FullNorm(strength=0.5)]),
        Guidance(7.5),
        Guidance("cosine(max=7.5, min=1, k=0.3)"),
        Guidance(1),
        Guidance(0),
    ]
    seeds, prompts = ([1] * 7, [1] * 7) if shared else ([1, 2, 3, 4, 5, 6, 7], [1, 1, 2, 2, 3, 3, 4])
    latents, text = images(seeds, prompts)
    together, trace, _ = sample(specs, latents, text)
    assert trace.rows_saved > 0
    for i, spec in enumerate(specs):
        alone, _, _ = sample([spec], latents[i : i + 1], text[[i, 7 + i]])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)


def test_a_guidance_of_another_kind() -> None:
    class Half:
        def start(self, prediction: str) -> "Half":
            assert prediction == "v"
            return self

        def combine(self, uncond: Tensor, cond: Tensor, step: Step, latents: Tensor) -> Tensor:  # noqa: ARG002
            assert latents.shape == uncond.shape
            return (uncond + cond) / 2

    latents, text = images([1, 2], [1, 2])
    doubled = torch.cat([latents, latents])
    rows = GuidedRows([Half(), Guidance(0.5)], prediction="v")
    got, record = rows.predict(Step(0, 1), doubled, [text], Denoiser(doubled, text))
    both = doubled * 0.9 + text.reshape(-1, 4, 1, 1)
    torch.testing.assert_close(got, (both[:2] + both[2:]) / 2)
    assert record.w == (None, 0.5)


def test_a_batch_of_another_size_is_said() -> None:
    rows = GuidedRows([Guidance(3)] * 2)
    with pytest.raises(InputError, match=r"3 rows for 2 images: the batch is \[uncond; cond\], 4 rows"):
        rows.predict(Step(0, 1), torch.zeros(3, 1), [], lambda *_: torch.zeros(3, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_rows_are_equal_bit_for_bit_in_every_tensor(dtype: torch.dtype) -> None:
    sample = torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2]]).to(dtype)
    other = torch.tensor([5, 5, 5, 6])
    equal = EqualRows()
    assert equal.labels(sample, []) == [0, 0, 1, 0]
    assert equal.labels(sample, [other]) == [0, 0, 1, 2]
    assert equal.labels(torch.zeros(4, 2), [other]) == [0, 0, 1, 2]  # groups only ever split


def test_one_step_less_is_not_equal() -> None:
    sample = torch.ones(2, 4)
    sample[1, 3] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert EqualRows().labels(sample, []) == [0, 1]


def test_the_table_says_what_ran() -> None:
    _, trace, _ = sample([Guidance([7.5, 1, 1, 1, 7.5]), Guidance(3)], *images([1, 2], [1, 2]))
    table = trace.table().splitlines()
    assert table[0].split() == ["run", "step", "sigma", "w", "|cond", "-", "uncond|", "rows", "run", "rows", "saved"]
    assert table[2].split()[:3] == ["0", "2/5", "3"]
    assert "1 to 3" in table[2]
    assert table[-1].split() == ["all", "17", "3"]
    assert len({len(line) for line in table}) == 1
