"""The trainers: each stage works from what the one before it left, and resumes."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cfglab.scenes import renderer
from cfglab.scenes.vocabulary import Scene
from training import autoencoder, common, drawn, generator, latents, tokens
from training.common import Muon, Plan, PowerAverages, gamma_of, orthogonal
from training.denoiser import Denoiser
from training.flow import Flow
from training.generator import Options
from training.vae import Autoencoder

CPU = torch.device("cpu")


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """An empty training folder, a tiny autoencoder, chunks of eight scenes."""
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    monkeypatch.setattr(latents, "CHUNK", 8)
    monkeypatch.setattr(latents, "MEASURED", 16)
    monkeypatch.setattr(generator, "PROMPTS", ("a cat", "two dogs"))
    monkeypatch.setattr(generator, "SHEETS", 2)
    monkeypatch.setattr(generator, "SHEET_STEPS", 2)
    monkeypatch.setattr(autoencoder, "build", lambda: Autoencoder((8, 8, 8, 16), 1, 8))
    return tmp_path


def tiny(kind: str) -> generator.Generator:
    return Denoiser((16, 16, 32)) if kind == "denoiser" else Flow(width=32, blocks=4)


@pytest.mark.parametrize("kind", ["denoiser", "flow"])
def test_a_model_trains_from_the_stages_before_it_resumes_and_branches(small, kind):
    assert autoencoder.train(Plan(4, 1e-3, 2), 1, CPU)
    assert latents.train(16, 1, CPU)
    assert sorted(path.name for path in (small / "latents").iterdir()) == ["00000.pt", "00001.pt"]

    before = latents.frozen(CPU)
    vae = latents.frozen(CPU)
    assert autoencoder.train_decoder(vae, Plan(1, 1e-3, 2), 1, CPU)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(latents.frozen(CPU).encode(pixels)[0], before.encode(pixels)[0])
    assert not torch.equal(latents.frozen(CPU).decode(torch.ones(1, 8, 4, 4)), before.decode(torch.ones(1, 8, 4, 4)))

    plan = Plan(4, 1e-3, 4)
    assert not generator.train(tiny(kind), plan, 0, CPU, Options())
    assert common.load(small / f"{kind}.pt")["step"] == 0
    assert generator.train(tiny(kind), Plan(4, 1e-3, 2, partial=True), 1, CPU, Options())
    assert not generator.finished(kind)  # a shorter run than was planned: the plan goes on from it
    assert generator.train(tiny(kind), plan, 1, CPU, Options())
    assert common.load(small / f"{kind}.pt")["step"] == 4
    assert generator.finished(kind)
    assert list(small.glob(f"{kind}-*.png"))

    assert generator.train(tiny(kind), Plan(4, 1e-3, 2), 1, CPU, Options(wrong=1.0, branch="w100"))
    branch = common.load(small / f"{kind}-w100.pt")
    assert (branch["step"], branch["first"], branch["done"]) == (6, 4, True)
    assert all(torch.equal(value, branch["model"][name]) for name, value in generator.learned(f"{kind}-w100").items())
    trunk = common.load(small / f"{kind}.pt")["averages"][1]
    assert all(torch.equal(value, trunk[name]) for name, value in generator.learned(kind).items())
    assert common.load(small / f"{kind}.pt")["step"] == 4
    assert not list(small.rglob("*.part"))


@pytest.mark.usefixtures("small")
def test_a_chunk_is_a_function_of_its_number_and_its_latents_are_normal():
    autoencoder.train(Plan(4, 1e-3, 1), 1, CPU)
    latents.freeze(CPU)
    vae = latents.frozen(CPU)
    one, other = latents.encode(vae, 3, CPU), latents.encode(vae, 3, CPU)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert one["latents"].shape == (8, 8, 16, 16)
    values = torch.cat([latents.encode(vae, chunk, CPU)["latents"].float() for chunk in range(3)])
    assert values.std((0, 2, 3)).sub(1).abs().max() < 0.6
    assert values.mean((0, 2, 3)).abs().max() < 0.6


@pytest.mark.usefixtures("small")
def test_the_first_share_of_a_run_has_true_captions_alone(monkeypatch):
    autoencoder.train(Plan(4, 1e-3, 1), 1, CPU)
    latents.train(16, 1, CPU)
    asked, chance = [], latents.Batches._chance
    monkeypatch.setattr(latents.Batches, "_chance", lambda self, share: (asked.append(share), chance(self, share))[1])
    plan = Plan(4, 1e-3, 4, true=0.5)
    generator.train(tiny("flow"), plan, 1, CPU, Options(wrong=0.7))
    assert asked[::2] == [0, 0, 0.7, 0.7], "every second chance is that of an empty caption"
    asked.clear()
    generator.train(tiny("flow"), plan, 1, CPU, Options(wrong=0.7, branch="more"))
    assert asked[::2] == [0.7] * 4


def test_wrong_and_empty_captions_come_as_often_as_asked_for(small):
    autoencoder.train(Plan(4, 1e-3, 1), 1, CPU)
    latents.train(16, 1, CPU)
    own = {}
    for path in sorted((small / "latents").glob("*.pt")):
        chunk = torch.load(path)
        for z, rows in zip(chunk["latents"], chunk["tokens"], strict=True):
            own[tuple(z.flatten()[::37].tolist())] = {tuple(row.tolist()) for row in rows}
    right = empty = 0
    batches = iter(latents.Batches(CPU, 300, wrong=0.4, seed=5))
    nothing = tokens.encode("")
    batch = next(batches)
    for z, row in zip(batch.latents, batch.tokens, strict=True):
        told = tuple(row.tolist())
        empty += told == nothing
        right += told in own[tuple(z.flatten()[::37].tolist())]
    assert 0.06 < empty / 300 < 0.15
    assert 0.50 < right / 300 < 0.66  # 0.9 * (0.6 + 0.4 / 16), and captions that two scenes share


def test_cells_name_the_sprite_or_the_background_that_a_cell_shows():
    layout = renderer.Layout((renderer.Placed(renderer.bank().rows["car", "red"], 96, 96, 60),), (244, 244, 244), 0, 5)
    _, cells = renderer.draw_with_cells([layout])
    assert cells[0, :4].eq(5).all()
    assert cells[0, :, :4].eq(5).all()
    assert (cells[0] == renderer.bank().rows["car", "red"] + 8).sum() >= 4
    assert int(cells.max()) < renderer.SHOWN


def test_noise_is_what_the_denoiser_is_asked_for_and_velocity_the_flow(monkeypatch):
    """A network that answers perfectly has no error."""
    batch = latents.Batch(torch.randn(3, 8, 16, 16), tokens.encode_all(["a cat", "", "a dog"]), torch.zeros(3, 8, 8))
    model = tiny("denoiser")

    def ideal_noise(noisy, timesteps, _text):
        share = model.alphas[timesteps][:, None, None, None]
        return (noisy - share.sqrt() * batch.latents) / (1 - share).sqrt(), noisy

    monkeypatch.setattr(model.unet, "forward", ideal_noise)
    assert model.loss(batch, False)[1].max() < 1e-6
    flow = tiny("flow")

    def ideal_velocity(noisy, timesteps, *_rest):
        return (noisy - batch.latents) / (timesteps / 1000)[:, None, None, None], noisy

    monkeypatch.setattr(flow.transformer, "forward", ideal_velocity)
    assert flow.loss(batch, True)[1].max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["denoiser", "flow"])
def test_a_loss_is_one_graph_in_bfloat16_too(kind):
    """What a GPU compiles; a break in the graph would cost it most of its speed."""
    model, padded = tiny(kind), kind == "flow"
    batch = latents.Batch(torch.randn(3, 8, 16, 16), tokens.encode_all(["a cat", "", "a dog"]), torch.zeros(3, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        weighted, error, inner = torch.compile(model.loss, backend="eager", fullgraph=True)(batch, padded)
        model.cells(inner).float().mean().backward(retain_graph=True)
    weighted.mean().backward()
    assert torch.isfinite(error).all()
    assert inner.shape[0] == 3
    assert inner.shape[2:] == (8, 8)


@pytest.mark.parametrize("shape", [(2, 24, 80), (1, 80, 24), (3, 32, 64)])
def test_muon_makes_updates_nearly_orthogonal(shape):
    made = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(made)
    assert made.shape == shape
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_lowers_a_loss_and_leaves_vectors_to_adam():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Tanh(), torch.nn.Linear(32, 20))
    optimizer = Muon(model, lambda name: name.startswith("2."))
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]
    optimizer.set_rate(0.02)
    x = torch.randn(64, 20)
    losses = []
    for _ in range(60):
        loss = (model(x) - x.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_power_averages_are_the_weighted_means_of_their_definition():
    model = torch.nn.Linear(1, 1, bias=False)
    averages, seen = PowerAverages(model), []
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step**0.5)
        seen.append(step**0.5)
        averages.update(model, step)
    for sigma, shadow in zip(PowerAverages.SIGMAS, averages.shadows, strict=True):
        gamma = gamma_of(sigma)
        assert abs(((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5 - sigma) < 1e-6
        weights = torch.tensor([(t / 199) ** gamma for t in range(1, 200)], dtype=torch.float64)
        expected = (weights * torch.tensor(seen, dtype=torch.float64)).sum() / weights.sum()
        assert abs(shadow["weight"].item() - expected.item()) < 0.02


def test_the_trainers_need_torch_alone():
    """What a bare machine with a GPU has: no numpy, Pillow, safetensors, diffusers, transformers, pydantic."""
    code = (
        "import sys\n"
        "for name in ('numpy', 'PIL', 'safetensors', 'diffusers', 'transformers', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "import training.__main__ as main\n"
        "from cfglab.scenes import renderer\n"
        "from cfglab.scenes.vocabulary import Scene\n"
        "from random import Random\n"
        "print(renderer.draw_scenes([Scene('cat')], Random(0)).shape, main.make('denoiser').name)\n"
    )
    root = Path(common.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["torch.Size([1,", "3,", "128,", "128])", "denoiser"]
    assert Scene("cat").count == 1


@pytest.mark.usefixtures("small")
def test_models_draw_for_the_classifiers_in_chunks_that_are_kept(monkeypatch):
    monkeypatch.setattr(drawn, "CHUNK", 2)
    monkeypatch.setattr(drawn, "STEPS", (1,))
    vae: Any = SimpleNamespace(decode=lambda x: torch.zeros(len(x), 3, 128, 128))
    monkeypatch.setattr(drawn, "frozen", lambda _: vae)
    assert not drawn.train(1, -1, CPU, tiny)
    assert drawn.train(2, 1, CPU, tiny)
    kept = [common.load(drawn.path_of(chunk)) for chunk in range(2)]
    assert [each["pictures"].shape for each in kept] == [(2, 3, 128, 128)] * 2
    assert kept[0]["captions"] != kept[1]["captions"]
    assert torch.equal(drawn.draw(0, tiny("denoiser"), vae, CPU).whole, kept[0]["whole"])
    monkeypatch.setattr(drawn, "draw", None)
    assert drawn.train(2, 1, CPU, tiny)
