"""FDG and FreSca: the pyramid by hand, the Fourier box by hand, and what the bands are."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cfglab.errors import InputError
from cfglab.guidance import FDG, FreSca, Guidance, parse_guidance
from cfglab.guidance.methods.laplacian_pyramid import levels
from tests.guidance.examples import STEP, batch

BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
BORDERS = {"paper": "reflect", "nearest": "edge"}


def blurred(image: np.ndarray, border: str) -> np.ndarray:
    height, width = image.shape
    padded = np.pad(image, 2, mode=border)
    rows = np.array([[BINOMIAL @ padded[i, j : j + 5] for j in range(width)] for i in range(height + 4)])
    return np.array([[BINOMIAL @ rows[i : i + 5, j] for j in range(width)] for i in range(height)])


def halved(image: np.ndarray, pyramid: str) -> np.ndarray:
    if pyramid == "nearest":
        return blurred(image, "edge")[::2, ::2]
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="reflect")
    smooth = blurred(even, "reflect")
    return (smooth[::2, ::2] + smooth[1::2, ::2] + smooth[::2, 1::2] + smooth[1::2, 1::2]) / 4


def doubled(image: np.ndarray, pyramid: str) -> np.ndarray:
    """Twice the size; linear: three quarters of the nearer position and a quarter of the next, the border repeated."""
    if pyramid == "nearest":
        return np.kron(image, np.ones((2, 2)))
    for axis in (0, 1):
        near = np.repeat(image, 2, axis)
        padded = np.pad(image, [(1, 1) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
        before, after = (np.take(padded, range(start, start + image.shape[axis]), axis) for start in (0, 2))
        far = np.stack([before, after], axis + 1).reshape(near.shape)
        image = 0.75 * near + 0.25 * far
    return image


def by_hand(image: np.ndarray, count: int, pyramid: str) -> list[np.ndarray]:
    """The levels of one image (h, w) at its own size."""
    if count == 1:
        return [image]
    half = halved(image, pyramid)

    def grown(small: np.ndarray) -> np.ndarray:
        large = doubled(small, pyramid)
        if pyramid == "nearest":
            return blurred(large[: image.shape[0], : image.shape[1]], "edge")
        return blurred(large, "reflect")[: image.shape[0], : image.shape[1]]

    return [image - grown(half), *(grown(level) for level in by_hand(half, count - 1, pyramid))]


@pytest.mark.parametrize("pyramid", BORDERS)
@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (2, 3), (1, 1)])
@pytest.mark.parametrize("count", [2, 4])
def test_the_levels_are_those_by_hand_and_add_up(shape: tuple[int, int], count: int, pyramid: Any) -> None:
    image = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    made = levels(image, count, pyramid)
    torch.testing.assert_close(sum(made), image, rtol=1e-12, atol=1e-12)
    expected = by_hand(image[1, 2].numpy(), count, pyramid)
    for level, hand in zip(made, expected, strict=True):
        assert level.shape == image.shape
        np.testing.assert_allclose(level[1, 2].numpy(), hand, rtol=1e-10, atol=1e-12)


def listing(c: torch.Tensor, u: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """Algorithm 2 of the paper, whose listing takes kornia's `build_laplacian_pyramid` and `pyrup`, written out."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=c.dtype)
    kernel = (kernel[:, None] * kernel / 256).expand(c.shape[1], 1, 5, 5)

    def blur(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])

    def resized(x: torch.Tensor, factor: float) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    def pyramid(x: torch.Tensor) -> list[torch.Tensor]:
        gaussian = [x]
        for _ in scales[1:]:
            gaussian.append(resized(blur(gaussian[-1]), 0.5))
        return [a - blur(resized(b, 2)) for a, b in pairwise(gaussian)] + [gaussian[-1]]

    guided = [pc + (w - 1) * (pc - pu) for pc, pu, w in zip(pyramid(c), pyramid(u), scales, strict=True)]
    image = guided[-1]
    for level in reversed(guided[:-1]):
        image = blur(resized(image, 2)) + level
    return image


@pytest.mark.parametrize(("factors", "size"), [((1, 0.5), (16, 16)), ((1, 0.7, 0.3), (24, 16)), ((0.5, 1), (6, 10))])
def test_fdg_is_the_listing_of_the_paper(factors: tuple[float, ...], size: tuple[int, int]) -> None:
    c, u = (torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(seed)).double() for seed in (1, 2))
    got = Guidance(10, [FDG(factors=factors)]).start().combine(u, c, STEP)
    torch.testing.assert_close(got, listing(c, u, [10 * factor for factor in factors]), rtol=1e-12, atol=1e-12)


def test_fdg_is_diffusers_guider_where_kornia_is_installed() -> None:
    pytest.importorskip("kornia", reason="kornia is not installed; the listing written out is compared in its place")
    from diffusers.guiders import FrequencyDecoupledGuidance

    c, u = (torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    theirs = FrequencyDecoupledGuidance(guidance_scales=[10.0, 5.0]).forward(pred_cond=c, pred_uncond=u).pred
    got = Guidance(10, [FDG()]).start().combine(u, c, STEP)
    torch.testing.assert_close(got, theirs, rtol=1e-5, atol=1e-4)


def test_the_pyramid_of_the_first_release_is_another_and_has_a_name() -> None:
    c, u = (torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    paper = Guidance(10, [FDG()]).start().combine(u, c, STEP)
    before = parse_guidance("10 | fdg(pyramid=nearest)")
    assert str(before) == "10 | fdg(pyramid=nearest)"
    difference = (before.start().combine(u, c, STEP) - paper).square().mean().sqrt()
    assert 0.04 < difference / (10 * (c - u)).square().mean().sqrt() < 0.15


def test_a_flat_update_is_all_low_and_a_chessboard_nearly_all_high() -> None:
    u = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    c = torch.stack([torch.ones(1, 16, 16), (-1.0) ** torch.arange(16).add(torch.arange(16)[:, None])[None]]).double()
    got = Guidance(10, [FDG()]).start().combine(u, c, STEP)
    torch.testing.assert_close(got[0], 5 * c[0], rtol=1e-12, atol=1e-12)
    assert ((got[1] - 10 * c[1]).abs() < 0.5)[:, 4:-4, 4:-4].all()


def test_fdg_is_one_scale_a_level() -> None:
    # 2506.19713, algorithm 2: every level of cond and uncond guided at its own scale, then added up
    u, c, _ = (x.double() for x in batch())
    got = Guidance(10, [FDG(factors=(1, 0.5, 0.2))]).start().combine(u, c, STEP)
    pairs = zip((10, 5, 2), levels(u, 3), levels(c, 3), strict=True)
    expected = sum(lu + w * (lc - lu) for w, lu, lc in pairs)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    same = Guidance(10, [FDG(factors=(1, 1))]).start().combine(u, c, STEP)
    torch.testing.assert_close(same, u + 10 * (c - u), rtol=1e-12, atol=1e-12)


def fourier(x: torch.Tensor, low: float, high: float, cutoff: int) -> torch.Tensor:
    """The authors' Fourier_filter, written out: shifted spectrum, a box about its centre."""
    spectrum = np.fft.fftshift(np.fft.fft2(x.numpy()), axes=(-2, -1))
    height, width = x.shape[-2:]
    row, column = height // 2, width // 2
    cutoff = min(cutoff, row, column)
    mask = np.full((height, width), high)
    mask[row - cutoff : row + cutoff, column - cutoff : column + cutoff] = low
    return torch.from_numpy(np.fft.ifft2(np.fft.ifftshift(spectrum * mask, axes=(-2, -1))).real)


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (7, 7)])
@pytest.mark.parametrize("cutoff", [1, 2, 3, 20])
def test_fresca_is_the_authors_filter_of_the_update(cutoff: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(4)
    u, c = (torch.randn(2, 4, *shape, dtype=torch.float64, generator=generator) for _ in range(2))
    got = Guidance(5, [FreSca(low=0.8, high=1.25, cutoff=cutoff)]).start().combine(u, c, STEP)
    torch.testing.assert_close(got, u + 5 * fourier(c - u, 0.8, 1.25, cutoff), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [FDG(), FreSca(cutoff=2)])
def test_videos_are_filtered_frame_by_frame(transform: FDG | FreSca) -> None:
    u, c = (torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    got = Guidance(5, [transform]).start().combine(u, c, STEP)
    for frame in range(3):
        alone = Guidance(5, [transform]).start().combine(u[:, :, frame], c[:, :, frame], STEP)
        torch.testing.assert_close(got[:, :, frame], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", [FDG(), FreSca()])
def test_packed_tokens_are_refused(transform: FDG | FreSca) -> None:
    with pytest.raises(InputError, match=r"on predictions of shape \(1, 64, 4\): it needs height and width"):
        Guidance(5, [transform]).start().combine(torch.zeros(1, 64, 4), torch.ones(1, 64, 4), STEP)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6 | fdg(factors=(1,))", "2 to 8 factors are needed, the finest band first; write (1, 0.5)."),
        ("6 | fdg(factors=2)", "2 to 8 factors are needed"),
        ("6 | fresca(cutoff=0)", "a whole number of frequencies is needed, 1 or more"),
        ("6 | fresca(high=high)", "a finite number is needed"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_factors_are_read_back() -> None:
    guidance = Guidance(10, [FDG(factors=[2, 1, 0.25])])
    assert str(guidance) == "10 | fdg(factors=(2, 1, 0.25))"
    assert parse_guidance("10 | fdg(factors=[2, 1, 0.25])") == guidance
