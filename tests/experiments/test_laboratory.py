"""Experiments on mixtures: the same run folder, comparison, report and reproduction as with images."""

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.experiments import Experiment
from cfglab.experiments.backends.scatter_plot import DOT, class_density, scatter_plot
from cfglab.experiments.execution.outcome import Load, Workers, in_process
from cfglab.experiments.execution.reproduce import reproduce, trace_of
from cfglab.experiments.execution.run import Run, run
from cfglab.experiments.spec.models import LARGEST_SIGMA, MIXTURE_METHODS, SMALLEST_SIGMA
from cfglab.experiments.storage.png import read_pixels
from cfglab.mixtures.metrics import ExactMetrics
from cfglab.mixtures.noise_paths import karras, noise_steps, random_numbers
from cfglab.mixtures.sampling import generate
from cfglab.mixtures.toys import modes, two

YAML = """
name: small-mixture
model: mixture:modes
prompts: [class 0]
seeds: 0..5
steps: 12
sampler: heun
baseline: {name: constant, guidance: 4}
groups:
  - {name: none, guidance: 1}
  - {name: middle, guidance: "constant(4).inside(sigma=(0.3, 2))"}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(Experiment.from_yaml(YAML), tmp_path_factory.mktemp("lab") / "run", quiet=True)


def test_a_cell_is_256_samples_with_exact_metrics(finished: Run) -> None:
    assert (finished.drawn, finished.failed) == (18, 0)
    it = next(it for it in finished.store.results() if (it.setting, it.seed) == ("constant", 2))
    toy = modes()
    steps = noise_steps(karras(12, LARGEST_SIGMA, SMALLEST_SIGMA))
    x = generate(toy.mixture.of_class(0), toy.mixture, 4, steps, range(512, 768), "heun")
    assert it.metrics == pytest.approx(ExactMetrics(toy, 0).measure(x))
    assert read_pixels(finished.folder / str(it.image)).shape == (128, 128, 3)


def test_settings_compare_as_with_pictures(finished: Run) -> None:
    found = finished.compare("sliced_wasserstein")
    assert found.better == "lower"
    assert {row.setting: row.n for row in found.rows} == {"none": 6, "middle": 6}
    for row in found.rows:  # seeds are paired, so six sets are enough to see that guidance everywhere is worse
        assert row.difference is not None
        assert row.high is not None
        assert row.high < 0
    masses = finished.compare("mode_distance")
    assert all(row.difference is not None and row.difference < 0 for row in masses.rows)


def test_its_report_trace_and_reproduction(finished: Run, tmp_path: Path) -> None:
    page = finished.report().read_text(encoding="utf-8")
    assert "Wasserstein, sliced" in page
    results = finished.store.results()
    at = {it.setting: finished.folder / str(it.image) for it in results}
    copy = reproduce(at["middle"], tmp_path / "copy.png")
    assert copy.identical
    trace = trace_of(at["middle"])
    w = trace.column("w")
    sigma = trace.column("sigma")
    assert {w[i] for i in range(len(w)) if 0.3 < float(sigma[i] or 0) <= 2} == {4}
    assert trace.column("rows_run")[0] == 1  # guidance is off: the class alone
    assert trace_of(at["constant"]).column("rows_run")[0] == 2


def test_a_finished_run_is_known_without_torch(finished: Run) -> None:
    code = (
        f"import sys; from cfglab.experiments import Experiment, run; folder = {str(finished.folder)!r};"
        "again = run(Experiment.from_yaml(folder + '/experiment.yaml'), folder, quiet=True);"
        "print(again.drawn, sorted({'torch', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "mixture:tre"}, "did you mean tree"),
        ({"prompts": ["a photograph of a cat"]}, "write 'class 0' to 'class 1'"),
        ({"prompts": ["class 2"]}, "write 'class 0' to 'class 1'"),
        ({"negative": "blurry"}, "write 'class 0' to 'class 1'"),
        ({"sampler": "lms"}, "a mixture has euler, heun, euler-a"),
        ({"width": 64}, "are one size"),
        ({"dtype": "float16"}, "^dtype 'float16': a mixture computes in float64; leave it out"),
        ({"compile": True}, "^compile: a mixture has no network to compile; leave it out"),
    ],
)
def test_what_a_mixture_cannot_be_asked_is_one_line(changes: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        run(Experiment.from_yaml(YAML, **changes), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["cuda", "mps", "foo"])
def test_a_mixture_runs_on_the_cpu(device: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^device '{device}': a mixture runs on the CPU; use auto or cpu"):
        run(Experiment.from_yaml(YAML), tmp_path / "run", device, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_mixture_takes_no_gpu_of_a_cluster(tmp_path: Path) -> None:
    devices: list[str] = []

    def executor(load: Load, device: str, most: int) -> AbstractContextManager[Workers]:
        devices.append(device)
        return in_process(load, device, most)

    run(Experiment.from_yaml(YAML, seeds=0, steps=2), tmp_path / "run", quiet=True, executor=executor)
    assert devices == ["cpu"]


@pytest.mark.parametrize("sampler", ["euler", "heun", "euler-a"])
def test_one_step_is_the_prediction_of_x0_at_the_largest_level(sampler: str, tmp_path: Path) -> None:
    one = Experiment.from_yaml(YAML, seeds=0, steps=1, sampler=sampler)
    done = run(one, tmp_path / "run", quiet=True)
    assert (done.drawn, done.failed) == (len(one.settings), 0)
    noise = random_numbers(range(4), 0, 1)[0] * LARGEST_SIGMA
    mixture = two().mixture
    (step,) = steps = noise_steps(karras(1, LARGEST_SIGMA, SMALLEST_SIGMA))
    assert (step.sigma, step.next_sigma) == (pytest.approx(LARGEST_SIGMA), 0.0)
    x = generate(mixture, mixture, 1, steps, range(4), MIXTURE_METHODS[sampler])
    assert torch.allclose(x, mixture.predict(noise, step, "x0"))


@pytest.mark.parametrize("name", ["mixture-k-decay", "mixture-interval", "mixture-tree"])
def test_the_presets_run(name: str, tmp_path: Path) -> None:
    preset = Experiment.preset(name, seeds=3, steps=6)
    done = run(preset, tmp_path / "run", quiet=True)
    assert (done.drawn, done.failed) == (len(preset.settings), 0)
    assert {len(it.metrics) for it in done.store.results()} == {7}


def test_samples_that_are_not_finite_fail_alone(tmp_path: Path) -> None:
    wild = Experiment.from_yaml(YAML, seeds=0, set={"groups": [{"name": "wild", "guidance": "1e300"}]})
    done = run(wild, tmp_path / "run", quiet=True)
    assert (done.drawn, done.failed) == (1, 1)


def test_a_picture_shows_where_the_samples_are() -> None:
    """The class's middle is the image's: (1, 0.4) for the modes at (1, 1) and (1, -1)."""
    one = modes().of_class(0).mixture
    empty = class_density(one, 128)
    at = np.argwhere(np.abs(scatter_plot(one, one.means[:1].numpy(), empty) - empty).max(axis=0) > 0.2)
    assert at.shape == (4, 2)
    assert set(at[:, 1]) <= {63, 64, 65}
    assert (at[:, 0] < 64).all()
    assert empty[0].argmin() // 128 in range(at[:, 0].min() - 2, at[:, 0].max() + 3)  # the density is highest there


def test_samples_that_are_far_away_are_at_the_edge_without_a_warning() -> None:
    one = modes().of_class(0).mixture
    empty = class_density(one, 128)
    with np.errstate(invalid="raise", over="raise"):
        picture = scatter_plot(one, np.array([[1e30, -1e307]]), empty)
    assert np.argwhere((picture != empty).any(axis=0)).tolist() == [[127, 127]]


def test_a_picture_of_a_line_is_a_histogram() -> None:
    one = two().of_class(0).mixture
    picture = scatter_plot(one, one.sample(range(2000)).numpy(), class_density(one, 128))
    heights = (np.abs(picture - DOT[:, None, None]).max(axis=0) < 1e-6).sum(axis=0)[::4]
    assert abs(int(heights.argmax()) - 16) <= 2
    assert heights[0] < 3
    assert heights[-1] < 3
