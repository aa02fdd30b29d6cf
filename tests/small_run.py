"""A stored run without images, made without a model in a moment: three settings, three prompts, four seeds."""

from pathlib import Path

from cfglab.experiments import Experiment, Result, Store
from cfglab.experiments.spec.models import ModelFacts
from cfglab.experiments.storage.results import ResultRow

YAML = """
name: small
title: A small run
question: Is more guidance better?
prompts: [a photograph of a cat, a photograph of a dog, a photograph of a frog]
seeds: 0..3
steps: 10
baseline: {name: constant, guidance: 3}
groups:
  - {name: more, guidance: 7.5}
  - {name: less, guidance: 1}
"""
FACTS = ModelFacts(weights="0" * 64, sampler_config={}, width=64, height=64, factor=4)
ALIGNED = {"constant": (0, 1), "more": (0, 1, 2, 3), "less": ()}
"""Setting -> the seeds whose images are right, for every prompt."""


def small_run(folder: Path) -> Path:
    """Write the run and return its folder: alignment is 1/2 for the baseline, 1 for `more`, 0 for `less`."""
    experiment = Experiment.from_yaml(YAML)
    rows = []
    for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
        seed = experiment.seeds[position % len(experiment.seeds)]
        metrics = {"alignment": float(seed in ALIGNED[setting.name]), "saturation": 0.5}
        result = Result(
            cell=cell.id,
            position=position,
            setting=setting.name,
            prompt=cell.prompt,
            seed=seed,
            status="done",
            image=f"images/{cell.id}.png",
            metrics=metrics,
            rows_run=20.0,
        )
        rows.append(ResultRow(result=result, settled=True))
    with Store.create(folder, experiment) as store:
        store.record(rows)
        store.write_csv()
    return folder
