"""Pixels: colorsys and hand-made images are the oracles."""

import colorsys
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.metrics.images import clipped_share, contrast, saturation


def plain(red: float, green: float, blue: float) -> np.ndarray:
    return np.broadcast_to(np.array([red, green, blue], dtype=float)[None, :, None, None], (1, 3, 4, 5))


def test_saturation_is_colorsys_on_the_clamped_picture() -> None:
    pixels = np.random.default_rng(0).uniform(-1.6, 1.6, (3, 3, 6, 5))
    for picture, value in zip(pixels, saturation(pixels), strict=True):
        colours = (np.clip(picture, -1, 1).reshape(3, -1).T + 1) / 2
        assert value == pytest.approx(np.mean([colorsys.rgb_to_hsv(*colour)[1] for colour in colours]), abs=1e-12)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1, -1, -1), 1.0), ((0.3, 0.3, 0.3), 0.0), ((-1, -1, -1), 0.0), ((5, -9, -9), 1.0), ((1, 0, 0), 0.5)],
)
def test_saturation_of_plain_colours(colour: tuple[float, float, float], expected: float) -> None:
    assert saturation(plain(*colour))[0] == pytest.approx(expected)


def test_clipped_share_counts_values_outside_the_range_and_not_on_its_edge() -> None:
    pixels = np.zeros((2, 3, 2, 2))
    pixels[0].flat[:3] = (1.01, -1.01, 7.0)
    pixels[1].flat[:4] = (1.0, -1.0, 0.99, -0.99)
    assert clipped_share(pixels).tolist() == [3 / 12, 0.0]


def test_contrast_of_half_black_half_white_is_half_and_grows_beyond_the_range() -> None:
    pixels = np.ones((1, 3, 4, 4))
    pixels[..., :2] = -1
    assert contrast(pixels)[0] == pytest.approx(0.5)
    assert contrast(3 * pixels)[0] == pytest.approx(1.5)
    assert contrast(plain(0.2, -0.7, 0.1))[0] == pytest.approx(0.0)


def test_contrast_weighs_green_most() -> None:
    stripes = {}
    for channel in range(3):
        pixels = np.zeros((1, 3, 4, 4))
        pixels[:, channel, :, :2] = 1
        stripes[channel] = contrast(pixels)[0]
    assert stripes[0] == pytest.approx(0.299 / 4)
    assert stripes[1] == pytest.approx(0.587 / 4)
    assert stripes[2] == pytest.approx(0.114 / 4)


def test_a_batch_equals_one_by_one() -> None:
    pixels = np.random.default_rng(1).normal(size=(4, 3, 5, 5)).astype(np.float32)
    for measure in (saturation, clipped_share, contrast):
        assert measure(pixels).shape == (4,)
        np.testing.assert_allclose(measure(pixels), np.concatenate([measure(one[None]) for one in pixels]))


def test_tensors_are_moved_by_their_own_methods() -> None:
    pixels = np.random.default_rng(2).normal(size=(2, 3, 4, 4)).astype(np.float32)
    calls: list[str] = []
    tensor = SimpleNamespace(numpy=lambda: pixels)

    def method(name: str) -> SimpleNamespace:
        calls.append(name)
        return tensor

    for name in ("detach", "cpu", "float"):
        setattr(tensor, name, partial(method, name))
    np.testing.assert_array_equal(contrast(tensor), contrast(pixels))
    assert calls == ["detach", "cpu", "float"]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((3, 4, 4)), "(3, 4, 4): the shape must be (n, 3, h, w)"),
        (np.zeros((1, 4, 4, 3)), "(1, 4, 4, 3): the shape must be (n, 3, h, w)"),
        (np.zeros((1, 3, 4, 4), dtype=np.uint8), "uint8: values must be floats in about [-1, 1]; use x / 127.5 - 1"),
        (np.full((1, 3, 2, 2), np.nan), "image 0 holds values that are not finite"),
    ],
)
def test_refusals(pixels: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        saturation(pixels)
