# %% [markdown]
# # Your own method in thirty lines
#
# Most guidance papers change one of two things: the scale, or the update `cond - uncond`. In cfglab the first is a
# schedule and the second is a transform, and both are classes small enough to be invented on the train. At the end of
# this page your idea has a name in text, survives JSON, runs on every pipeline, and has a number beside plain
# guidance.
#
# ## The idea
#
# When the scale is high, the guided prediction becomes longer than anything the model was trained on, and colours
# burn. Rescaling repairs this afterwards. Here is another idea: **limit the step instead**. The update, times w, may
# be at most r times as long as the conditional prediction. Small updates pass unchanged.

# %%
import math
from typing import Literal

import torch
from diffusers.utils import make_image_grid

import cfglab as cl
from cfglab.guidance import Transform, check_transform
from cfglab.guidance.reductions import norm


class StepLimit(Transform):
    """The update, times w, at most r times as long as the conditional prediction."""

    kind: Literal["step_limit"] = "step_limit"
    r: float = 0.5

    def update(self, update, context):
        longest = self.r * norm(context.cond)  # of each image, float32
        length = norm(update) * context.w
        return update * (longest / length.clamp(min=1e-12)).clamp(max=1)


# %% [markdown]
# That is the method. Defining the class checked that it can be frozen, hashed, written and read, and gave it its name
# in the language. `check_transform` checks the numbers: strength 0 is plain guidance, equal predictions stay what
# they are, and a batch gives the same as its images one by one.

# %%
check_transform(StepLimit())
cl.Guidance("15 | step_limit(r=0.3)")

# %% [markdown]
# ## Does the check mean anything?
#
# The most frequent mistake in published code is a norm over the whole tensor. With one image it is right, with a
# batch the images change each other, and nobody notices. Here it is noticed:


# %%
class Careless(Transform):
    """Divides by the norm of the whole batch."""

    kind: Literal["careless"] = "careless"

    def prediction(self, guided, context):
        return guided * context.cond.norm() / guided.norm().clamp(min=1e-12)


try:
    check_transform(Careless())
except cl.InputError as error:
    print(error)

# %% [markdown]
# ## On a pipeline
#
# Four seeds, plain guidance above, the limit below. Both start from the same noise.

# %% alt="Eight images: plain guidance at w = 15 above, with the step limit below"
pipe = cl.load("scenes", sampler="euler")
pipe.set_progress_bar_config(disable=True)
PROMPT = "an astronaut riding a horse on a yellow background"


def generate(guidance, seeds=(0, 1, 2, 3)):
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    with cl.guide(pipe, guidance) as trace:
        images = pipe([PROMPT] * len(seeds), num_inference_steps=15, generator=noise).images
    return images, trace


plain, _ = generate("15")
limited, _ = generate("15 | step_limit(r=0.3)")
make_image_grid([*plain, *limited], rows=2, cols=4, resize=160)

# %% [markdown]
# In the trace the limit is invisible, because w is still 15: it acts on the update, not on the scale. If you want to
# see a method in the trace, change the scale in the hook `scale`; the catalogue's `magnitude_aware` does.
#
# ## A schedule of your own is shorter still
#
# Any function of a step is a schedule. As a class, it is a word of the language, and all operations work on it: here
# a sawtooth, clipped.


# %%
class Sawtooth(cl.Schedule):
    """From `low` to `high`, again and again."""

    kind: Literal["sawtooth"] = "sawtooth"
    low: float = 2.0
    high: float = 6.0
    teeth: int = 4

    def _w(self, step):
        return self.low + (self.high - self.low) * math.modf(self.teeth * step.progress)[0]


cl.curves(["sawtooth()", "sawtooth(teeth=2).clip(high=5)", Sawtooth(teeth=3).inverted(low=2, high=6)])

# %% [markdown]
# ## Is it any good?
#
# Eight images persuade nobody. An experiment with the limit as an axis is nine lines, and the numbers come with
# intervals. It is deliberately small here: it runs in seconds and is far too small for a conclusion, which the note
# under the table will say better than we can.

# %%
experiment = cl.Experiment.from_yaml("""
name: step-limit
title: Does a limit on the step help at w = 15?
model: scenes
prompts: [a cat next to a car, a moon above a house, a frog riding a turtle, a sun above a tree]
seeds: 0..1
sampler: euler
steps: 12
baseline: {name: plain, guidance: "15"}
groups: [{name: limit, guidance: "15 | step_limit(r={r})", axes: {r: [0.2, 0.6]}}]
""")
run = cl.run(experiment, "runs/step-limit", quiet=True)
run.compare("alignment")

# %% [markdown]
# The same lines with `prompts: scenes:64` and `seeds: 0..7` are an answer. [An experiment you can
# believe](https://cfglab.github.io/cfglab/notebooks/believable_experiment/) explains how to read it, and [Add a
# schedule or a method](https://cfglab.github.io/cfglab/tutorials/own-method/) how your package offers `step_limit` to
# everybody who installs it.
