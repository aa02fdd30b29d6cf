"""Averages of weights after a run."""

import torch

from training import posthoc
from training.common import checkpoint, save, work


def test_the_average_of_a_run_reads_no_snapshot_of_its_twin_or_its_branches(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    weights = {"x": torch.tensor([2.0])}
    save(work() / "flow.pt", checkpoint(weights, 20, 0.0, True))
    for name in ("flow", "flow-twin", "flow-w40"):
        value = weights if name == "flow" else {"y": torch.tensor([5.0])}
        save(work() / f"snapshots/{name}-0000010.pt", {"averages": [value, value], "step": 10})
    assert posthoc.average("flow", 0.07).keys() == {"x"}
    torch.testing.assert_close(posthoc.average("flow", 0.07)["x"], weights["x"])
