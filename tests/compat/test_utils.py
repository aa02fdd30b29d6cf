"""The plot helpers by the published signatures, and the grids that the published ones cannot draw."""

import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from cfglab.errors import InputError
from min_diffusion import utils
from tests.oracles import Published

mpl.use("agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(count)]


def drawn() -> list[plt.Axes]:
    """The axes of the current figure that show something."""
    return [axes for axes in plt.gcf().axes if axes.images or axes.lines]


@pytest.mark.parametrize("name", ["show_image", "image_grid", "plot_grid", "get_device", "maybe_add_batch_dim"])
def test_the_signatures_are_the_published_ones(published: Published, name: str) -> None:
    theirs = inspect.signature(getattr(published.module("min_diffusion.utils"), name)).parameters
    ours = inspect.signature(getattr(utils, name)).parameters
    assert [(n, p.default) for n, p in ours.items()] == [(n, p.default) for n, p in theirs.items()]


@pytest.mark.parametrize(("count", "rows"), [(10, 2), (4, 2), (2, 1), (10, 4), (10, 3), (3, 3)])
def test_grids_have_the_published_layout(published: Published, count: int, rows: int) -> None:
    shapes = []
    for module in (published.module("min_diffusion.utils"), utils):
        for draw, values in ((module.image_grid, pictures(count)), (module.plot_grid, [[1.0, 2.0]] * count)):
            draw(values, rows, 100, 120, ["a title"] * count)
            figure = plt.gcf()
            shapes.append((figure.axes[0].get_gridspec().get_geometry(), tuple(figure.get_size_inches()), len(drawn())))
    assert shapes[:2] == shapes[2:]


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (11, 4), (3, 5), (7, 2)])
def test_every_picture_and_curve_is_drawn(count: int, rows: int) -> None:
    utils.image_grid(pictures(count), rows=rows)
    assert [int(axes.images[0].get_array()[0, 0, 0]) for axes in drawn()] == list(range(count))
    utils.plot_grid([[1.0, index] for index in range(count)], rows=rows)
    assert [axes.lines[0].get_ydata()[1] for axes in drawn()] == list(range(count))


def test_titles_are_given_numbered_or_frames() -> None:
    utils.image_grid(pictures(2), title=["one", "two"])
    assert [axes.get_title() for axes in drawn()] == ["one", "two"]
    utils.image_grid(pictures(2), title="picture")
    assert [axes.get_title() for axes in drawn()] == ["picture: 0", "picture: 1"]
    utils.plot_grid([[1.0], [2.0]])
    assert [axes.get_title() for axes in drawn()] == ["Frame: 0", "Frame: 1"]


def test_show_image_resizes_and_draws_when_asked() -> None:
    picture = Image.new("RGB", (12, 8))
    assert utils.show_image(picture, plot=False).size == (6, 4)
    assert plt.get_fignums() == []
    assert utils.show_image(picture, scale=2).size == (24, 16)
    assert len(drawn()) == 1


def test_latents_of_one_picture_get_a_batch_dimension(published: Published) -> None:
    theirs = published.module("min_diffusion.utils")
    for shape in ((4, 8, 8), (1, 4, 8, 8), (3, 4), (2,)):
        value = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
        assert torch.equal(utils.maybe_add_batch_dim(value), theirs.maybe_add_batch_dim(value))


def test_the_device_is_one_that_torch_has() -> None:
    assert torch.zeros(1, device=utils.get_device()).device.type == utils.get_device().removesuffix(":0")


def test_long_titles_of_a_grid_do_not_run_together() -> None:
    titles = [f"inverse k_decay = {k}" for k in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)]
    utils.image_grid(pictures(10), rows=2, title=titles)
    boxes = [axes.title.get_window_extent() for axes in drawn()[:5]]
    assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))
    utils.image_grid(pictures(2), title=["a", "b"])
    assert drawn()[0].title.get_fontsize() == pytest.approx(1.44 * plt.rcParams["font.size"])


def test_figures_fit_a_light_and_a_dark_page_and_leave_the_users_style_alone() -> None:
    before = dict(plt.rcParams)
    utils.image_grid(pictures(2), title=["one", "two"])
    grid = plt.gcf()
    utils.plot_grid([[1.0, 2.0]])
    curves = plt.gcf()
    for figure in (grid, curves):
        assert figure.get_facecolor()[3] == 0
        for axes in figure.axes:
            assert mpl.colors.to_hex(axes.title.get_color()) == utils.SOFT
    assert {label.get_color() for label in curves.axes[0].get_xticklabels()} == {utils.SOFT}
    grey = mpl.colors.to_rgb(utils.SOFT)[0]
    luminance = ((grey + 0.055) / 1.055) ** 2.4
    assert 1.05 / (luminance + 0.05) >= 4.5, "text on white, WCAG AA"
    assert (luminance + 0.05) / (0.013 + 0.05) >= 3, "large text on the dark background of the site"
    assert dict(plt.rcParams) == before


def test_long_titles_of_curves_do_not_run_together() -> None:
    utils.plot_grid([[1.0, 2.0]] * 3, width=250, titles=[f"num_warmup_steps = {steps}" for steps in (5, 10, 15)])
    boxes = [axes.title.get_window_extent() for axes in drawn()]
    assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ([], {}, "0 pictures in 1 rows"),
        (2, {"rows": 0}, "2 pictures in 0 rows"),
        (1, {"title": ["one", "two"]}, "2 titles for 1 pictures"),
    ],
)
def test_a_figure_that_cannot_be_is_one_line(values: int | list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        utils.image_grid(pictures(values) if isinstance(values, int) else values, **options)
    curves = [[1.0, 2.0]] * values if isinstance(values, int) else values
    with pytest.raises(InputError, match=words):
        utils.plot_grid(curves, **{name.replace("title", "titles"): value for name, value in options.items()})
