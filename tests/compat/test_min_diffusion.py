"""How MinimalDiffusion is called, what it starts from, and how the schedule moves."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cfglab
from cf_guidance.transforms import GuidanceTfm
from cfglab.errors import CfglabError, InputError
from min_diffusion.core import MinimalDiffusion
from tests.oracles import Published


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(folder: Path, *style: Any, **options: Any) -> MinimalDiffusion:
    return MinimalDiffusion(str(folder), "cpu", torch.float32, *style, **{"generator": seeded(7), **options})


def recorder(indices: list[int]) -> Callable[..., torch.Tensor]:
    """A transform that writes down the index of each of its calls."""

    def guide_tfm(u: torch.Tensor, t: torch.Tensor, idx: int) -> torch.Tensor:
        indices.append(idx)
        return u + 3.0 * (t - u)

    return guide_tfm


def same(a: Image.Image, b: Image.Image) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


# -- calling styles --------------------------------------------------------------------------------------------------


def test_the_style_of_november_2022(tiny: Path) -> None:
    ours = MinimalDiffusion(str(tiny), "cpu", torch.float32, seeded(7))
    ours.load(False, "")
    assert type(ours.scheduler).__name__ == "LMSDiscreteScheduler"
    assert same(ours.generate("a", steps=2), model(tiny, unet_attn_slice=False).generate("a", steps=2))


def test_the_style_of_the_release(published: Published, tiny: Path) -> None:
    theirs = inspect.signature(published.module("min_diffusion.core").MinimalDiffusion.__init__).parameters
    ours = inspect.signature(MinimalDiffusion.__init__).parameters
    assert list(ours) == list(theirs)
    assert type(MinimalDiffusion(str(tiny), "cpu", torch.float32, "main", seeded(7)).scheduler).__name__ == (
        "EulerDiscreteScheduler"
    )


def test_the_call_of_the_notebook(tiny: Path) -> None:
    """`generate(prompt, gtfm, generator=generator)` and nothing else: 50 steps, in the model's own size."""
    generator = seeded(7)
    ours = model(tiny, generator=generator)
    indices: list[int] = []
    picture = ours.generate("a b", recorder(indices), generator=generator)
    assert picture.size == (128, 128)
    assert indices == list(range(50))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lms", "LMSDiscreteScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler"),
        ("dpm_multi", "DPMSolverMultistepScheduler"),
        ("ddim", "DDIMScheduler"),
        ("heun", "HeunDiscreteScheduler"),
    ],
)
def test_samplers_by_their_old_names(tiny: Path, name: str, kind: str) -> None:
    assert type(model(tiny, scheduler_kls=name).scheduler).__name__ == kind


def test_attention_in_slices_is_as_asked(tiny: Path) -> None:
    def processors(ours: MinimalDiffusion) -> set[str]:
        return {type(processor).__name__ for processor in ours.unet.attn_processors.values()}

    assert processors(model(tiny)) == {"SlicedAttnProcessor"}
    assert processors(model(tiny, unet_attn_slice=False)) == {"AttnProcessor2_0"}


def test_parts_are_the_pipelines_and_can_be_replaced(tiny: Path) -> None:
    ours = model(tiny)
    other = type(model(tiny, scheduler_kls="ddim").scheduler).from_config(ours.scheduler.config)
    ours.scheduler = other
    assert ours.pipe is not None
    assert ours.pipe.scheduler is other


def test_another_autoencoder_from_a_folder(tiny: Path, tiny_v: Path) -> None:
    plain, better = model(tiny), model(tiny, better_vae=str(tiny / "vae"))
    assert same(plain.generate("a", steps=2), better.generate("a", steps=2))
    for value in better.vae.state_dict().values():
        value.mul_(1.1)
    assert not same(plain.generate("a", steps=2), better.generate("a", steps=2))
    with pytest.raises(InputError, match="cannot be loaded"):
        model(tiny, better_vae=str(tiny_v)).load()


# -- the schedule ----------------------------------------------------------------------------------------------------

TWICE = [0, 0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("sampler", "indices"),
    [
        ("lms", [0, 1, 2, 3, 4]),
        ("euler", [0, 1, 2, 3, 4]),
        ("euler_ancestral", [0, 1, 2, 3, 4]),
        ("dpm_multi", [0, 1, 2, 3, 4]),
        ("heun", TWICE),
        ("kdpm2", TWICE),
        ("kdpm2-a", TWICE),
    ],
)
def test_the_schedule_moves_once_a_step(tiny: Path, sampler: str, indices: list[int]) -> None:
    """Never late, never at half speed: the first call sees entry 0, the last step sees the last entry."""
    seen: list[int] = []
    ours = model(tiny, scheduler_kls=sampler)
    ours.generate("a", recorder(seen), steps=5)
    ours.generate("a", recorder(seen), steps=5)
    assert seen == indices * 2


def test_a_list_of_one_scale_a_step_is_enough_for_a_sampler_that_calls_twice(tiny: Path) -> None:
    ours = model(tiny, scheduler_kls="heun")
    by_list = ours.generate("a", GuidanceTfm({"g": [3.0, 2.0, 5.0]}), steps=3)
    by_hand = ours.generate("a", lambda u, t, idx: u + (3.0, 2.0, 5.0)[idx] * (t - u), steps=3)
    by_schedule = ours.generate("a", cfglab.Table([3.0, 2.0, 5.0]), steps=3)
    assert same(by_list, by_hand)
    assert same(by_list, by_schedule)


# -- the starting latents --------------------------------------------------------------------------------------------


def test_latents_are_drawn_from_the_generators_state_at_construction(tiny: Path) -> None:
    generator = seeded(7)
    ours = model(tiny, generator=generator)
    torch.randn(3, generator=generator)  # what loading or a cell in between may do
    ours.generate("a", steps=1, generator=seeded(8))
    wanted = torch.randn((1, 4, 16, 16), generator=seeded(7))
    assert ours.init_latents is not None
    assert torch.equal(ours.init_latents, wanted)


def test_the_default_generator_of_torch_given_is_copied_and_left_alone(tiny: Path) -> None:
    wanted = torch.randn((1, 4, 16, 16), generator=torch.manual_seed(1024))
    ours = model(tiny, generator=torch.manual_seed(1024))
    state = torch.get_rng_state()
    ours.generate("a", steps=1)
    assert ours.init_latents is not None
    assert torch.equal(ours.init_latents, wanted)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loaded", [False, True])
def test_without_a_generator_a_seed_before_the_first_picture_chooses_the_latents(tiny: Path, loaded: bool) -> None:
    """What the notebooks of the libraries post do: build, load, `torch.manual_seed`, generate."""
    torch.manual_seed(7)
    ours = model(tiny, generator=None)
    if loaded:
        ours.load()
    torch.manual_seed(1024)
    first = ours.generate("a", steps=1)
    assert ours.init_latents is not None
    after = torch.get_rng_state()
    wanted = torch.randn((1, 4, 16, 16), generator=torch.manual_seed(1024))  # as published, 0.0.3
    assert torch.equal(ours.init_latents, wanted)
    assert torch.equal(after, torch.get_rng_state())  # one draw, and nothing else
    torch.manual_seed(3)
    assert same(ours.generate("a", steps=1), first)  # later images share them
    ours.generate("a", steps=1, width=144)
    assert same(ours.generate("a", steps=1), first)  # also when another size was asked for in between
    ours.set_initial_latents(None)
    torch.manual_seed(5)
    ours.generate("a", steps=1)
    assert torch.equal(ours.init_latents, torch.randn((1, 4, 16, 16), generator=torch.manual_seed(5)))


def test_latents_drawn_by_hand_are_new_at_every_call_without_a_generator(tiny: Path) -> None:
    ours, given = model(tiny, generator=None), model(tiny)
    torch.manual_seed(1)
    first, second = ours.get_initial_latents(128, 128), ours.get_initial_latents(128, 128)
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.randn((1, 4, 16, 16), generator=torch.manual_seed(1)))
    assert torch.equal(given.get_initial_latents(128, 128), given.get_initial_latents(128, 128))


@pytest.mark.parametrize("sampler", ["lms", "euler", "dpm_multi", "heun"])
def test_the_noise_levels_of_karras_are_for_the_picture_that_asks(tiny: Path, sampler: str) -> None:
    ours = model(tiny, scheduler_kls=sampler)
    plain = ours.generate("a", None, 128, 128, 3)
    before = ours.scheduler
    karras = ours.generate("a", None, 128, 128, 3, True)
    assert ours.scheduler is before
    assert not same(karras, plain)
    assert same(ours.generate("a", steps=3, use_karras_sigmas=False), plain)
    ours.scheduler = type(before).from_config(before.config, use_karras_sigmas=True)
    assert same(ours.generate("a", steps=3), karras)


def test_latents_are_float32_whatever_the_model_computes_in(tiny: Path) -> None:
    half = MinimalDiffusion(str(tiny), "cpu", torch.bfloat16, generator=seeded(7))
    half.generate("a", steps=1)
    assert half.init_latents is not None
    assert half.init_latents.dtype == torch.float32
    assert torch.equal(half.init_latents, model(tiny).get_initial_latents(128, 128))


def test_all_pictures_share_the_latents_and_another_size_has_its_own(tiny: Path) -> None:
    ours = model(tiny)
    first = ours.generate("a", steps=2)
    shared = ours.init_latents
    ours.generate("b", steps=2, generator=seeded(99))
    assert ours.init_latents is shared
    wide = ours.generate("a", steps=2, width=144)
    assert wide.size == (144, 128)
    assert ours.init_latents is not None
    assert ours.init_latents.shape == (1, 4, 16, 18)
    assert same(ours.generate("a", steps=2), first)


def test_latents_that_were_set_are_used_until_they_are_taken_back(tiny: Path) -> None:
    ours, other = model(tiny), model(tiny, generator=seeded(8))
    mine = ours.generate("a", steps=2)
    ours.set_initial_latents(other.get_initial_latents(128, 144))
    assert same(ours.generate("a", steps=2), other.generate("a", steps=2, width=144))
    ours.set_initial_latents(None)
    assert same(ours.generate("a", steps=2), mine)


def test_the_generator_of_a_call_is_for_the_noise_of_the_sampler(tiny: Path) -> None:
    ours = model(tiny, scheduler_kls="euler_ancestral")
    first = ours.generate("a", steps=3, generator=seeded(1))
    assert same(ours.generate("a", steps=3, generator=seeded(1)), first)
    assert not same(ours.generate("a", steps=3, generator=seeded(2)), first)


# -- text ------------------------------------------------------------------------------------------------------------


def test_text_is_encoded_as_published(published: Published, tiny: Path) -> None:
    theirs = published.module("min_diffusion.core").MinimalDiffusion(str(tiny), "cpu", torch.float32, "main")
    theirs.load_text_pieces()
    ours = model(tiny)
    for texts, maxlen in (("a b", None), (["a", "b c"], None), ("a b c d e", 5)):
        assert torch.equal(ours.encode_text(texts, maxlen), theirs.encode_text(texts, maxlen))
    assert not ours.encode_text("a").requires_grad


def test_a_negative_prompt_takes_the_place_of_the_empty_one(tiny: Path) -> None:
    ours = model(tiny)
    plain = ours.generate("a", steps=2)
    assert same(ours.generate("a", steps=2, negative_prompt=""), plain)
    assert not same(ours.generate("a", steps=2, negative_prompt="b"), plain)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "0 steps: a run has at least one step"),
        ({"width": 100}, "width=100: a multiple of 8 pixels"),
        ({"height": -8}, "height=-8: a multiple of 8 pixels"),
        ({"guide_tfm": GuidanceTfm({"g": [1.0, 2.0]})}, "step 49 of the schedule 'g' with 2 values"),
        ({"prompt": ["a", "b"]}, "one text draws one image"),
        ({"prompt": "a " * 80}, "has 80 tokens: the text encoder reads 75"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas=True: a DDIMScheduler has no such noise levels"),
    ],
)
def test_a_bad_call_is_said_in_one_line(tiny: Path, options: dict[str, Any], words: str) -> None:
    ours = model(tiny, **({"scheduler_kls": "ddim"} if "use_karras_sigmas" in options else {}))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        ours.generate(**{"prompt": "a", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_k_diffusion": "k_euler"}, "scheduler_kls='heun'"),
        ({"scheduler_kls": "lsm"}, "no sampler 'lsm'"),
        ({"better_vae": "best"}, "better_vae='best': 'ema', 'mse' or a local folder"),
    ],
)
def test_a_bad_construction_is_said_in_one_line(tiny: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(CfglabError, match=re.escape(words)) as caught:
        model(tiny, **options).load()
    assert "\n" not in str(caught.value)


def test_latents_of_another_size_than_the_picture_are_refused(tiny: Path) -> None:
    ours = model(tiny)
    ours.set_initial_latents(torch.zeros(1, 4, 16, 16))
    with pytest.raises(InputError, match="an image of 64 x 128 pixels from latents of shape"):
        ours.generate("a", width=64)
