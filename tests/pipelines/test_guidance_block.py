"""A Modular block that takes a guidance as an input of the pipeline."""

import importlib
from typing import Any

import pytest
import torch

import cfglab
from cfglab.errors import InputError
from cfglab.pipelines.guider.guider import Guider, to_guider
from tests.pipelines.modular import MODULAR

SDXL = MODULAR["SDXL"]
TEXT = "cosine(max=7.5, min=1) | prediction_norm(space=x0)"


@pytest.fixture(scope="module")
def pipe() -> Any:
    """Modular SDXL of tiny parts, with the block in front of its own blocks."""
    blocks = importlib.import_module("diffusers.modular_pipelines.stable_diffusion_xl").StableDiffusionXLAutoBlocks()
    del blocks.sub_blocks["decode"]
    blocks.sub_blocks.insert("guidance", cfglab.GuidanceBlock(), 0)
    made = blocks.init_pipeline()
    components = SDXL.case.build().components
    made.vae = components["vae"]
    made.update_components(**{name: part for name, part in components.items() if name in made.components and part})
    made.set_progress_bar_config(disable=True)
    return made


def test_the_input_sets_the_guider_for_the_call(pipe: Any) -> None:
    reference = SDXL.use(SDXL.build(), to_guider(TEXT))
    expected = SDXL.run(reference)
    latents = SDXL.run(pipe, guidance=TEXT)
    assert all(torch.equal(a, b) for a, b in zip(latents, expected, strict=True))
    assert isinstance(pipe.guider, Guider)
    plain = SDXL.run(pipe, guidance=1)
    assert not torch.equal(plain[-1], expected[-1])


def test_without_the_input_the_guider_stays(pipe: Any) -> None:
    guider = to_guider(3)
    pipe.update_components(guider=guider)
    SDXL.run(pipe)
    assert pipe.guider is guider


def test_a_text_that_cannot_be_read_is_one_line_and_changes_nothing(pipe: Any) -> None:
    guider = to_guider(3)
    pipe.update_components(guider=guider)
    with pytest.raises(InputError, match=r"unknown shape 'cosin'"):
        SDXL.run(pipe, guidance="cosin(max=3)")
    assert pipe.guider is guider


def test_the_input_is_described() -> None:
    (guidance,) = cfglab.GuidanceBlock().inputs
    assert guidance.name == "guidance"
    assert "cosine(max=7.5, min=1) | apg()" in guidance.description
