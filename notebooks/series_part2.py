# %% [markdown]
# # The series anew, Part 2: normalizations
#
# If 7.5 times the update makes the prediction too long, why not make it the right length again? Part 2 tried three
# ways:
#
# | name then | name here | what it does |
# |---|---|---|
# | `BaseNormGuidance` | `prediction_norm` | the guided prediction gets the length of the unconditional one |
# | `TNormGuidance` | `update_norm` | the update gets the length of the unconditional prediction, before the scale |
# | `FullNormGuidance` | `full_norm` | both |

# %%
import torch

import cfglab as cl
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import BaseNormGuidance, FullNormGuidance, GuidanceTfm, TNormGuidance
from min_diffusion.core import MinimalDiffusion
from min_diffusion.utils import image_grid, plot_grid

STEPS = 40
PROMPT = "a photograph of an astronaut riding a horse"
pipeline = MinimalDiffusion("scenes", "cpu", torch.float32, generator=torch.manual_seed(8))
pipeline.load()
pipeline.pipe.set_progress_bar_config(disable=True)

# %% [markdown]
# ## Four images
#
# Plain guidance at 7.5, the prediction's norm at 7.5, and the other two at a much smaller scale: once the update has
# full length, 7.5 of it would drown everything. The original took 0.15.

# %% alt="Four images: plain, prediction norm, update norm, full norm"
runs = {
    "plain, 7.5": GuidanceTfm({"g": [7.5] * STEPS}),
    "prediction norm, 7.5": BaseNormGuidance({"g": [7.5] * STEPS}),
    "update norm, 0.15": TNormGuidance({"g": [0.15] * STEPS}),
    "full norm, 0.15": FullNormGuidance({"g": [0.15] * STEPS}),
}
images = [pipeline.generate(PROMPT, transform, steps=STEPS) for transform in runs.values()]
image_grid(images, rows=1, width=220, height=220, title=list(runs))

# %% [markdown]
# ## A schedule in disguise
#
# The update norm looks like a new kind of guidance. It is a schedule that reads the predictions: an update of length
# ‖c − u‖ becomes one of length ‖u‖, so its effective scale is `g ‖u‖ / ‖c − u‖`. Where both predictions agree, it
# guides harder. The trace shows it, because cfglab records the lengths:

# %%
with cl.guide(pipeline.pipe, "0.15 | update_norm()") as trace:
    pipeline.pipe(PROMPT, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(8))

# %% alt="The effective scale of the update norm beside a cosine with k = 0.2"
effective = []
for record in trace.steps:
    ((_, lengths),) = record.lengths  # of uncond, cond and cond - uncond
    uncond, _, difference = lengths[:, 0].tolist()
    effective.append(0.15 * uncond / difference)
cosine = get_cos_sched(num_steps=STEPS, max_val=7.5, min_val=1.0, k_decay=0.2)
plot_grid([effective, cosine], width=340, height=230, titles=["0.15 | update_norm()", "cosine, k = 0.2"])

# %% [markdown]
# A "tiny" 0.15 is a scale of 7 in the first step, of 2 where the two predictions differ most, of 5 and more in the
# middle of the run, and of 1.4 at the end: it guides least where the prompt decides the layout. On another model ‖u‖
# and ‖c − u‖ differ, and so does the curve: on the first edition of `scenes` it fell from 10 to 1, like the cosine
# beside it. That is the weak point of a scale that means something else everywhere, and the trace is how to see what
# it means on yours.
#
# ## The cards
#
# All three are in the catalogue, image by image instead of over the whole batch (with one image the numbers are the
# same):

# %%
cl.Guidance("0.15 | full_norm()")

# %% [markdown]
# On 512 images of the first edition of `scenes` neither the prediction norm at 7.5 (−0.4 points, −2.9 to +2.0) nor the
# full norm at 0.3 (+1.2, −1.2 to +3.5) was distinguishable from plain guidance at its own best scale ([Every
# method](https://cfglab.github.io/cfglab/findings/first-edition/)). They change the image. Whether for the better, four
# images cannot say, and neither could five hundred.
#
# Next: [Part 3, both together](https://cfglab.github.io/cfglab/notebooks/series_part3/).
