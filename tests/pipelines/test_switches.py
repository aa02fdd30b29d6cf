"""A pipeline's own switches of guidance: every one is honoured, or refused by name; none is dropped without a word."""

import inspect
import re
import warnings
from typing import Any

import diffusers
import pytest
import torch

from cfglab.errors import InputError
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.profile import Profile
from cfglab.pipelines.profiles.table import profiles
from tests.pipelines.families import case

SWITCH = re.compile(
    r"guid|cfg|pag_|sag_|stg_|classifier|rescale|dynamic|skip_layer|trunc|interval|clip_value|^normalize"
)
OTHER = {
    "control_guidance_start": "when a ControlNet is on",
    "control_guidance_end": "when a ControlNet is on",
    "skip_layer_guidance_scale": "is read with skip_guidance_layers only, which is refused",
    "skip_layer_guidance_start": "is read with skip_guidance_layers only, which is refused",
    "skip_layer_guidance_stop": "is read with skip_guidance_layers only, which is refused",
    "guidance_scale": "the scale itself: the layout's, or the number of a network that reads one",
    "image_guidance_scale": "of the third part of the batch, which is kept",
    "pag_scale": "of the third part of the batch, which is kept",
    "pag_adaptive_scale": "of the third part of the batch, which is kept",
    "clip_value": "done to the guided prediction by the pipeline",
    "prior_guidance_scale": "of the prior of StableUnCLIP, which is left as it is",
    "truncation_rate": "done to the guided prediction by the pipeline",
    "input_frames_guidance": "which frames of the unconditional prediction's input are those that are given",
}
"""What is neither the profile's scale nor in its fields, and why nothing of it is lost."""
KEPT = {
    "guidance_rescale": ("rescale",),
    "cfg_normalization": ("row norm", "ceiling"),
    "cfg_normalize": ("row norm",),
    "enable_cfg_renorm": ("token ceiling",),
    "cfg_renorm_min": ("token ceiling",),
}
"""What is done here, where `after` of the profile says so."""


WITH_SOUND = {
    "audio_guidance_scale",  # audio_guidance, or the pipeline's own
    *("stg_scale", "audio_stg_scale", "spatio_temporal_guidance_blocks"),  # terms that the pipeline adds itself
    *("guidance_rescale", "audio_guidance_rescale"),
}
"""Of LTX-2, which is given c and u, and keeps its own further terms."""
UNREAD = {"ChromaInpaintPipeline": {"true_cfg_scale"}}
"""What a pipeline takes and never reads: nothing is lost that was there."""


def undecided(kind: Any, profile: Profile) -> set[str]:
    """The switches of a class of which nothing was said."""
    excluded = (name for name, *_ in (*profile.refused, *profile.excluded))
    named = {profile.scale, profile.image_scale, *excluded, *OTHER}
    named |= {name for name, after in KEPT.items() if profile.post_combine in after}
    named |= WITH_SOUND if profile.layout == "with sound" else set()
    named |= UNREAD.get(kind.__name__, set())
    return {name for name in inspect.signature(kind.__call__).parameters if SWITCH.search(name)} - named


def test_every_switch_of_every_class_is_decided() -> None:
    """Of the installed diffusers: a new switch is red here until somebody has decided it."""
    left = {}
    for name, profile in profiles().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = getattr(diffusers, name, None)
        if kind is not None and not hasattr(kind, "_backends") and (missing := undecided(kind, profile)):
            left[name] = missing
    assert left == {}


def test_the_walk_sees_a_new_switch() -> None:
    class New:
        def __call__(self, prompt: str, guidance_scale: float = 5.0, guidance_interval: Any = None) -> None: ...

    assert undecided(New, Profile()) == {"guidance_interval"}


def set_at(name: str, value: Any, step: int = 1) -> Any:
    def callback(pipe: Any, index: int, _time: Any, values: Any) -> Any:
        if index == step:
            setattr(pipe, name, value)
        return values

    return callback


@pytest.mark.parametrize(
    ("pipeline", "name", "words"),
    [
        ("StableDiffusionPipeline", "_guidance_scale", r"table\(\[\.\.\.\]\) has a scale a step"),
        ("StableDiffusionPipeline", "_guidance_rescale", "guidance_rescale in the pipeline's call"),
        ("StableDiffusion3Pipeline", "_guidance_scale", "as a schedule"),
        ("ChromaPipeline", "_guidance_scale", "as a schedule"),
    ],
)
def test_a_number_that_a_callback_sets_is_refused_by_name(pipeline: str, name: str, words: str) -> None:
    made = case(pipeline)
    pipe = made.build()
    with pytest.raises(InputError, match=f"{name} of {pipeline} was set to 1.5 .*{words}") as said, guide(pipe, 3.0):
        made.call(pipe, made.scales[1], steps=3, callback=set_at(name, 1.5))
    assert "\n" not in str(said.value)


def test_a_callback_that_sets_the_same_number_or_comes_last_changes_nothing() -> None:
    made = case("StableDiffusionPipeline")
    pipe = made.build()
    with guide(pipe, 3.0):
        plain = made.call(pipe, 5.0, steps=3)
        assert torch.equal(made.call(pipe, 5.0, steps=3, callback=set_at("_guidance_scale", 5.0)), plain)
        assert torch.equal(made.call(pipe, 5.0, steps=3, callback=set_at("_guidance_scale", 1.0, step=2)), plain)


@pytest.mark.parametrize("name", ["StableDiffusionInstructPix2PixPipeline", "StableDiffusionPAGPipeline"])
def test_the_scale_of_a_third_part_may_be_set_during_a_run(name: str) -> None:
    made = case(name)
    pipe = made.build()
    number = "_image_guidance_scale" if "Pix2Pix" in name else "_pag_scale"
    plain = made.call(pipe, 3.0, steps=3)
    untouched = made.call(pipe, 3.0, steps=3, callback=set_at(number, 4.0))
    assert not torch.equal(untouched, plain)
    with guide(pipe, 3.0):
        guided = made.call(pipe, 5.0, steps=3, callback=set_at(number, 4.0))
    assert (guided - untouched).norm() <= 5e-6 * untouched.norm()
