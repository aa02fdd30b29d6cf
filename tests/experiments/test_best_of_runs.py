"""best_of in a run: the images of the candidates whose predictions differ most, exact when resumed and made again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.experiments import Experiment, Run, Store, run
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.experiments.spec.cost import cost_of
from cfglab.experiments.spec.document import check
from cfglab.experiments.spec.models import model_facts
from cfglab.experiments.spec.starting_noise import candidate_seed
from cfglab.experiments.storage.arrays import ResultArrays
from cfglab.experiments.storage.png import read_pixels
from cfglab.pipelines import guide, load

YAML = """
name: candidates
prompts: [a cat, a photograph of an astronaut riding a horse]
steps: 4
baseline: {name: plain, guidance: 5}
groups: [{name: best, guidance: 5, best_of: "{n}", early: 2, axes: {n: [1, 2, 5]}}]
"""


@pytest.fixture(scope="module")
def experiment(tiny: Path) -> Experiment:
    return Experiment.from_yaml(YAML, model=str(tiny))


@pytest.fixture(scope="module")
def finished(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(experiment, tmp_path_factory.mktemp("runs") / "best", "cpu", quiet=True)


def test_each_image_has_the_candidate_that_differs_most(finished: Run, experiment: Experiment, tiny: Path) -> None:
    """The mean of torch.norm(cond - uncond) over the first steps, as WSX20003/CFG-Rejection sorts by it."""
    import torch

    pipe: Any = load(tiny, device="cpu", sampler="lms")
    differences: dict[tuple[str, int], float] = {}
    images: dict[tuple[str, int], np.ndarray] = {}
    for position, prompt in enumerate(experiment.prompts):
        for candidate in range(5):
            seed = candidate_seed(experiment.torch_seeds()[position], candidate)
            with guide(pipe, 5) as trace:
                generator = torch.Generator("cpu").manual_seed(seed)
                made = pipe(prompt, num_inference_steps=4, generator=generator, output_type="np").images[0]
            differences[prompt, seed] = sum(float(record.difference[0] or 0) for record in trace.steps[:2]) / 2
            images[prompt, seed] = made
    for result in finished.store.results():
        setting = experiment.setting(result.setting)
        first = experiment.torch_seeds()[experiment.prompts.index(result.prompt)]
        expected = max(
            (candidate_seed(first, number) for number in range(setting.best_of)),
            key=lambda seed: differences[result.prompt, seed],
        )
        assert result.torch_seed == expected
        pixels = read_pixels(finished.folder / str(result.image)) / 255
        assert np.abs(pixels - images[result.prompt, expected]).max() < 0.02


def test_the_number_of_the_candidate_is_no_metric(finished: Run) -> None:
    assert "candidate" not in ResultArrays.read(finished.store).measured
    with pytest.raises(InputError, match="metric 'candidate' is unknown"):
        finished.compare("candidate")


def test_candidates_that_settings_share_run_once(finished: Run) -> None:
    """Per prompt 5 candidates of 2 steps with 2 rows, and at most 3 images of 4 steps: n = 1 is the baseline's cell."""
    results = finished.store.results()
    cells = {result.cell: result for result in results}
    assert len(cells) == 2 * 3
    distinct = {(result.prompt, result.torch_seed) for result in results}
    assert sum(result.rows_run for result in cells.values()) == 2 * 5 * 2 * 2 + len(distinct) * 4 * 2
    assert cost_of(check({**_document(), "model": "scenes"})).rows == 2 * (4 * 8 + 2 * (2 + 5) * 2)


def _document() -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(YAML))


def test_it_is_resumed_and_made_again_exactly(finished: Run, experiment: Experiment, tmp_path: Path) -> None:
    images = {path: path.read_bytes() for path in finished.folder.glob("images/*.png")}
    lost = sorted(images)[0]
    lost.unlink()
    run(experiment, finished.folder, "cpu", quiet=True)
    assert {path: path.read_bytes() for path in images} == images
    chosen = next(result for result in finished.store.results() if result.metrics.get("candidate", 0) > 0)
    again = reproduce(finished.folder / str(chosen.image), tmp_path / "again.png", "cpu")
    assert (again.identical, again.torch_seed) == (True, chosen.torch_seed)
    assert f"Seed: {chosen.torch_seed}".encode() in (tmp_path / "again.png").read_bytes()


def test_a_pipeline_in_memory_chooses_the_same(
    finished: Run, experiment: Experiment, tiny: Path, tmp_path: Path
) -> None:
    other = run(experiment, tmp_path / "run", pipe=load(tiny, device="cpu", sampler="lms"), quiet=True)
    seeds = [[result.torch_seed for result in one.store.results()] for one in (finished, other)]
    assert seeds[0] == seeds[1]


def test_one_candidate_is_the_cell_of_before(experiment: Experiment, tiny: Path) -> None:
    cells = {setting.name: cell for setting, cell in experiment.cells(model_facts(str(tiny)))}
    assert cells["plain"].id == cells["best n=1"].id
    assert not {"best_of", "early"} & cells["plain"].model_dump().keys()
    assert cells["best n=2"].id != cells["best n=5"].id
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": {"baseline.best_of": 0}}, "setting 'plain': best_of=0: it is a whole number from 1 to 64;"),
        ({"set": {"groups.0.axes.n": [1, 2.5]}}, "setting 'best n=2.5': best_of='2.5': it is a whole number"),
        ({"set": {"groups.0.early": 0}}, "setting 'best n=1': early=0: it is a whole number 1 or more;"),
        (
            {"noise": "crossed"},
            "setting 'best n=2': with crossed noises prompts would choose among the same candidates",
        ),
        ({"set": {"groups.0.best_of": "{m}"}}, "groups.best.best_of: {m} is no axis of this group;"),
    ],
)
def test_what_it_cannot_do_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Experiment.from_yaml(YAML, **changes)
    assert str(error.value).startswith(said)


def test_a_mixture_and_a_guidance_without_first_steps_are_refused(
    small: Callable[..., Experiment], tmp_path: Path
) -> None:
    late = small(set={"baseline.best_of": 2, "baseline.guidance": 1})
    with pytest.raises(InputError, match="at the first one w is 1, which needs one of the two"):
        run(late, tmp_path / "late", "cpu", quiet=True)
    mixture = {"model": "mixture:tree", "prompts": ["class 0"], "sampler": "euler"}
    with pytest.raises(InputError, match="a cell of a mixture has many"):
        run(Experiment.from_yaml(YAML, **mixture), tmp_path / "mixture", quiet=True)
    assert not Store.check(tmp_path / "mixture", late)
