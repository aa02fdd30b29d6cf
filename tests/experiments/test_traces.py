"""Traces of single cells: the numbers of the run itself, kept beside each image and read without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.experiments import Experiment
from cfglab.experiments.execution.reproduce import trace_of
from cfglab.experiments.execution.run import run
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import COLUMNS, CellTrace, cell_traces, stored_traces
from cfglab.guidance import Guidance
from cfglab.schedules import Constant
from cfglab.step import steps

SIGMAS = [5.0, 3.0, 2.0, 1.0, 0.5, 0.0]


def traced(specs: list[Guidance], latents: torch.Tensor, text: torch.Tensor) -> tuple[list[CellTrace], Trace, list]:
    """Five steps of a denoiser that is a formula; also (uncond, cond) of every step in float64."""
    rows, trace, seen = GuidedRows(specs), Trace(), []
    for step in steps(5, SIGMAS):
        doubled = torch.cat([latents, latents])

        def denoise(picked: list[int] | None, _: object, doubled: torch.Tensor = doubled) -> torch.Tensor:
            every = list(range(len(doubled))) if picked is None else picked
            return doubled[every] * 0.9 + text[every].reshape(-1, 4, 1, 1)

        everything = denoise(None, None).double().flatten(1).numpy()
        seen.append((everything[: len(specs)], everything[len(specs) :]))
        guided, record = rows.predict(step, doubled, [text], denoise)
        trace.steps.append(record)
        latents = latents - 0.2 * guided
    return cell_traces(trace, len(specs)), trace, seen


def batch(seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    latents = torch.cat([torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    texts = torch.cat([torch.randn(1, 4, generator=torch.Generator().manual_seed(9))] * len(seeds))
    return latents, torch.cat([torch.zeros_like(texts), texts])


def test_each_picture_has_the_numbers_of_its_own_rows() -> None:
    specs = [Guidance(7.5), Guidance(Constant(3).inside(steps=(1, 4)))]
    found, _, seen = traced(specs, *batch([1, 2]))
    for image, one in enumerate(found):
        assert one.column("step") == [0, 1, 2, 3, 4]
        assert one.column("sigma") == pytest.approx(SIGMAS[:5])
        for call, (uncond, cond) in enumerate(seen):
            u, c = uncond[image], cond[image]
            off = image == 1 and call in (0, 4)
            gap, cosine = one.column("difference")[call], one.column("cosine")[call]
            assert (gap is None) is off
            assert (cosine is None) is off
            if not off:
                assert gap == pytest.approx(np.linalg.norm(c - u), rel=1e-5)
                assert cosine == pytest.approx(c @ u / np.linalg.norm(c) / np.linalg.norm(u), rel=1e-5)
    assert found[0].column("w") == [7.5] * 5
    assert found[1].column("w") == [1, 3, 3, 3, 1]
    assert found[1].column("rows_run") == [1, 2, 2, 2, 1]
    assert found[1].column("rows_saved") == [1, 0, 0, 0, 1]


def test_shared_rows_are_shared_evenly_and_add_up() -> None:
    """Three settings of one seed run two rows together in the first step, whatever they do later."""
    found, trace, _ = traced([Guidance(w) for w in (2, 5, 1)], *batch([1, 1, 1]))
    run = np.sum([one.values[-2] for one in found], axis=0)
    saved = np.sum([one.values[-1] for one in found], axis=0)
    np.testing.assert_allclose(run, [record.rows_run for record in trace.steps], rtol=1e-6)
    np.testing.assert_allclose(saved, [record.rows_saved for record in trace.steps], rtol=1e-6)
    # of the unconditional row the two guided ones pay half each; of the conditional one everybody a third
    assert [one.column("rows_run")[0] for one in found] == pytest.approx([5 / 6, 5 / 6, 1 / 3])


def test_a_trace_comes_back_from_its_bytes_and_prints() -> None:
    one = traced([Guidance(Constant(3).inside(steps=(1, 4)))], *batch([1]))[0][0]
    assert len(one.encode()) == 4 * len(COLUMNS) * 5
    np.testing.assert_array_equal(CellTrace.decode(one.encode()).values, one.values)
    lines = str(one).splitlines()
    assert lines[0].split() == ["step", "sigma", "w", "|cond", "-", "uncond|", "cosine", "rows", "run", "rows", "saved"]
    assert lines[1].split() == ["1", "5", "1", "-", "-", "1", "1"]
    assert lines[-1].split() == ["all", "8", "2"]
    with pytest.raises(InputError, match="a trace of 5 bytes: it is a multiple of 28; draw the image again"):
        CellTrace.decode(b"12345")


def test_a_run_keeps_the_trace_of_every_picture(small: Callable[..., Experiment], tmp_path: Path) -> None:
    made = run(small(steps=3), tmp_path / "run", "cpu", score=False, quiet=True)
    results = made.store.results()
    kept = stored_traces(made.store)
    assert set(kept) == {result.cell for result in results}
    first = results[0]
    one = CellTrace.decode(kept[first.cell])
    assert one.values.shape == (7, 3)
    assert np.isfinite(one.values).all()
    assert sum(CellTrace.decode(data).values[-2].sum() for data in kept.values()) == pytest.approx(
        sum(result.rows_run for result in results), rel=1e-5
    )
    assert list(stored_traces(made.store, [first.cell])) == [first.cell]

    image = made.folder / str(first.image)
    np.testing.assert_array_equal(trace_of(image).values, one.values)
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / image.name  # out of its run, the batch is drawn again
    alone.write_bytes(image.read_bytes())
    np.testing.assert_array_equal(trace_of(alone).values, one.values)


def test_a_run_of_an_older_version_has_none(small: Callable[..., Experiment], tmp_path: Path) -> None:
    import sqlite3

    with Store.create(tmp_path, small()):
        pass
    database = sqlite3.connect(tmp_path / "results.sqlite")
    database.execute("DROP TABLE traces")
    database.close()
    with Store.open(tmp_path) as store:
        assert stored_traces(store) == {}


def test_reading_traces_loads_no_torch() -> None:
    code = "import sys, cfglab.experiments.storage.traces; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
