# %% [markdown]
# # The series anew: the libraries
#
# In November 2022 a [series of notebooks](https://cfglab.github.io/cfglab/notebooks/) asked why the guidance scale
# should be *one number* for a whole image. It came with two small libraries, `cf_guidance` for schedules and
# normalizations, and `min_diffusion` for a minimal Stable Diffusion. Both names work here on top of cfglab, so the
# code of that time runs. These six notebooks go through the series again on the bundled model, and add what the
# original did not have: more than one image.
#
# The first part introduced the libraries: four schedules, one image.

# %%
import torch

import cfglab as cl
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import GuidanceTfm
from min_diffusion.core import MinimalDiffusion
from min_diffusion.utils import image_grid, plot_grid, show_image

# %% [markdown]
# ## Four schedules
#
# A cosine that falls; the same after a warm-up of five steps; a full cycle; and one and a half cycles with k-decay. k
# bends the cosine: below 1 it falls early, above 1 late.

# %%
shared = {"num_steps": 50, "max_val": 7.5, "min_val": 0.15}
schedules = {
    "cosine": get_cos_sched(**shared),
    "warm-up": get_cos_sched(**shared, num_warmup_steps=5, warmup_init_val=1.15),
    "one cycle": get_cos_sched(**shared, num_cycles=1),
    "1.5 cycles, k = 0.7": get_cos_sched(
        **shared, num_cycles=1.5, k_decay=0.7, num_warmup_steps=5, warmup_init_val=1.15
    ),
}

# %% alt="Four curves of the guidance scale over 50 steps"
plot_grid(list(schedules.values()), rows=2, width=340, height=210, titles=list(schedules))

# %% [markdown]
# `get_cos_sched` returns a list, as it did then. In cfglab the same curve is a value that knows its formula, for any
# number of steps, and four of them share one figure:

# %%
cl.curves(
    [
        "cosine(max=7.5, min=0.15)",
        "cosine(max=7.5, min=0.15, warmup=5, warmup_start=1.15)",
        "cosine(max=7.5, min=0.15, cycles=1)",
        "cosine(max=7.5, min=0.15, cycles=1.5, k=0.7, warmup=5, warmup_start=1.15)",
    ]
)

# %%
assert schedules["cosine"] == cl.Cosine(max=7.5, min=0.15).values(50)

# %% [markdown]
# ## One line in the loop
#
# A transform takes both predictions and the index of the step, and returns the guided prediction. That is all that
# has to change in a sampling loop. The original printed the whole loop to show this one line:

# %%
transform = GuidanceTfm({"g": schedules["cosine"]})
uncond, cond = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8)
[round(transform(uncond, cond, index).mean().item(), 2) for index in (0, 10, 25, 40, 49)]

# %% [markdown]
# ## One image
#
# `MinimalDiffusion` is a Stable Diffusion pipeline with one prompt, one image and a place for the transform. The
# original loaded `prompthero/openjourney` on a GPU; replace `"scenes"` by that name, and you have its notebook.

# %% alt="An astronaut riding a horse"
pipeline = MinimalDiffusion("scenes", "cpu", torch.float32, generator=torch.manual_seed(8))
pipeline.load()
pipeline.pipe.set_progress_bar_config(disable=True)
PROMPT = "a photograph of an astronaut riding a horse"
show_image(pipeline.generate(PROMPT, steps=50), scale=2, plot=False)

# %% [markdown]
# And under the four schedules, from the same noise:

# %% alt="The same scene under each of the four schedules"
images = [pipeline.generate(PROMPT, GuidanceTfm({"g": schedule}), steps=50) for schedule in schedules.values()]
image_grid(images, rows=1, width=200, height=200, title=list(schedules))

# %% [markdown]
# Notice the minimum: 0.15 is below 1, which is *less than no guidance*. At w = 1 the conditional prediction is used
# alone; at 0.15 the image follows the unconditional one, and the prompt is almost forgotten. The later parts use a
# minimum of 1. cfglab says w = 1 wherever it says "off".
#
# Next: [Part 1, one change at a time](https://cfglab.github.io/cfglab/notebooks/series_part1/).
