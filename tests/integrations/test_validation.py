"""validation(…) in training loops that are built as diffusers' example scripts: it changes nothing of the training."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from torch.utils.data import DataLoader

from cfglab import Experiment, Function, Guidance, InputError, Store, load, run, validation
from cfglab.experiments.backends.in_memory import check_call
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.guidance import PAG
from cfglab.integrations.validation import Checkpoint, undisturbed
from cfglab.pipelines.loading.text_to_image import SIDE
from cfglab.report import report
from tests.pipelines.families import case
from tests.tiny import tiny_pipeline

GUIDANCES = ["1", "5", "linear(max=7.5) | momentum()"]
PROMPTS = ["a cat", "a dog"]
Validate = Callable[[int], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model", factor=4)


@pytest.fixture
def pipe(folder: Path) -> Any:
    return fresh(folder)


def max_w(step: Any) -> float:
    return 5.0 - step.progress


def fresh(folder: Path) -> Any:
    made = load(folder, device="cpu")
    made.scheduler = DDPMScheduler.from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def _once(models_read_once: None) -> None:
    """For every test of this file."""


@pytest.fixture(autouse=True)
def _states_as_before() -> Iterator[None]:
    """`set_seed` seeds the generators of the whole process, which has one state of accelerate."""
    AcceleratorState._reset_state(True)
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def loader(pipe: Any) -> DataLoader[Any]:
    """Six images with their captions, which the data set flips at random."""
    images = torch.linspace(-1, 1, 6 * 3 * 64 * 64).reshape(6, 3, 64, 64)
    ids = pipe.tokenizer(["a cat"] * 6, padding="max_length", return_tensors="pt").input_ids

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        flipped = [images[index].flip(2) if random.random() < 0.5 else images[index] for index in indices]
        return {"pixel_values": torch.stack(flipped), "input_ids": ids[indices]}

    return DataLoader(range(6), shuffle=True, batch_size=2, collate_fn=collate)  # type: ignore[arg-type]


def noised(pipe: Any, scheduler: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Noised latents, timesteps, the embeddings and the target, as the scripts make them."""
    latents = pipe.vae.encode(batch["pixel_values"]).latent_dist.sample() * pipe.vae.config.scaling_factor
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),)).long()
    return scheduler.add_noise(latents, noise, timesteps), timesteps, pipe.text_encoder(batch["input_ids"])[0], noise


def train_text_to_image(pipe: Any, validate: Validate | None, steps: int = 3) -> list[float]:
    """The loop of examples/text_to_image/train_text_to_image.py with --use_ema; validation after each step."""
    accelerator = Accelerator(cpu=True)
    set_seed(0)
    noise_scheduler = pipe.scheduler
    unet = pipe.unet.train()
    pipe.vae.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    ema = EMAModel(unet.parameters(), decay=0.5)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    unet, optimizer, batches, lr_scheduler = accelerator.prepare(
        unet, optimizer, loader(pipe), get_scheduler("constant", optimizer)
    )
    losses: list[float] = []
    for batch in batches:
        with accelerator.accumulate(unet):
            noisy, timesteps, embeddings, target = noised(pipe, noise_scheduler, batch)
            loss = F.mse_loss(unet(noisy, timesteps, embeddings).sample.float(), target.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        ema.step(unet.parameters())
        losses.append(loss.item())
        if validate is not None and accelerator.is_main_process:
            ema.store(unet.parameters())
            ema.copy_to(unet.parameters())
            validate(len(losses))
            ema.restore(unet.parameters())
        if len(losses) == steps:
            break
    return losses


def train_dreambooth_lora(pipe: Any, validate: Validate | None, steps: int = 3) -> list[float]:
    """The loop of examples/dreambooth/train_dreambooth_lora.py: adapters with dropout, bf16 autocast of the network."""
    accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    set_seed(0)
    for network in (pipe.vae, pipe.text_encoder, pipe.unet):
        network.requires_grad_(False)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, lora_dropout=0.3, target_modules=["to_q", "to_v"]))
    trained = [parameter for parameter in pipe.unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    unet, optimizer, batches = accelerator.prepare(pipe.unet, optimizer, loader(pipe))
    assert accelerator.unwrap_model(unet) is pipe.unet
    losses: list[float] = []
    unet.train()
    for batch in batches:
        with accelerator.accumulate(unet):
            noisy, timesteps, embeddings, target = noised(pipe, pipe.scheduler, batch)
            loss = F.mse_loss(unet(noisy, timesteps, embeddings).sample.float(), target.float())
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if validate is not None:
            with accelerator.autocast():
                validate(len(losses))
        if len(losses) == steps:
            break
    return losses


@pytest.mark.parametrize("train", [train_text_to_image, train_dreambooth_lora])
def test_the_losses_are_those_without_validation(
    train: Callable[..., list[float]], pipe: Any, folder: Path, tmp_path: Path
) -> None:
    plain = fresh(folder)
    expected = train(plain, None)
    made: list[Checkpoint] = []
    validate = validation(pipe, GUIDANCES, PROMPTS, out=tmp_path / "validation", steps=2)
    AcceleratorState._reset_state(True)
    assert train(pipe, lambda step: made.append(validate(step))) == expected
    assert [done.step for done in made] == [1, 2, 3]
    for trained, other in zip(pipe.unet.parameters(), plain.unet.parameters(), strict=True):
        assert torch.equal(trained, other)
    weights = {done.run.store.meta("weights") for done in made}
    assert len(weights) == 3 or train is train_dreambooth_lora  # gradients of two batches make one step there
    images = [done.images[2].path.read_bytes() for done in made]
    assert images[0] != images[2]


def test_a_checkpoint_is_a_run_and_what_trackers_take(pipe: Any, tmp_path: Path) -> None:
    pipe.unet.train()
    validate = validation(pipe, {"plain": 1, "five": 5}, PROMPTS, out=tmp_path, seeds="0..1", steps=2)
    done = validate(1500)
    assert done.run.folder == tmp_path / "step-00001500"
    assert done.run.store.experiment.sampler == "DDPMScheduler"
    assert [(image.guidance, image.prompt, image.seed) for image in done.images[:3]] == [
        ("plain", "a cat", 0),
        ("plain", "a cat", 1),
        ("plain", "a dog", 0),
    ]
    assert done.images[4].caption == "five · a cat · seed 0"
    assert done.pixels.shape == (8, 64, 64, 3)
    images = [image.metrics["contrast"] for image in done.run.store.results()]
    assert done.scalars["validation/contrast/five"] == pytest.approx(np.mean(images[4:]))
    assert {name.rpartition("/")[2] for name in done.scalars} == {"plain", "five"}
    assert done.run.compare("saturation").baseline == "plain"
    again = validate(1500)
    assert (again.run.drawn, again.images) == (0, done.images)


def test_the_images_are_those_of_the_pipeline_itself(pipe: Any, tmp_path: Path) -> None:
    """Bit for bit a plain call at the same scale, from a pipeline in evaluation mode."""
    done = validation(pipe, [5], "a cat", out=tmp_path, seeds=3, steps=2)(0)
    generator = torch.Generator("cpu").manual_seed(3)
    image = pipe("a cat", guidance_scale=5, num_inference_steps=2, generator=generator).images[0]
    assert np.array_equal(done.pixels[0], np.asarray(image))


def test_a_pipe_in_memory_makes_the_images_of_its_folder(folder: Path, tmp_path: Path) -> None:
    """The same pixels as the run that loads the model by its name, up to rounding to bytes."""
    experiment = Experiment.from_yaml(
        "name: both\nprompts: [a cat]\nseeds: 0..1\nsteps: 2\nbaseline: {guidance: 5}\n"
        "groups: [{name: w, guidance: 2}]",
        model=str(folder),
    )
    run(experiment, tmp_path / "named", "cpu", quiet=True)
    in_memory = run(experiment, tmp_path / "memory", pipe=load(folder, device="cpu", sampler="lms"), quiet=True)
    results = [Store.open(tmp_path / name).results() for name in ("named", "memory")]
    for one, other in zip(*results, strict=True):
        assert one.metrics["contrast"] == pytest.approx(other.metrics["contrast"], abs=0.02)
    with pytest.raises(InputError, match="was in the memory of the program that ran it"):
        reproduce(tmp_path / "memory" / str(results[1][0].image), tmp_path / "again.png")
    assert "Make one image again" not in in_memory.report().read_text(encoding="utf-8")


def test_everything_is_restored_also_after_an_error(pipe: Any) -> None:
    pipe.unet.train()
    pipe.unet.conv_in.eval()
    scheduler, before = pipe.scheduler, (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())

    def disturb() -> None:
        with undisturbed(pipe):
            assert not any(module.training for module in pipe.unet.modules())
            assert not torch.is_grad_enabled()
            pipe.scheduler.set_timesteps(7)
            torch.rand(3), random.random(), np.random.rand()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        disturb()
    assert (pipe.unet.training, pipe.unet.conv_in.training, torch.is_grad_enabled()) == (True, False, True)
    assert pipe.scheduler is scheduler
    assert len(scheduler.timesteps) == 1000
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_repeated_step_with_other_weights_stays_beside_the_first(pipe: Any, tmp_path: Path) -> None:
    validate = validation(pipe, [5], "a cat", out=tmp_path, steps=1)
    first = validate(2)
    with torch.no_grad():
        pipe.unet.conv_in.bias.add_(0.5)
    second = validate(2)
    assert second.run.folder.name.startswith("step-00000002-")
    assert first.images[0].path.read_bytes() != second.images[0].path.read_bytes()
    page = report(tmp_path).read_text(encoding="utf-8")
    assert f"{second.run.folder.name}/images" in page
    assert "step-00000002/images" not in page


def test_the_page_shows_every_metric_and_image(pipe: Any, tmp_path: Path) -> None:
    validate = validation(pipe, ["1", "5"], PROMPTS, out=tmp_path, steps=1)
    for step in (0, 10):
        page = validate(step).page
    text = page.read_text(encoding="utf-8")
    assert "from step 0 to 10" in text
    assert text.count("<img src=") == 4
    assert all(f"{name} over the training step" in text for name in ("Saturation", "Contrast"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guidances": []}, "guidances: there are none; give at least one, such as 7.5."),
        ({"guidances": "cosin(7)"}, "cosin"),
        ({"prompts": []}, "prompts: there are none; give at least one."),
        ({"prompts": ["a", "a"]}, "prompts: 'a' is there twice; results are paired by it, so leave one out."),
        ({"metrics": ["clipp"]}, "metric 'clipp'"),
        ({"metrics": "clip_score"}, "metrics 'clip_score': a list of them is needed; write metrics=['clip_score']."),
        ({"width": 36}, "width 36: a size is a multiple of 8; leave it out for the model's own."),
        ({"pipe": object()}, "object cannot be guided"),
        ({"guidances": lambda _: 3.0}, "the function '<lambda>' cannot be stored: another run could not call it;"),
        ({"guidances": Function(max_w)}, "the function 'max_w' cannot be stored: another run could not call it;"),
        ({"guidances": {"mine": Guidance(Function(max_w) + 1)}}, "setting 'mine': the function 'max_w' cannot be"),
    ],
)
def test_what_cannot_work_is_said_before_the_training(
    changes: dict[str, Any], said: str, pipe: Any, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"pipe": pipe, "guidances": 5, "prompts": "a cat", **changes}
    with pytest.raises(InputError) as error:
        validation(given.pop("pipe"), given.pop("guidances"), given.pop("prompts"), out=tmp_path, **given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("WanPipeline", "makes videos (num_frames)"),
        ("StableAudioPipeline", "takes no width"),
        ("AceStepPipeline", "takes no width"),
        ("VQDiffusionPipeline", "takes no width"),
        ("DiTPipeline", "needs class_labels"),
        ("StableDiffusionInstructPix2PixPipeline", "needs an image (image)"),
        ("StableDiffusionControlNetPipeline", "needs an image (controlnet_conditioning_scale)"),
        ("StableDiffusionImg2ImgPipeline", "needs an image (strength)"),
        ("StableVideoDiffusionPipeline", "makes videos (num_frames)"),
        ("Kandinsky5I2IPipeline", "needs image"),
    ],
)
def test_a_pipeline_that_makes_no_images_of_prompts_is_refused(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        check_call(getattr(diffusers, name))
    assert str(error.value) == (
        f"{name}: an experiment has images of a width and a height, made of prompts alone, and this pipeline {said}; "
        "call it yourself under cfglab.guide(pipe, …)."
    )
    if name in ("WanPipeline", "DiTPipeline"):
        with pytest.raises(InputError, match="made of prompts alone"):
            validation(case(name).build(), 5, "a cat", out=tmp_path / "out", steps=1, width=16, height=16)
        assert not (tmp_path / "out").exists()


def test_pipelines_of_text_to_image_are_taken() -> None:
    for name in (*SIDE, "AmusedPipeline", "FluxKontextPipeline", "IFPipeline", "Kandinsky5T2IPipeline"):
        check_call(getattr(diffusers, name))
    check_call(diffusers.Kandinsky5I2IPipeline, ["image"])


def test_a_pipeline_that_fails_whatever_is_asked_is_refused_at_the_first_call(pipe: Any, tmp_path: Path) -> None:
    """An error that is none of cfglab's: a traceback of diffusers, a network that fails, an image of NaN."""
    edit = case("StableDiffusionXLInstructPix2PixPipeline").build()
    tokens = case("AmusedPipeline").build()
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    for made, said in ((edit, "image"), (tokens, "list"), (pipe, "NaN in the guided prediction")):
        with pytest.raises(InputError) as error:
            validation(made, {"a": 5, "b": 6}, PROMPTS, out=tmp_path / "out", steps=1, width=16, height=16)(0)
        assert str(error.value).startswith("guidance 'a': all 2 images failed, the first with: ")
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "out").iterdir())


def test_a_guidance_that_fails_is_refused_at_the_first_call(pipe: Any, tmp_path: Path) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("the shapes differ")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PAG, "weak_pass", fail)
        with pytest.raises(InputError) as error:
            validation(pipe, {"plain": 5, "pag": "5 | pag()"}, "a cat", out=tmp_path, steps=1)(0)
    assert str(error.value) == "guidance 'pag': RuntimeError: the shapes differ"


def test_without_an_image_there_are_no_pixels(pipe: Any, tmp_path: Path) -> None:
    """All images of a later call fail, and the training goes on."""
    validate = validation(pipe, [5, 6], PROMPTS, out=tmp_path, steps=1)
    validate(0)
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    done = validate(1)
    assert (done.run.failed, done.images, dict(done.scalars)) == (4, (), {})
    assert (done.pixels.shape, done.pixels.dtype) == ((0, 0, 0, 3), np.uint8)


def test_a_method_that_does_not_fit_is_refused_at_the_first_call(pipe: Any, tmp_path: Path) -> None:
    for other in ("5 | pag(layers=nonsense)", "5 | per_position(map='0 1 2 3 4 5 6')"):
        for guidances in (["5", other], [other, "5"]):
            with pytest.raises(InputError) as error:
                validation(pipe, guidances, PROMPTS, out=tmp_path, steps=1)(0)
            assert "nonsense" in str(error.value) or "1 x 7" in str(error.value)
            assert "\n" not in str(error.value)
            assert not list(tmp_path.iterdir())
    done = validation(pipe, ["5", "6"], PROMPTS, out=tmp_path, steps=1)(0)  # the folder takes another experiment
    assert (done.run.failed, len(done.images)) == (0, 4)


def test_what_fails_later_is_recorded(pipe: Any, tmp_path: Path) -> None:
    """A method that is refused at a later call does not end a training."""

    def refuse(*_: Any) -> Any:
        raise InputError("refused on purpose; leave it.")

    validate = validation(pipe, ["5", "5 | pag()"], PROMPTS, out=tmp_path, steps=1)
    assert validate(0).run.failed == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PAG, "weak_pass", refuse)
        done = validate(1)
    assert (done.run.failed, len(done.images)) == (2, 2)


def test_a_folder_of_other_prompts_is_refused_before_the_training(pipe: Any, tmp_path: Path) -> None:
    validation(pipe, [5], "a cat", out=tmp_path, steps=1)(1)
    with pytest.raises(InputError, match="step-00000001"):
        validation(pipe, [5], "a dog", out=tmp_path, steps=1)
    with pytest.raises(InputError, match="a training step is a whole number"):
        validation(pipe, [5], "a cat", out=tmp_path, steps=1)(1.5)  # type: ignore[arg-type]
