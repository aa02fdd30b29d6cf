"""Runs on folders of other pipeline classes than Stable Diffusion 1.x, made tiny: one layout of guidance each."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

from cfglab.errors import InputError
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.png import read_pixels
from cfglab.pipelines import guide, load, locate
from cfglab.pipelines.loading.samplers import FLOW_SAMPLERS, OWN, make_sampler
from cfglab.pipelines.loading.text_to_image import SIDE
from cfglab.pipelines.profiles.table import profiles
from tests.pipelines.families import case

NO_BINS = {"use_resolution_binning": False}
FAST: dict[str, dict[str, Any]] = {
    "StableDiffusionXLPipeline": {},
    "StableDiffusion3Pipeline": {"max_sequence_length": 1},
    "FluxPipeline": {"max_sequence_length": 16, "guidance_scale": 2.5},
    "QwenImagePipeline": {},
}
SLOW: dict[str, dict[str, Any]] = {
    "AuraFlowPipeline": {},
    "ChromaPipeline": {},
    "CogView3PlusPipeline": {},
    "CogView4Pipeline": {},
    "HunyuanDiTPipeline": NO_BINS,
    "OvisImagePipeline": {},
    "PixArtAlphaPipeline": NO_BINS,
    "PixArtSigmaPipeline": NO_BINS,
    "ZImagePipeline": {},
}
EXPERIMENT = """
name: folders
prompts: [a cat, a dog]
seeds: 0..1
steps: 2
sampler: euler
width: 16
height: 16
baseline: {name: constant, guidance: 5}
groups: [{name: cosine, guidance: "cosine(max=7)"}, {name: off, guidance: "1"}]
"""
WITHOUT_SIZE = EXPERIMENT.replace("width: 16\nheight: 16\n", "")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`folders(name)`: the folder of a tiny pipeline of that class, written once."""
    root = tmp_path_factory.mktemp("folders")

    def made(name: str) -> Path:
        if not (root / name).exists():
            case(name).build().save_pretrained(root / name)
        return root / name

    return made


@pytest.mark.parametrize(
    ("name", "arguments"), [*FAST.items(), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW.items())]
)
def test_a_run_draws_what_the_guided_pipeline_draws(
    name: str, arguments: dict[str, Any], folders: Any, tmp_path: Path
) -> None:
    folder = folders(name)
    sampler = OWN if name == "CogView3PlusPipeline" else "euler"
    experiment = Experiment.from_yaml(EXPERIMENT, model=str(folder), arguments=arguments, sampler=sampler)
    finished = run(experiment, tmp_path / "run", "cpu", score=False)
    rows = list(finished.store.rows())
    assert [row.result.error for row in rows if row.result.status != "done"] == []
    assert all("clipped_share" in row.result.metrics for row in rows)
    wanted = [row.result for row in rows if row.result.setting == "cosine"]
    pipe = load(folder, device="cpu", sampler=sampler)
    pipe.set_progress_bar_config(disable=True)
    prompts = [result.prompt for result in wanted]
    switched = {"negative_prompt": [""] * len(prompts)} if "negative_prompt" in profiles()[name].negatives else {}
    with guide(pipe, "cosine(max=7)"):
        images = pipe(
            prompt=prompts,
            width=16,
            height=16,
            num_inference_steps=2,
            generator=[torch.Generator("cpu").manual_seed(result.torch_seed) for result in wanted],
            output_type="np",
            **switched,
            **arguments,
            **({profiles()[name].scale: 4.0}),
        ).images
    for image, result in zip(images, wanted, strict=True):
        drawn = read_pixels(tmp_path / "run" / str(result.image))
        assert np.abs(drawn.astype(int) - np.round(image * 255).astype(int)).max() <= 1


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline"])
def test_a_run_compares_no_guidance_with_a_method_at_w_1(name: str, folders: Any, tmp_path: Path) -> None:
    document = EXPERIMENT.replace("guidance: 5", "guidance: 1").replace("cosine(max=7)", "1 | nag(s=5, prompt=snow)")
    document = document.replace("name: cosine", "name: negative")
    experiment = Experiment.from_yaml(document, model=str(folders(name)), arguments={"max_sequence_length": 16})
    finished = run(experiment, tmp_path / "run", "cpu", score=False)
    assert finished.failed == 0
    pipe = load(folders(name), device="cpu", sampler="euler")
    pipe.set_progress_bar_config(disable=True)
    differ = set()
    for row in finished.store.rows():
        result = row.result
        generator = torch.Generator("cpu").manual_seed(result.torch_seed)
        size = {"width": 16, "height": 16, "num_inference_steps": 2, "max_sequence_length": 16}
        off = {"guidance_scale": 1.0} if name == "StableDiffusion3Pipeline" else {}
        plain = pipe(result.prompt, generator=generator, output_type="np", **size, **off).images[0]
        drawn = read_pixels(tmp_path / "run" / str(result.image)).astype(int)
        differ |= {result.setting} if np.abs(drawn - np.round(plain * 255)).max() > 1 else set()
    assert differ == {"negative"}


def test_a_run_goes_on_and_its_images_are_drawn_again(folders: Any, tmp_path: Path) -> None:
    folder = folders("StableDiffusion3Pipeline")
    experiment = Experiment.from_yaml(EXPERIMENT, model=str(folder), arguments={"max_sequence_length": 1})
    first = run(experiment, tmp_path / "run", "cpu", score=False)
    image = tmp_path / "run" / str(next(iter(first.store.rows())).result.image)
    before = image.read_bytes()
    image.unlink()
    run(experiment, tmp_path / "run", "cpu", score=False)
    assert image.read_bytes() == before
    assert reproduce(image, tmp_path / "copy.png", "cpu").largest_difference == 0
    other = Experiment.from_yaml(EXPERIMENT, model=str(folder))
    assert other.id != experiment.id
    assert "arguments" not in other.to_yaml()
    assert Experiment.from_yaml(experiment.to_yaml()).id == experiment.id


def test_every_class_makes_images_of_a_text_and_can_be_guided() -> None:
    makes_images = {kind.__name__ for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    assert set(SIDE) <= makes_images & set(profiles())


def test_the_size_is_that_of_the_denoiser_or_has_to_be_stated(folders: Any, tmp_path: Path) -> None:
    from cfglab.experiments.spec.models import model_facts

    assert model_facts(str(folders("StableDiffusion3Pipeline"))).width == 16
    assert model_facts(str(folders("FluxPipeline"))).width == 1024
    folder = Path(shutil.copytree(folders("StableDiffusion3Pipeline"), tmp_path / "model"))
    change(folder / "transformer" / "config.json", sample_size=None)
    with pytest.raises(InputError, match=r"width: .* has no default size; state width"):
        Experiment.from_yaml(WITHOUT_SIZE, model=str(folder)).cells()


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_sequence_lenght": 1}, "did you mean max_sequence_length?"),
        ({"guidance_scale": 3.0}, "guidance_scale is set by the experiment or its guidance"),
        ({"prompt": "a dog"}, "prompt is set by the experiment"),
        ({"num_images_per_prompt": 2}, "num_images_per_prompt is set by"),
        ({"__class__": 1}, "arguments"),
        ({"clip_skip": {"a": 1}}, "arguments"),
        ({"clip_skip": float("inf")}, "arguments"),
    ],
)
def test_arguments_that_the_pipeline_does_not_take(
    arguments: dict[str, Any], words: str, folders: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        run(
            Experiment.from_yaml(EXPERIMENT, model=str(folders("StableDiffusion3Pipeline")), arguments=arguments),
            tmp_path / "run",
            "cpu",
            score=False,
        )
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_prompt_that_no_text_encoder_reads_whole(folders: Any, tmp_path: Path) -> None:
    """SDXL has CLIP alone; in Stable Diffusion 3 a T5 reads on."""
    long = " ".join(["cat"] * 90)
    with pytest.raises(InputError, match="would be lost; shorten it"):
        run(
            Experiment.from_yaml(EXPERIMENT, model=str(folders("StableDiffusionXLPipeline")), prompts=[long]),
            tmp_path / "xl",
            "cpu",
            score=False,
        )
    flow = Experiment.from_yaml(EXPERIMENT, model=str(folders("StableDiffusion3Pipeline")), prompts=[long], seeds=0)
    assert run(flow, tmp_path / "flow", "cpu", score=False).failed == 0


def test_a_mixture_has_no_arguments(tmp_path: Path) -> None:
    document = WITHOUT_SIZE.replace("a cat, a dog", "left, right")
    experiment = Experiment.from_yaml(document, model="mixture:tree", arguments={"clip_skip": 1})
    with pytest.raises(InputError, match="arguments: a mixture is no pipeline"):
        run(experiment, tmp_path / "run", "cpu", score=False)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("model_index.json", {"_class_name": "LTXPipeline"}, "which is not yet supported: a run loads"),
        ("model_index.json", {"vae": ["os", "system"]}, "classes of diffusers and transformers are read"),
        ("model_index.json", {"vae": ["transformers", "pipeline"]}, "vae is transformers 'pipeline'"),
        ("model_index.json", {"vae": ["diffusers", "DiffusionPipeline"]}, "vae is diffusers 'DiffusionPipeline'"),
        ("model_index.json", {"vae": "AutoencoderKL"}, "cannot be read"),
        ("model_index.json", {"scheduler": ["diffusers", "utils"]}, "a scheduler of diffusers is read"),
        ("transformer/config.json", {"num_layers": 10**6}, "num_layers 1,000,000: at most 256 layers"),
        ("transformer/config.json", {"num_layers": 3}, "cannot be read as a StableDiffusion3Pipeline"),
        ("transformer/config.json", {"num_attention_heads": 4096}, "describes a network of"),
        ("transformer/config.json", {"sample_size": 20_000}, "sample_size 20000"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**9}, "at most 256 layers"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps 1000000000"),
    ],
)
def test_a_folder_that_is_no_such_model_is_one_line(
    file: str, values: dict[str, Any], words: str, folders: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("StableDiffusion3Pipeline"), tmp_path / "model"))
    change(folder / file, **values)
    with pytest.raises(InputError) as error:
        load(folder, device="cpu")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_pickled_weights_and_missing_ones_are_refused(folders: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders("StableDiffusion3Pipeline"), tmp_path / "model"))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="is a pickle"):
        locate(folder)
    weights.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match="transformer holds no weights"):
        locate(folder)
    shutil.rmtree(folder / "transformer")
    with pytest.raises(InputError, match="has no transformer folder"):
        locate(folder)


@pytest.mark.parametrize("name", FLOW_SAMPLERS)
def test_samplers_of_a_flow_keep_its_shift(name: str) -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}
    sampler = make_sampler(name, config)
    assert type(sampler).__name__ == FLOW_SAMPLERS[name]
    sampler.set_timesteps(4)
    plain = make_sampler(name, {**config, "shift": 1.0})
    plain.set_timesteps(4)
    assert float(sampler.timesteps[-1]) > float(plain.timesteps[-1])


def test_a_sampler_of_noise_does_not_fit_a_flow(folders: Any) -> None:
    with pytest.raises(InputError, match="sampler lms: the model predicts a flow, and the samplers for it are deis"):
        load(folders("StableDiffusion3Pipeline"), device="cpu", sampler="lms")
    with pytest.raises(InputError, match="which heun does not read"):
        make_sampler("heun", {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True})
    with pytest.raises(InputError, match="compile: the transformer"):
        load(folders("StableDiffusion3Pipeline"), device="cpu", compiled=True)
