"""What is exported draws in diffusers what the trainer draws; averages made afterwards are those of their profile."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline

from training import export, pack, posthoc
from training.common import PowerAverages, load, save
from training.denoiser import Denoiser
from training.flow import Flow
from training.vae import Autoencoder

CHANNELS = (8, 8, 8, 16)
PROMPT = "a photograph of an astronaut riding a horse"


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Nothing that starts at zero stays there, in weights that float16 holds exactly."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
            value.copy_(value.half().float())
    return model.eval()


@pytest.fixture(scope="module")
def vae() -> Autoencoder:
    return shaken(Autoencoder(CHANNELS, 1, 8))  # type: ignore[return-value]


def noise() -> torch.Tensor:
    return torch.randn((1, 8, 16, 16), generator=torch.Generator().manual_seed(0))


def test_the_exported_scenes_draws_what_the_trainer_draws(tmp_path, vae):
    torch.manual_seed(0)
    model = shaken(Denoiser((16, 16, 32)))
    export.write(export.scenes(model, export.vae_of(vae, CHANNELS, 8, None)), tmp_path / "scenes")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "scenes", safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    found = pipeline(PROMPT, num_inference_steps=4, guidance_scale=3.0, latents=noise(), output_type="latent").images
    ours = model.sample([PROMPT], 3.0, 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, ours, atol=1e-3, rtol=1e-3)
    picture = pipeline.vae.decode(found / pipeline.vae.config.scaling_factor).sample
    torch.testing.assert_close(picture, vae.decode(ours / 0.18215), atol=1e-2, rtol=1e-2)


def test_the_exported_flow_draws_what_the_trainer_draws(tmp_path, vae):
    torch.manual_seed(0)
    model = shaken(Flow(width=32, blocks=2))
    export.write(export.scenes_flow(model, export.vae_of(vae, CHANNELS, 8, 0.0)), tmp_path / "flow")
    pipeline = StableDiffusion3Pipeline.from_pretrained(tmp_path / "flow", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 3.0, "latents": noise(), "output_type": "latent"}
    found = pipeline(PROMPT, max_sequence_length=1, **options).images
    ours = model.sample([PROMPT], 3.0, 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, ours, atol=1e-3, rtol=1e-3)
    padded = pipeline(PROMPT, **options).images
    torch.testing.assert_close(
        padded, model.sample([PROMPT], 3.0, 4, torch.Generator().manual_seed(0), 256), atol=1e-3, rtol=1e-3
    )
    assert (padded - found).abs().max() > 1e-2
    assert pipeline("a cat", height=128, width=128, max_sequence_length=1, num_inference_steps=1).images[0].size == (
        128,
        128,
    )


def test_an_average_made_afterwards_is_that_of_its_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    model, wanted = torch.nn.Linear(1, 1, bias=False), 0.07
    averages, profile = PowerAverages(model), PowerAverages(model)
    profile.SIGMAS = (wanted, wanted)
    for step in range(1, 1201):
        with torch.no_grad():
            model.weight.fill_(torch.sin(torch.tensor(step / 90.0)))
        averages.update(model, step)
        profile.update(model, step)
        if step % 100 == 0:
            save(tmp_path / "snapshots" / f"x-{step:07d}.pt", {"averages": averages.shadows, "step": step})
    save(tmp_path / "x.pt", {"averages": averages.shadows, "step": 1200, "minutes": 1.0, "done": True})
    found = posthoc.average("x", wanted)["weight"].item()
    expected = profile.shadows[0]["weight"].item()
    monkeypatch.setattr(pack, "PIECE", 700)
    monkeypatch.setattr(pack, "SIGMA", wanted)
    pack.pack(tmp_path / "carried", ["x"])
    assert len(list((tmp_path / "carried").iterdir())) > 1
    (tmp_path / "x.pt").unlink()
    pack.unpack(tmp_path / "carried")
    carried = load(tmp_path / "x.pt")
    assert carried["step"] == 1200
    assert len({value["weight"].data_ptr() for value in (carried["model"], *carried["averages"])}) == 3  # each its own
    assert abs(carried["averages"][1]["weight"].item() - found) < 1e-3
    kept = [shadow["weight"].item() for shadow in averages.shadows]
    assert abs(found - expected) < 0.1 * min(abs(value - expected) for value in kept)
