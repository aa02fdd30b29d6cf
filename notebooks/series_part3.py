# %% [markdown]
# # The series anew, Part 3: both together
#
# Part 1 changed *when* guidance acts, Part 2 changed *how long* it is. The obvious question, which Part 2 announced:
# do the gains add up? We do not have the text of the original, so the grid below is ours; its values are those that
# Part 4 still carries along.

# %%
import torch

import cfglab as cl
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import BaseNormGuidance, FullNormGuidance, GuidanceTfm, TNormGuidance
from min_diffusion.core import MinimalDiffusion
from min_diffusion.utils import image_grid

STEPS = 20
PROMPT = "a photograph of an astronaut riding a horse"
pipeline = MinimalDiffusion("scenes", "cpu", torch.float32, generator=torch.manual_seed(8))
pipeline.load()
pipeline.pipe.set_progress_bar_config(disable=True)

# %% [markdown]
# The normalized updates need a scale of their own: 0.15, falling to 0.05, where the others have 7.5, falling to 1.

# %%
LARGE = {"max_val": 7.5, "min_val": 1.0}
SMALL = {"max_val": 0.15, "min_val": 0.05}
TRANSFORMS = {
    "plain": (GuidanceTfm, LARGE),
    "prediction norm": (BaseNormGuidance, LARGE),
    "update norm": (TNormGuidance, SMALL),
    "full norm": (FullNormGuidance, SMALL),
}


def schedules(max_val, min_val):
    return {
        "constant": [max_val] * STEPS,
        "cosine": get_cos_sched(STEPS, max_val, min_val),
        "warm-up": get_cos_sched(STEPS, max_val, min_val, num_warmup_steps=5),
    }


# %% alt="Twelve images: three schedules above each other, four normalizations beside each other"
titles, images = [], []
for schedule_name in schedules(**LARGE):
    for transform_name, (transform, scales) in TRANSFORMS.items():
        schedule = schedules(**scales)[schedule_name]
        images.append(pipeline.generate(PROMPT, transform({"g": schedule}), steps=STEPS))
        titles.append(f"{schedule_name}, {transform_name}")
image_grid(images, rows=3, width=240, height=240, title=titles)

# %% [markdown]
# Read one row, then one column. Which of them differ more: does the length of the update decide, or the schedule?
# Whatever you see is an observation about one prompt and one noise.
#
# ## The same grid as an experiment
#
# In cfglab such a grid is a value. Each group is a normalization, each schedule an axis, and the card says what the
# whole would cost before anything runs.

# %%
cl.Experiment.from_yaml("""
name: part3
title: schedules and normalizations
question: Do the gains of a schedule and of a normalization add up?
model: scenes
prompts: scenes:64
seeds: 0..7
steps: 30
sampler: lms
baseline: {name: constant, guidance: "7.5"}
groups:
  - {name: plain, guidance: "{schedule}",
     axes: {schedule: ["cosine(max=7.5, min=1)", "cosine(max=7.5, min=1, warmup=5)"]}}
  - {name: prediction norm, guidance: "{schedule} | prediction_norm()",
     axes: {schedule: ["7.5", "cosine(max=7.5, min=1)", "cosine(max=7.5, min=1, warmup=5)"]}}
  - {name: full norm, guidance: "{schedule} | full_norm()",
     axes: {schedule: ["0.15", "cosine(max=0.15, min=0.05)", "cosine(max=0.15, min=0.05, warmup=5)"]}}
""")

# %% [markdown]
# "Add up" has a precise meaning in such a table: the gain of the pair is the sum of both gains. The interval of that
# sum is wider than each of its parts, which is why this question needs the 512 images of each cell, and not one.
#
# Next: [Part 4, k-decay](https://cfglab.github.io/cfglab/notebooks/series_part4/).
