"""The shared model of the playground: the same images as everywhere else, one at a time, and errors in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfglab.errors import CfglabError
from cfglab.guidance import parse_guidance
from cfglab.ui.engine import Engine, Frame, ImageRequest
from cfglab.ui.links import PageState
from cfglab.ui.take_away import taken

TEXTS = ("7.5", "cosine(max=7.5, min=1) | rescale()", "1")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("scenes", "cpu")


def last(engine: Engine, request: ImageRequest) -> Frame:
    return list(engine.frames(request))[-1]


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def test_the_image_is_the_one_of_the_python_that_is_taken_away(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    state = PageState("a photograph of a cat", TEXTS[1], seed=5, steps=3, sampler="euler")
    frame = last(engine, ImageRequest(state.prompt, (parse_guidance(state.guidance),), 5, 3, "euler"))
    monkeypatch.chdir(tmp_path)
    exec(taken("Python", state, "scenes").replace("print(", "str("), {})
    assert np.abs(pixels(frame.images[0]) - pixels(Image.open("image.png"))).max() <= 1  # type: ignore[index]


def test_a_batch_of_guidances_gives_each_its_own_image_of_the_same_noise(engine: Engine) -> None:
    guidances = tuple(map(parse_guidance, TEXTS))
    together = last(engine, ImageRequest("a photograph of a cat", guidances, seed=2, steps=3))
    assert together.images is not None
    for image, guidance in zip(together.images, guidances, strict=True):
        alone = last(engine, ImageRequest("a photograph of a cat", (guidance,), seed=2, steps=3))
        assert alone.images is not None
        assert np.abs(pixels(image) - pixels(alone.images[0])).max() <= 1
    assert np.abs(pixels(together.images[0]) - pixels(together.images[2])).max() > 20


def test_frames_come_step_by_step_and_the_last_one_is_done(engine: Engine) -> None:
    frames = list(engine.frames(ImageRequest("a cat", (parse_guidance("7.5"),), steps=9)))
    assert [frame.step for frame in frames] == list(range(1, 10))
    assert [frame.done for frame in frames] == [False] * 8 + [True]
    assert 3 <= sum(frame.images is not None for frame in frames) <= 7


def test_closing_the_frames_frees_the_model_for_the_next_one(engine: Engine) -> None:
    frames = engine.frames(ImageRequest("a cat", (parse_guidance("7.5"),), steps=100))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert last(engine, ImageRequest("a cat", (parse_guidance("7.5"),), steps=1)).done
    assert engine.lock.acquire(timeout=30)
    engine.lock.release()


def test_a_model_that_is_not_there_or_does_not_fit_is_one_line_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = ImageRequest("a cat", (parse_guidance("7.5"),))
    missing = Engine(str(tmp_path / "nowhere"), "cpu")
    small = Engine("scenes", "cpu")
    monkeypatch.setattr("cfglab.pipelines.load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()), raising=False)
    for broken, words in ((missing, ""), (small, "does not fit into memory")):
        for _ in range(2):
            with pytest.raises(CfglabError) as fault:
                list(broken.frames(request))
            assert words in str(fault.value)
            assert "\n" not in str(fault.value)
        assert not broken.lock.locked()


def test_a_prompt_that_is_too_long_for_the_encoder_names_what_is_lost(engine: Engine) -> None:
    with pytest.raises(CfglabError, match="would be lost"):
        list(engine.frames(ImageRequest("cat " * 200, (parse_guidance("7.5"),), steps=1)))


def test_a_model_of_another_class(tmp_path: Path) -> None:
    from tests.pipelines.families import case

    flow = tmp_path / "sd3"
    case("StableDiffusion3Pipeline").build().save_pretrained(flow)
    frame = last(Engine(str(flow), "cpu"), ImageRequest("a cat", (parse_guidance("5"),), steps=2, sampler="euler"))
    assert frame.done
    assert pixels(frame.images[0]).shape == (16, 16, 3)  # type: ignore[index]
    packed = tmp_path / "flux"
    case("FluxPipeline").build().save_pretrained(packed)
    with pytest.raises(CfglabError, match="a FluxPipeline, and the playground shows steps of StableDiffusionPipeline"):
        last(Engine(str(packed), "cpu"), ImageRequest("a cat", (parse_guidance("5"),), steps=2, sampler="euler"))
