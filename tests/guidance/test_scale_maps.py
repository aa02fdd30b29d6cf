"""w as a map, per position, frame and channel: the formula, what fits, and what it costs."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import cfglab as cl
from cfglab import Guidance, limits
from cfglab.errors import InputError
from cfglab.experiments.spec.cell import Cell
from cfglab.guidance import PerChannel, PerFrame, PerPosition, as_guidance, parse_guidance
from cfglab.guidance.fields import scale_at
from cfglab.guidance.sound import of_sound, of_video
from cfglab.step import Step
from tests.guidance.examples import NEXT, STEP, batch

MASK = np.random.default_rng(3).random((8, 8)).round(2)


def combined(guidance: Any, *shape: int, step: Step = STEP, channel_dim: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """uncond and cond of a shape, and what the guidance makes of them."""
    generator = torch.Generator().manual_seed(4)
    uncond, cond = torch.randn(2, *(shape or (3, 4, 8, 8)), generator=generator)
    guide = as_guidance(guidance).start()
    guide.channel_dim = channel_dim
    return uncond, cond, guide.combine(uncond, cond, step)


def test_every_position_has_its_own_scale() -> None:
    guidance = Guidance(7.3, [PerPosition(map=MASK, base="linear(max=3, min=1)")])
    uncond, cond, guided = combined_of(guidance)
    base = scale_at("linear(max=3, min=1)", STEP)
    expected = uncond + (7.3 * MASK + base * (1 - MASK)) * (cond - uncond)
    np.testing.assert_allclose(guided, expected, rtol=1e-12)


def combined_of(guidance: Guidance) -> tuple[Any, Any, Any]:
    uncond, cond, latents = (x.double() for x in batch())
    return uncond.numpy(), cond.numpy(), guidance.start().combine(uncond, cond, STEP, latents).numpy()


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [("0 1; 1 0.5", 2, 2), ("0 1", 1, 2), ("0; 1; 0.25; 2", 4, 1)],
)
def test_a_small_map_is_one_of_blocks(text: str, rows: int, columns: int) -> None:
    values = np.array([line.split() for line in text.split(";")], float)
    uncond, cond, guided = combined_of(Guidance(5, [PerPosition(map=text, base=0)]))
    np.testing.assert_allclose(
        guided, uncond + 5 * np.kron(values, np.ones((8 // rows, 8 // columns))) * (cond - uncond), rtol=1e-12
    )


def test_a_large_map_is_averaged_over_blocks() -> None:
    pixels = np.random.default_rng(2).integers(0, 2, (64, 16))
    means = np.array([[pixels[8 * i : 8 * i + 8, 2 * j : 2 * j + 2].mean() for j in range(8)] for i in range(8)])
    uncond, cond, guided = combined_of(Guidance(5, [PerPosition(map=pixels)]))
    np.testing.assert_allclose(guided, uncond + (5 * means + 1 - means) * (cond - uncond), rtol=1e-12)


@pytest.mark.parametrize("one", ["per_position(map='0 1', base=3.1)", "per_channel(map='0 0 1 1', base=3.1)"])
def test_where_the_map_is_1_or_0_the_numbers_are_those_of_the_scalar_to_the_bit(one: str) -> None:
    _, _, guided = combined(f"7.3 | {one}")
    _, _, high = combined(7.3)
    _, _, low = combined(3.1)
    dim = 3 if "position" in one else 1
    halves = [x.chunk(2, dim) for x in (low, high, guided)]
    assert torch.equal(halves[2][0], halves[0][0])
    assert torch.equal(halves[2][1], halves[1][1])


@pytest.mark.parametrize(
    "one", ["per_position(map=1)", "per_channel(map='1 1 1 1')", "per_position(map='0 1', base=7.3)"]
)
def test_a_map_of_one_number_is_that_number_to_the_bit(one: str) -> None:
    guide = Guidance(f"7.3 | {one}").start()
    uncond, cond, _ = batch()
    assert torch.equal(guide.combine(uncond, cond, STEP), Guidance(7.3).start().combine(uncond, cond, STEP))
    assert guide.w == 7.3
    assert guide.w_range is None


def test_an_image_alone_has_the_same_bits() -> None:
    uncond, cond, _ = batch()
    guidance = Guidance(7.3, [PerPosition(map=MASK), PerChannel(map=[1, 0.5, 0.5, 1])])
    together = guidance.start().combine(uncond, cond, STEP)
    for image in range(3):
        rows = slice(image, image + 1)
        assert torch.equal(guidance.start().combine(uncond[rows], cond[rows], STEP), together[rows])


@pytest.mark.parametrize(("dim", "shape"), [(2, (2, 4, 3, 8, 8)), (1, (2, 3, 4, 8, 8))])
def test_every_frame_has_its_own_scale(dim: int, shape: tuple[int, ...]) -> None:
    uncond, cond, guided = combined(Guidance(3, [PerFrame(map=[0, 0.5, 1], dim=dim)]), *shape)
    for frame, w in enumerate((1.0, 2.0, 3.0)):
        u, c, g = (x.select(dim, frame) for x in (uncond, cond, guided))
        torch.testing.assert_close(g, u + w * (c - u))


def test_packed_tokens_have_one_value_each() -> None:
    uncond, cond, guided = combined("8 | per_position(map='0 0 1 1 1 0.5', base=0)", 2, 6, 5, channel_dim=-1)
    share = torch.tensor([0, 0, 1, 1, 1, 0.5])[:, None]
    torch.testing.assert_close(guided, uncond + 8 * share * (cond - uncond))
    uncond, cond, guided = combined("8 | per_channel(map='0 0 1 1 1', dim=-1)", 2, 6, 5, channel_dim=-1)
    torch.testing.assert_close(guided[..., 2:], (uncond + 8 * (cond - uncond))[..., 2:])


@pytest.mark.parametrize(("text", "values"), [("0 0 1 1 1 0.5", [0, 0, 1, 1, 1, 0.5]), ("0 1", [0, 0, 0, 1, 1, 1])])
def test_sound_has_its_positions_behind_the_channels(text: str, values: list[float]) -> None:
    uncond, cond, guided = combined(f"8 | per_position(map='{text}', base=0)", 2, 4, 6)
    torch.testing.assert_close(guided, uncond + 8 * torch.tensor(values) * (cond - uncond))


@pytest.mark.parametrize(
    ("channel_dim", "shape", "positions"),
    [
        (1, (2, 4, 8, 6), (2, 3)),
        (1, (2, 4, 3, 8, 6), (3, 4)),
        (2, (2, 3, 4, 8, 6), (3, 4)),
        (-1, (2, 8, 6, 4), (1, 2)),
        (-1, (2, 3, 8, 6, 4), (2, 3)),
    ],
)
def test_positions_are_the_last_two_dimensions_besides_the_channels(
    channel_dim: int, shape: tuple[int, ...], positions: tuple[int, int]
) -> None:
    mask = MASK[:8, :6]
    uncond, cond, guided = combined(Guidance(5, [PerPosition(map=mask, base=0)]), *shape, channel_dim=channel_dim)
    spread = torch.tensor(mask).reshape([shape[dim] if dim in positions else 1 for dim in range(len(shape))])
    torch.testing.assert_close(guided, (uncond + 5 * spread * (cond - uncond)).float())


def test_frames_and_channels_of_videos_whose_channels_are_last() -> None:
    """(n, frames, h, w, channels), as Kandinsky 5 has them: the maps name the dimensions of (n, channels, ...)."""
    uncond, cond, guided = combined("8 | per_frame(map='0 1 0.5', base=0)", 2, 3, 8, 6, 4, channel_dim=-1)
    torch.testing.assert_close(guided, uncond + 8 * torch.tensor([0, 1, 0.5]).view(3, 1, 1, 1) * (cond - uncond))
    uncond, cond, guided = combined("8 | per_channel(map='0 1 0.5 0', base=0)", 2, 3, 8, 6, 4, channel_dim=-1)
    torch.testing.assert_close(guided, uncond + 8 * torch.tensor([0, 1, 0.5, 0]) * (cond - uncond))


@pytest.mark.parametrize(
    ("guidance", "shape", "words"),
    [
        ("8 | per_position(map='0 1 2')", (1, 4, 8, 8), "1 x 3 on predictions of 8 x 8: .*give one of 8 x 8, of 64"),
        ("8 | per_position(map='0 1; 1 0')", (1, 4, 6), "2 x 2 on .*, one row of positions: .*give 6 values in"),
        ("8 | per_position(map='0 1 1 0')", (1, 4, 6), "4 values on predictions of 6 positions: .*give 6 values, or"),
        ("8 | per_position(map='0 1')", (1, 2), "no positions: they are .n, channels.; write per_channel"),
        ("8 | per_frame(map='0 1 2')", (1, 4, 8, 8), "no frames there; .*leave it out for images"),
        ("8 | per_frame(map='0 1')", (1, 4, 3, 8, 8), "2 values .* 3 in dimension 2: .*give 3 values, or the dim"),
        ("8 | per_channel(map='0 1')", (1, 4, 8, 8), "a map of 2 values .* 4 in dimension 1"),
        ("8 | per_channel(map='0 1', dim=4)", (1, 4, 8, 8), "no channels there; name the dimension"),
    ],
)  # fmt: skip
def test_a_map_of_another_size_is_refused_with_the_sizes_that_fit(
    guidance: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        combined(guidance, *shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("guidance", "channel_dim", "shape", "words"),
    [
        ("per_position(map='0 1; 1 0; 0 1')", -1, (1, 6, 5), "3 x 2 on .* packed tokens, .* give 6 values in one row"),
        ("per_position(map='0 1')", -1, (1, 6, 5), "1 x 2 on .* packed tokens, .* give 6 values in one row"),
        ("per_channel(map='0 1 1 1 1 1')", -1, (1, 6, 5), "channels are in dimension -1: give dim=-1"),
        ("per_channel(map='0 1 1')", 2, (1, 3, 4, 8, 8), "channels are in dimension 2: give dim=2"),
        ("per_frame(map='0 1 1 1')", 2, (1, 3, 4, 8, 8), "channels are in dimension 2: give dim=1"),
    ],
)
def test_a_map_of_another_dimension_is_refused_though_its_size_fits(
    guidance: str, channel_dim: int, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        combined(f"8 | {guidance}", *shape, channel_dim=channel_dim)
    assert "\n" not in str(caught.value)


def test_a_map_of_frames_or_channels_has_one_row() -> None:
    for kind in (PerFrame, PerChannel):
        with pytest.raises(InputError, match=rf"{kind(map='0').kind} with a map of 2 x 2: it has one value for each"):
            kind(map="0 1; 1 0")


def test_the_sound_of_a_video_keeps_w() -> None:
    guidance = Guidance("3 | per_position(map='0 1') | per_channel(map='0 1') | per_frame(map='0 1') | rescale()")
    assert str(of_sound(guidance, None)) == "3 | rescale()"
    assert of_video(guidance) == guidance


@pytest.mark.parametrize(
    "before", ["per_position(map='0 1')", "magnitude_aware(alpha=1)", "feedback(pi=0.9, t0=0.4, tau=0.1)"]
)
def test_feedback_after_another_scale_gives_what_each_w_alone_gives(before: str) -> None:
    """At every position, and for every image, the scale is that of a run whose w is that number."""
    feedback = "feedback(pi=0.95, t0=0.5, tau=0.02, max=50)"
    guides = [Guidance(f"4 | {before}").start(), Guidance(f"4 | {before} | {feedback}").start()]
    steps = [(STEP, batch(seed=5)), (NEXT, batch(seed=6))]
    (scales, guided) = ([guide.combine(u, c, step, x) for step, (u, c, x) in steps][-1] for guide in guides)
    uncond, cond, _ = steps[-1][1]
    w = ((scales - uncond) / (cond - uncond)).double()
    for image in range(3):
        for column in (0, 7):
            alone = Guidance(f"{float(w[image, ..., column].median())} | {feedback}").start()
            expected = [alone.combine(u, c, step, x) for step, (u, c, x) in steps][-1]
            torch.testing.assert_close(guided[image, ..., column], expected[image, ..., column], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"map": "0 1; 1"}, "rows have 1 and 2 values"),
        ({"map": "0 x"}, "'x' in a map: its values are finite numbers"),
        ({"map": [0, float("nan")]}, "finite numbers"),
        ({"map": ""}, "a row of the map is empty"),
        ({"map": "1*0"}, "'1\\*0' is no value of a map"),
        ({"map": "0 1;"}, "a row of the map is empty"),
        ({"map": f"1*{limits.MAP_VALUES + 1}"}, f"at most {limits.MAP_VALUES} values"),
        ({"map": np.broadcast_to(0.0, (2000, 2000))}, f"at most {limits.MAP_VALUES} values"),
        ({"map": np.random.default_rng(0).random((128, 128))}, r"letters, of 100000 at most; .*\.round\(2\)"),
        ({"map": [[[0, 1]]]}, r"more dimensions; give one of two, such as mask.squeeze\(\)"),
        ({"map": torch.zeros(1, 1, 8, 8)}, r"more dimensions; give one of two, such as mask.squeeze\(\)"),
        ({"map": Image.new("L", (4, 4))}, r"an image is no map; give its numbers: np.asarray"),
        ({"map": "0 1\n1 0"}, "a map of several lines: its rows stand after semicolons"),
        ({"map": b"01"}, "a bytes is no list of numbers; write rows after semicolons"),
        ({"map": {0, 1}}, "a set is no list of numbers"),
        ({"map": {0: 0.5, 1: 1}}, "a dict is no list of numbers"),
        ({"map": [{0, 1}, {1, 2}]}, "a set is no list of numbers"),
        ({"map": "1_000 1"}, "'1_000' in a map: its values are finite numbers"),
        ({"map": ["\u0663", "1"]}, "in a map: its values are finite numbers"),
        ({"map": "0 1", "base": "nope"}, "nope"),
        ({"map": "0 1", "base": lambda _step: 3}, "a function has none"),
        ({}, "per_position without map: it is needed"),
    ],
)
def test_what_is_no_map_is_refused_in_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        PerPosition(**fields)
    assert "\n" not in str(caught.value)


def test_equal_maps_are_equal_however_they_are_given() -> None:
    given = [
        "0 1; 1 1",
        "0  1 ;1*2",
        [[0, 1], [1, 1]],
        torch.tensor([[False, True], [True, True]]),
        np.array([[-0.0, 1], [1, 1]]),
    ]
    values = {PerPosition(map=one) for one in given}
    assert values == {PerPosition(map="0 1; 1*2")}
    guidance = Guidance(8, [PerPosition(map=MASK, base="linear(max=3)")])
    assert parse_guidance(str(guidance)) == guidance == Guidance.from_json(guidance.to_json())
    assert PerChannel(map=[1, 2]) == PerChannel(map="1 2")


def test_the_values_of_the_map_are_in_the_identity() -> None:
    fields = {"model": "m", "weights": "", "prompt": "", "negative": "", "seed": 0, "steps": 1, "width": 8, "height": 8}
    fields |= {"sampler": "euler", "sampler_config": {}, "dtype": "float32"}
    guidances = [Guidance(f"8 | per_position(map='{text}')") for text in ("0 1", "0 0.99", "0  1")]
    first, other, same = (Cell(**fields, guidance=guidance).id for guidance in guidances)
    assert first == same != other


def test_the_unconditional_row_is_left_out_where_w_is_1_everywhere() -> None:
    def evaluations(guidance: str) -> list[int]:
        guide = Guidance(guidance).start()
        return [guide.plan(Step(index, 4)).evaluations for index in range(4)]

    assert evaluations("constant(1).then(8, at=0.5) | per_position(map='0 1')") == [1, 1, 2, 2]
    assert evaluations("constant(8).inside(progress=(0, 0.5)) | per_position(map='0 1', base=3)") == [2, 2, 1, 1]
    assert evaluations("1 | per_position(map='0 1', base='constant(1).then(3, at=0.5)')") == [1, 1, 2, 2]
    assert evaluations("8 | per_position(map=0)") == [1, 1, 1, 1]
    assert evaluations("1 | per_position(map='0 1') | apg()") == [2, 2, 2, 2]  # which reads it
    _, cond, _ = batch()
    guide = Guidance("8 | per_position(map=0)").start()
    assert torch.equal(guide.combine(None, cond, STEP), cond)


def test_a_guide_reports_mean_smallest_and_largest_of_each_image() -> None:
    guide = Guidance("8 | per_position(map='0 1; 0.5*2')").start()
    uncond, cond, _ = batch()
    guide.combine(uncond, cond, STEP)
    assert isinstance(guide.w, Tensor)
    assert isinstance(guide.w_range, Tensor)
    assert guide.w.tolist() == [4.5] * 3
    assert guide.w_range.tolist() == [[1.0] * 3, [8.0] * 3]
    guide.combine(uncond, cond, Step(5, 10))
    both = Guidance("8 | per_position(map='0 1') | magnitude_aware(space=model)").start()
    both.combine(uncond, cond, STEP)
    assert isinstance(both.w, Tensor)
    assert len(set(both.w.tolist())) == 3  # the ratio of each image


def test_a_map_around_a_denoiser() -> None:
    target = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def denoise(x: Tensor, _sigma: Tensor, given: Tensor) -> Tensor:
        return 0.5 * x + given.reshape(-1, 1, 1, 1) * target

    mine = cl.guided(
        denoise, "8 | per_position(map='0 1', base=3)", uncond={"given": torch.zeros(1)}, levels=[2.0, 1.0, 0.0]
    )
    x = torch.ones(1, 4, 8, 8)
    w = torch.tensor([3.0] * 4 + [8.0] * 4)
    torch.testing.assert_close(mine(x, torch.tensor([2.0]), given=torch.ones(1)), 0.5 * x + w * target)
    assert mine.trace.steps[0].w == (5.5,)
    assert mine.trace.steps[0].w_range == ((3.0, 8.0),)
    assert "5.5 (3 to 8)" in mine.trace.table()
    assert "5.5 (3 to 8)" in mine.trace._repr_mimebundle_()["text/html"]


def test_a_notebook_shows_the_map_as_a_small_image() -> None:
    html = Guidance(8, [PerPosition(map=np.eye(64).round(2))])._repr_mimebundle_()["text/html"]
    assert html.count("<rect") >= 32 * 32
    assert 'opacity="0.10"' in html
    assert 'opacity="1.00"' in html
    assert "0*63" not in html.replace("<code>8 | per_position", "", 1).partition("</code>")[2]
