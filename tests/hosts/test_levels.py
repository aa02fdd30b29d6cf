"""The noise levels of code bases: their own formulas, written out from the papers or run from a checkout."""

import importlib.util
import math
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import cfglab as cl
from cfglab import cli
from cfglab.errors import InputError
from cfglab.hosts.code_bases import PATHS, cosine_betas


def checkout(variable: str, file: str, package: str) -> ModuleType:
    """A module of a code base whose checkout an environment variable names; else the test is skipped."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable}=/path/to/checkout runs this against the code base itself")
    path = Path(folder) / file
    for name, place in ((package, path.parent), (f"{package}.{path.stem}", path)):
        spec = importlib.util.spec_from_file_location(
            name, place / "__init__.py" if place.is_dir() else place, submodule_search_locations=[str(path.parent)]
        )
        assert spec is not None
        assert spec.loader is not None
        if name not in sys.modules:
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    return sys.modules[f"{package}.{path.stem}"]


def alphas_cumprod(first: float, last: float) -> np.ndarray:
    """DDPM's linear schedule, 2006.11239 section 4."""
    return np.cumprod(1 - np.linspace(first, last, 1000, dtype=np.float64))


@pytest.mark.parametrize("steps", [2, 10, 250, 1000])
def test_the_levels_of_dit_are_those_of_its_betas_at_evenly_spaced_timesteps(steps: int) -> None:
    run, kept = cl.levels("dit", steps), alphas_cumprod(1e-4, 0.02)
    times = np.round(np.arange(steps) * 999 / (steps - 1)).astype(int)[::-1]
    assert [step.timestep for step in run.steps] == times.tolist()
    assert [step.sigma for step in run.steps] == pytest.approx(np.sqrt((1 - kept) / kept)[times].tolist(), rel=1e-9)
    assert [step.alpha for step in run.steps] == pytest.approx(np.sqrt(kept)[times].tolist(), rel=1e-9)


def test_the_levels_of_dit_are_those_of_its_own_code() -> None:
    respace = checkout("DIT", "diffusion/respace.py", "dit_diffusion")
    diffusion = sys.modules["dit_diffusion"].create_diffusion("250")
    run = cl.levels("dit", 250)
    assert sorted(respace.space_timesteps(1000, "250")) == [step.timestep for step in run.steps][::-1]
    kept = diffusion.alphas_cumprod[::-1]
    assert [step.sigma for step in run.steps] == pytest.approx(np.sqrt((1 - kept) / kept).tolist(), rel=1e-9)


def test_the_cosine_betas_keep_what_the_papers_formula_keeps() -> None:
    """2102.09672 eq. 17: the product of 1 - beta is f(t) / f(0), until betas are clipped."""
    kept = np.cumprod(1 - np.array(cosine_betas()))
    part = (np.arange(1, 1001) / 1000 + 0.008) / 1.008
    wanted = np.cos(part * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert kept[:990] == pytest.approx(wanted[:990], rel=1e-9)
    assert max(cosine_betas()) == 0.999


def test_edm_levels_are_those_of_the_paper() -> None:
    steps = cl.levels("edm2", 32).steps
    wanted = [(80 ** (1 / 7) + i / 31 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(32)]
    assert [step.sigma for step in steps] == pytest.approx(wanted, rel=1e-9)
    assert steps[-1].next_sigma == 0.0


def test_repa_counts_time_from_data_and_sit_from_noise() -> None:
    repa, sit = cl.levels("repa", 50), cl.levels("sit", 50)
    assert [step.host_sigma for step in repa.steps] == pytest.approx(np.linspace(1, 0, 51)[:-1].tolist())
    assert [step.host_sigma for step in sit.steps] == pytest.approx(np.linspace(0, 1, 51)[:-1].tolist())
    for mine, other in zip(repa.steps[1:], sit.steps[1:], strict=True):
        assert mine.sigma == pytest.approx(other.sigma)
        t = float(mine.host_sigma or 0)
        assert mine.sigma == pytest.approx(t / (1 - t))
    assert (repa.negated, sit.negated) == (False, True)


def test_repas_stochastic_sampler_ends_with_a_step_from_004() -> None:
    wanted = [*np.linspace(1.0, 0.04, 250).tolist(), 0.0]
    assert cl.levels("repa-sde", 250).hosts == pytest.approx(wanted)


def test_lightningdits_shift_is_that_of_stable_diffusion_3_upside_down() -> None:
    """2403.03206 eq. 23 with a shift of 1 / 0.3, in its own time."""
    for step, even in zip(cl.levels("lightningdit", 100).steps, np.arange(100) / 100, strict=True):
        noise, shift = 1 - even, 1 / 0.3
        wanted = shift * noise / (1 + (shift - 1) * noise)
        assert 1 - float(step.host_sigma or 0) == pytest.approx(wanted)


def test_the_trigonometric_path_has_sines_and_cosines() -> None:
    for step in cl.levels("sit-gvp", 10).steps[1:]:
        angle = float(step.host_sigma or 0) * math.pi / 2
        assert step.alpha == pytest.approx(math.sin(angle))
        assert float(step.alpha or 0) * float(step.sigma or 0) == pytest.approx(math.cos(angle))


def test_k_diffusions_levels_of_stable_diffusion_are_those_of_its_own_code() -> None:
    run = cl.levels("sd", 28)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    logs = np.log(np.sqrt((1 - kept) / kept))
    wanted = np.exp(np.interp(np.linspace(999, 0, 28), np.arange(1000), logs))
    assert [step.sigma for step in run.steps] == pytest.approx(wanted.tolist(), rel=1e-9)
    assert [step.timestep for step in run.steps] == pytest.approx(np.linspace(999, 0, 28).tolist(), abs=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_call_anywhere_is_read_in_float32_too(path: str) -> None:
    run = cl.levels(path, 50)
    for index, step in enumerate(run.steps):
        level = torch.tensor(step.host_sigma, dtype=torch.float32).item()
        assert run.at(level).index == index
        assert run.at(level, ending=True).index == max(0, index - 1)
        between = (run.hosts[index] + run.hosts[index + 1]) / 2
        assert run.at(between).index == run.at(between, ending=True).index == index
        inside = run.at(between)
        assert float(inside.next_sigma or 0) <= float(inside.sigma or 0) <= float(step.sigma or 0)


@pytest.mark.parametrize("path", PATHS)
def test_levels_can_be_sent_to_another_process(path: str) -> None:
    made = cl.levels(path, 6)
    sent = pickle.loads(pickle.dumps(made))
    assert sent.steps == made.steps
    assert sent.at(made.hosts[2]) == made.at(made.hosts[2])


@pytest.mark.parametrize("path", PATHS)
def test_levels_fall_and_alpha_belongs_to_them(path: str) -> None:
    run = cl.levels(path, 20)
    sigmas = [step.sigma for step in run.steps]
    assert sigmas == sorted(sigmas, reverse=True, key=float)
    assert len(set(sigmas)) == 20
    assert str(run).count("\n") == 20


def test_a_window_of_the_paper_in_the_units_of_dit() -> None:
    """The conversion that was asked for: sigma in (0.34, 1.02] with DiT's 250 steps."""
    window = cl.levels("dit", 250).window("sigma", 0.34, 1.02)
    kept = alphas_cumprod(1e-4, 0.02)
    times = np.round(np.arange(250) * 999 / 249).astype(int)
    sigmas = np.sqrt((1 - kept) / kept)[times]
    inside = times[(sigmas > 0.34) & (sigmas <= 1.02)]
    assert [step.timestep for step in window.steps] == inside[::-1].tolist()
    values = cl.Guidance(window.text("2.5")).schedule.values(250)
    assert sum(w == 2.5 for w in values) == len(inside)
    sigma = cl.Guidance("2.5.inside(sigma=(0.34, 1.02))").schedule
    assert [sigma(step) for step in cl.levels("dit", 250).steps] == values


def test_the_ends_of_a_window_are_those_of_its_unit() -> None:
    run = cl.levels("repa", 4)  # sigma: infinite, 3, 1, 1/3; t: 1, 0.75, 0.5, 0.25
    windows = {
        ("sigma", 1.0, 3.0): (1, 2),
        ("t", 0.5, 0.75): (1, 3),
        ("level", 0.25, 0.5): (2, 4),
        ("progress", 0.25, 0.75): (1, 3),
        ("step", 0, 2): (0, 2),
    }
    for (unit, low, high), steps in windows.items():
        window = run.window(unit, low, high)
        assert (window.start, window.stop) == steps, unit


def test_repas_interval_is_low_noise_and_lightningdits_start_cuts_high_noise() -> None:
    repa = cl.levels("repa", 250).window("level", 0.0, 0.7)
    assert (repa.start, repa.stop) == (75, 250)
    lightning = cl.levels("lightningdit", 249).window("level", 0.125, 1.0)
    assert lightning.start > 0
    assert lightning.stop == 249
    assert max(float(step.sigma or 0) for step in lightning.steps) <= 7.0 + 1e-9  # (1 - 0.125) / 0.125


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpm++2m"])
def test_the_levels_of_a_diffusers_model_are_its_schedulers(sampler: str) -> None:
    run = cl.levels("scenes", 8, sampler=sampler)
    assert len(run.steps) == 8
    for step in run.steps:
        assert float(step.alpha or 0) == pytest.approx(1 / math.hypot(1, float(step.sigma or 0)))
        assert run.at(float(step.timestep or 0)).index == step.index


def test_the_command_prints_a_table_and_windows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["levels", "edm2", "--steps", "8"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert cli.call(["levels", "dit", "--steps", "250", "--window", "sigma=0.34..1.02"]) == 0
    out = capsys.readouterr().out
    assert "timesteps 261 to 100" in out
    assert "constant(w).inside(steps=(184, 225))" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dti"], "did you mean dit?"),
        (["nothing-like-it"], "there are dit, adm"),
        (["dit", "--steps", "1"], "2 to 10,000"),
        (["dit", "--steps", "1001"], "1000 training timesteps"),
        (["dit", "--sampler", "euler"], "levels of its own"),
        (["dit", "--window", "sigma"], "UNIT=LOW..HIGH"),
        (["dit", "--window", "sigmas=1..2"], "did you mean sigma?"),
        (["dit", "--window", "sigma=2..1"], "goes upwards"),
        (["dit", "--window", "sigma=nan..1"], "the ends of a window are numbers"),
        (["dit", "--window", "sigma=500..600"], "no step of 50 is inside"),
        (["repa", "--window", "timestep=1..2"], "has no timesteps"),
        (["scenes", "--sampler", "eulr"], "did you mean euler"),
    ],
)
def test_a_wrong_word_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["levels", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_folder_without_a_scheduler_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "os.system"}')
    with pytest.raises(InputError, match="is none of diffusers'"):
        cl.levels(str(tmp_path), 8)
