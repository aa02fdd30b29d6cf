"""FDG and FreSca: the pyramid by hand, the Fourier box by hand, and what the bands are."""

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.guidance import FDG, FreSca, Guidance, parse_guidance
from cfglab.guidance.pyramid import levels
from tests.guidance.examples import STEP, batch

BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def blurred(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    padded = np.pad(picture, 2, mode="edge")
    rows = np.array([[BINOMIAL @ padded[i, j : j + 5] for j in range(width)] for i in range(height + 4)])
    return np.array([[BINOMIAL @ rows[i : i + 5, j] for j in range(width)] for i in range(height)])


def by_hand(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The levels of one picture (h, w) at its own size."""
    if count == 1:
        return [picture]
    halved = blurred(picture)[::2, ::2]

    def doubled(small: np.ndarray) -> np.ndarray:
        return blurred(np.kron(small, np.ones((2, 2)))[: picture.shape[0], : picture.shape[1]])

    return [picture - doubled(halved), *(doubled(level) for level in by_hand(halved, count - 1))]


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (2, 3), (1, 1)])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_levels_are_those_by_hand_and_add_up(shape: tuple[int, int], count: int) -> None:
    picture = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = levels(picture, count)
    torch.testing.assert_close(sum(found), picture, rtol=1e-12, atol=1e-12)
    expected = by_hand(picture[1, 2].numpy(), count)
    for level, hand in zip(found, expected, strict=True):
        assert level.shape == picture.shape
        np.testing.assert_allclose(level[1, 2].numpy(), hand, rtol=1e-10, atol=1e-12)


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
