"""Which starting noise an image begins with: its own for every prompt and seed, or shared by all prompts of a seed."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.experiments import Experiment, Store
from cfglab.experiments.backends.mixture import sample_seeds
from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.experiments.spec.batching import batches
from cfglab.experiments.spec.difference import describe_difference
from cfglab.experiments.spec.models import MIXTURE_SAMPLES
from cfglab.experiments.spec.starting_noise import torch_seed
from cfglab.experiments.storage.png import read_pixels, read_record
from cfglab.experiments.tuning.search import SEARCH, Search, as_stored, check_folder
from cfglab.experiments.tuning.successive_halving import Rung, choose
from tests.experiments.examples import SMALL
from tests.small_run import FACTS

Small = Callable[..., Experiment]
OLD_EXPERIMENT = "6b05794b1f64ba641bd2399e8ff3da2786173c7bc97c6e48a217526746c1e3fd"
OLD_CELLS = ["be51d00fe707", "bce309c56b18", "35456be51a82", "5dab95c5d40b"]


def test_the_first_prompt_keeps_the_seed_and_every_other_has_a_stated_seed_of_its_own() -> None:
    assert [torch_seed(seed, 0) for seed in (0, 7, 2**64 - 1)] == [0, 7, 2**64 - 1]
    digest = hashlib.sha256(b"cfglab noise 7 3").hexdigest()  # the rule of the documentation, written out again
    assert torch_seed(7, 3) == 2**62 + int(digest[:16], 16) // 4
    assert torch_seed(7, 3, "crossed") == 7
    many = {torch_seed(seed, place) for seed in range(100) for place in range(200)}
    assert len(many) == 20_000
    assert all(seed < 100 or 2**62 <= seed < 2**63 for seed in many)


def test_an_experiment_gives_every_prompt_noises_of_its_own_and_all_settings_of_a_pair_the_same() -> None:
    experiment = Experiment.from_yaml(SMALL)
    seeds: dict[tuple[str, str], list[int]] = {}
    for setting, cell in experiment.cells(FACTS):
        seeds.setdefault((cell.prompt, setting.name), []).append(cell.seed)
    first, second = experiment.prompts
    assert {tuple(seeds[first, setting.name]) for setting in experiment.settings} == {(0, 1)}
    assert {tuple(seeds[second, setting.name]) for setting in experiment.settings} == {
        (torch_seed(0, 1), torch_seed(1, 1))
    }
    crossed = Experiment.from_yaml(SMALL, noise="crossed")
    assert {cell.seed for _, cell in crossed.cells(FACTS)} == {0, 1}


def test_the_option_is_read_wherever_an_experiment_is_written() -> None:
    assert Experiment.from_yaml(SMALL).noise == "nested"
    assert Experiment.from_yaml(SMALL + "noise: crossed\n").noise == "crossed"
    assert Experiment.from_yaml(SMALL, set={"noise": "crossed"}).noise == "crossed"
    for noise in ("nested", "crossed"):
        one = Experiment.from_yaml(SMALL, noise=noise)
        assert f"noise: {noise}\n" in one.to_yaml()
        assert Experiment.from_yaml(one.to_yaml()) == one
        assert Experiment.model_validate_json(one.model_dump_json()) == one
    with pytest.raises(InputError, match="noise: 'paired'"):
        Experiment.from_yaml(SMALL, noise="paired")
    with pytest.raises(InputError, match="prompt_offset -1: a position is 0 or more"):
        Experiment.from_yaml(SMALL, set={"prompt_offset": -1})
    crossed, nested = (Experiment.from_yaml(SMALL, noise=noise) for noise in ("crossed", "nested"))
    assert describe_difference(crossed, nested) == "the experiment 'small' with noise crossed, not nested"


def test_ids_from_before_the_field_are_those_of_the_crossed_design() -> None:
    """The numbers were printed by the last version without the field."""
    crossed = Experiment.from_yaml(SMALL, noise="crossed")
    assert crossed.id == OLD_EXPERIMENT
    assert [cell.id[:12] for _, cell in crossed.cells(FACTS)][:4] == OLD_CELLS
    document = json.loads(crossed.model_dump_json())
    assert not {"noise", "prompt_offset"} & document.keys()
    assert Experiment.model_validate_json(json.dumps(document)).noise == "crossed"
    assert Experiment.from_yaml(SMALL).id != crossed.id


def test_one_prompt_keeps_its_pictures() -> None:
    one = Experiment.preset("k-decay", seeds="0..3")
    ids = {cell.id for _, cell in one.cells(FACTS)}
    assert ids == {cell.id for _, cell in Experiment.preset("k-decay", seeds="0..3", noise="crossed").cells(FACTS)}


def test_a_part_of_the_prompts_has_the_noises_that_it_has_in_the_whole() -> None:
    whole = Experiment.from_yaml(SMALL, prompts=["a cat", "a dog", "a frog", "a horse"])
    part = Experiment.from_yaml(SMALL, prompts=["a frog", "a horse"], set={"prompt_offset": 2})
    assert {it.id for _, it in part.cells(FACTS)} < {it.id for _, it in whole.cells(FACTS)}
    assert Experiment.from_yaml(part.to_yaml()) == part
    assert batches([it for _, it in part.cells(FACTS)], 4)


def test_a_picture_of_a_later_prompt_is_what_diffusers_draws_from_the_recorded_seed(
    small: Small, tiny: Path, tmp_path: Path
) -> None:
    from cfglab.pipelines import load

    done = running.run(small(seeds=3, sampler="euler"), tmp_path / "run", "cpu", score=False)
    of = [it for it in done.store.results() if it.setting == "constant"]
    assert [it.seed for it in of] == [3, 3]
    assert [it.torch_seed for it in of] == [3, torch_seed(3, 1)]
    later = of[1]
    image = done.folder / str(later.image)
    assert read_record(image).cell.seed == later.torch_seed
    header, *lines = (done.folder / "results.csv").read_text().splitlines()
    assert lines[1].split(",")[header.split(",").index("torch_seed")] == str(torch_seed(3, 1))
    copy = reproduce(image, tmp_path / "copy.png", "cpu")
    assert copy.identical
    assert str(torch_seed(3, 1)) in str(copy)
    pipe = load(tiny, device="cpu", sampler="euler")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(torch_seed(3, 1))
    expected = pipe(later.prompt, generator=generator, num_inference_steps=3, guidance_scale=7.5).images[0]
    assert np.abs(read_pixels(image).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_an_old_folder_goes_on_with_the_noises_that_it_began_with(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    done = running.run(small(noise="crossed"), folder, "cpu", score=False)
    before = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    with Store.open(folder) as store:
        assert "noise" not in json.loads(store.meta("experiment") or "")  # as folders of before are
    (folder / "images" / sorted(before)[0]).unlink()
    text = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(text.replace("noise: crossed\n", ""))
    assert Experiment.from_yaml(folder / "experiment.yaml").noise == "crossed"
    shutil.copy(folder / "experiment.yaml", tmp_path / "mine.yaml")
    assert Experiment.from_yaml(tmp_path / "mine.yaml").noise == "nested"
    again = running.run(small(), folder, "cpu", score=False)  # the same preset or file, which states no noise
    assert again.drawn > 0
    assert {path.name: path.read_bytes() for path in (folder / "images").iterdir()} == before
    assert again.store.experiment.id == done.store.experiment.id
    with pytest.raises(InputError, match="with noise crossed, not nested"):
        running.run(small(noise="nested"), folder, "cpu", score=False)


def test_a_new_folder_is_not_taken_for_an_old_one(small: Small, tmp_path: Path) -> None:
    new = small()
    with Store.create(tmp_path / "run", new):
        pass
    assert small().as_stored(new) == new
    other = small(steps=5)
    assert other.as_stored(small(noise="crossed")).noise == "nested"
    with pytest.raises(InputError, match="with noise nested, not crossed"):
        running.run(small(noise="crossed"), tmp_path / "run", "cpu", score=False)


def test_the_chunks_of_a_search_have_noises_of_their_own_and_an_old_search_goes_on(tmp_path: Path) -> None:
    prompts = [f"prompt {i}" for i in range(32)]
    search = Search.of("{w:1..8}", ["alignment"], prompts, tune_on=16, seeds=(0, 1))
    noises = [
        cell.seed
        for number, chunk in enumerate(search.chunks)
        for _, cell in search.part(str(number), search.base.settings, chunk, search.base.seeds).cells(FACTS)
    ]
    assert len(search.chunks) == 4
    assert len(set(noises)) == len(noises) == 32
    held = search.part("held", search.base.settings, search.held_prompts, search.held_seeds)
    assert not {cell.seed for _, cell in held.cells(FACTS)} & set(noises)
    crossed = Search.of("{w:1..8}", ["alignment"], prompts, tune_on=16, seeds=(0, 1), noise="crossed")
    (tmp_path / SEARCH).write_text(crossed.model_dump_json())
    with pytest.raises(InputError, match="holds another search"):
        check_folder(tmp_path, search)
    found = as_stored(tmp_path, search)
    assert check_folder(tmp_path, found)
    part = found.part("1", found.base.settings, found.chunks[1], found.base.seeds)
    assert "prompt_offset" not in json.loads(part.model_dump_json())
    assert {cell.seed for _, cell in part.cells(FACTS)} == {0, 1}


def test_an_old_halving_goes_on(tmp_path: Path) -> None:
    asked: list[Experiment] = []

    def stop(part: Experiment, _: Path) -> None:
        asked.append(part)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(Experiment.from_yaml(SMALL), tmp_path, Rung.read("2x1:1"), run=stop)
    (part,) = asked
    old = part.model_copy(update={"noise": "crossed"})
    assert part.noise == "nested"
    assert part.as_stored(old).id == old.id


def test_the_samples_of_a_mixture_have_seeds_of_their_own_in_either_design() -> None:
    assert sample_seeds(3) == list(range(3 * MIXTURE_SAMPLES, 4 * MIXTURE_SAMPLES))
    later = sample_seeds(torch_seed(3, 1))
    assert len(set(later)) == MIXTURE_SAMPLES
    assert all(10**9 < seed < 2**63 for seed in later)
    assert not set(later) & set(sample_seeds(torch_seed(4, 1)))
