"""Time and memory of a run of 100,000 cells: opening it, listing it, comparing in it, its report. `make bench`.

    python benchmarks/large_run.py [CELLS] [FOLDER]

The run is made, not drawn: scores that follow a law, traces, and no images. Every row is a fresh process;
its time includes starting Python (the processor's time beside it, which a busy machine does not stretch), its memory
is the largest resident set of that process.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from cfglab.experiments import Experiment, Result, Store
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.traces import COLUMNS, CellTrace
from cfglab.metrics import Estimate

CELLS = 100_000
PROMPTS, SEEDS = 64, 8
PARTS = ("alignment_a", "alignment_b", "alignment_relation")
SETS = ("kid", "fid", "precision", "recall", "density", "coverage", "vendi", "pairwise_distance")

LOOKS = {
    "start Python": "",
    "open": "store = Store.open(folder); store.experiment",
    "list": "assert len(Store.open(folder).results()) == cells",
    "compare alignment": "call(['compare', folder, '--metric', 'alignment'])",
    "compare kid": "call(['compare', folder, '--metric', 'kid'])",
    "choose on half of the prompts": "call(['compare', folder, '--choose', 'prompts'])",
    "report": "call(['report', folder])",
}
HEAD = (
    "import sys\nfrom cfglab.cli import call\nfrom cfglab import Store\nfolder, cells = sys.argv[1], int(sys.argv[2])\n"
)
TAIL = """
import resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


def make(folder: Path, cells: int = CELLS, prompts: int = PROMPTS, seeds: int = SEEDS) -> int:
    """Write a finished run of at least `cells` cells and return how many there are."""
    settings = -(-cells // (prompts * seeds))
    document = {
        "name": "large",
        "prompts": f"scenes:{prompts}",
        "seeds": f"0..{seeds - 1}",
        "baseline": {"name": "constant", "guidance": 2},
        "groups": [
            {"name": "w", "guidance": "{w}", "axes": {"w": [round(1 + 0.02 * i, 2) for i in range(settings - 1)]}}
        ],
    }
    experiment = Experiment.from_yaml("name: large", set=document)
    random = np.random.default_rng(0)
    easy = random.normal(size=(prompts, seeds))
    trace = CellTrace(random.random((len(COLUMNS), experiment.steps), np.float32)).encode()
    rows, position = [], 0
    for index, setting in enumerate(experiment.settings):
        score = easy + 0.01 * index * (1 - index / settings) + random.normal(size=easy.shape)
        for p, prompt in enumerate(experiment.prompts):
            for s, seed in enumerate(experiment.seeds):
                metrics = {"alignment": float(score[p, s] > 0), **dict.fromkeys(PARTS, 1.0)}
                metrics |= {"saturation": 0.3 + 0.01 * score[p, s], "clipped_share": 0.02, "contrast": 0.2}
                cell = hashlib.sha256(f"{setting.name}|{prompt}|{seed}".encode()).hexdigest()
                result = Result.model_construct(
                    cell=cell,
                    position=position,
                    setting=setting.name,
                    prompt=prompt,
                    seed=seed,
                    status="done",
                    image=f"images/{cell}.png",
                    error=None,
                    metrics=metrics,
                    rows_run=100.0,
                    rows_saved=0.0,
                )
                rows.append(ResultRow.model_construct(result=result, settled=True, sha256=cell, trace=trace))
                position += 1
    with Store.create(folder, experiment) as store:
        store.record(rows)
        names = ["real", *(setting.name for setting in experiment.settings)]
        store.record_set_metrics(
            {name: {m: Estimate(value=0.5, low=0.4, high=0.6, n=512) for m in SETS} for name in names}
        )
    return len(rows)


def main(cells: str = str(CELLS), where: str = "") -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(where or temporary) / "run"
        # a process begins with its parent's largest size, so this one stays small
        with ProcessPoolExecutor(1) as other:
            count = int(cells) if folder.exists() else other.submit(make, folder, int(cells)).result()
        size = (folder / "results.sqlite").stat().st_size
        print(f"{count} cells, {size / 2**20:.0f} MiB of results")
        for name, code in LOOKS.items():
            command = [sys.executable, "-c", HEAD + code + TAIL, str(folder), str(count)]
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            cpu, kilobytes = map(float, done.stderr.split()[-2:])
            print(f"{name:32} {seconds:6.2f} s {cpu:6.2f} s of processor {kilobytes / 1024:7.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
