# %% [markdown]
# # Your pipeline in five minutes
#
# You have a diffusers pipeline and a `guidance_scale`. This notebook turns that one number into a schedule, adds a
# published method, looks at every step, and ends with a line of text that gives a colleague the same image. It needs
# no GPU and no download: `scenes`, a small text-to-image model, comes with cfglab. Everything here works the same on
# Stable Diffusion, SDXL, SD 3, Flux, Wan and the other classes of
# [Pipelines](https://cfglab.github.io/cfglab/pipelines/).

# %%
import torch
from diffusers.utils import make_image_grid

import cfglab as cl

pipe = cl.load("scenes", sampler="euler")  # or your own: StableDiffusionXLPipeline.from_pretrained(…)
pipe.set_progress_bar_config(disable=True)
type(pipe).__name__

# %% [markdown]
# ## Minute 1: nothing changes
#
# A guidance that is a plain number gives exactly what `guidance_scale` gives, bit for bit. That is the promise on
# which the rest stands: put cfglab around your pipeline, and until you ask for something else, you have your
# pipeline.

# %%
PROMPT = "an astronaut riding a horse on a yellow background"


def noise():
    return torch.Generator().manual_seed(0)


before = pipe(PROMPT, num_inference_steps=20, guidance_scale=4, generator=noise(), output_type="np").images
with cl.guide(pipe, 4):
    after = pipe(PROMPT, num_inference_steps=20, generator=noise(), output_type="np").images
bool((before == after).all())

# %% [markdown]
# ## Minute 2: the scale becomes a schedule
#
# w is the scale in `uncond + w * (cond - uncond)`, so **w = 1 is no guidance**. A schedule says what w is at every
# step. It is a value: it prints, compares, inverts, and shows itself.

# %%
cl.parse("cosine(max=7, min=1, k=0.7)")

# %% [markdown]
# Four ways to spend guidance. The last two are published answers to the same question with opposite advice: turn it
# up during the run ([arXiv:2404.13040](https://arxiv.org/abs/2404.13040)), or use it in the middle only
# ([arXiv:2404.07724](https://arxiv.org/abs/2404.07724)).

# %%
schedules = [
    "4",
    "cosine(max=7, min=1)",
    "wang_linear(w0=4)",
    "constant(5).inside(sigma=(0.28, 5.42))",
]
cl.curves(schedules)

# %% [markdown]
# A pipeline accepts a list with one guidance for each image, so a comparison is one batch. All four images start from
# the same noise.

# %% alt="Four images of an astronaut on a horse, one for each schedule"
with cl.guide(pipe, schedules) as trace:
    images = pipe([PROMPT] * 4, num_inference_steps=20, generator=[noise() for _ in schedules]).images
make_image_grid(images, rows=1, cols=4, resize=192)

# %% [markdown]
# The rising schedule and the interval spend the first steps without guidance, where the layout of the image is
# decided. On both bundled models that costs the prompt, and
# [Early or late](https://cfglab.github.io/cfglab/findings/dispute/) has the numbers. On yours it may not: that is why
# you are here.
#
# ## Minute 3: a method after a bar
#
# Too much guidance burns. Many papers repair that, each by another formula, and
# [Methods](https://cfglab.github.io/cfglab/methods/) has more than fifty of them under one contract. Write a bar,
# then the method. The card shows its formula and what its settings are.

# %%
cl.Guidance("15 | rescale(strength=0.7)")

# %% alt="Five images at a scale that is too high: plain, APG, rescale, skimmed and mimic"
repairs = ["15", "15 | apg()", "15 | rescale(strength=0.7)", "15 | skimmed(skim=4)", "15 | mimic_threshold(mimic=4)"]
with cl.guide(pipe, repairs):
    images = pipe([PROMPT] * 5, num_inference_steps=20, generator=[noise() for _ in repairs]).images
make_image_grid(images, rows=1, cols=5, resize=160)

# %% [markdown]
# ## Minute 4: what did it do, and what did it cost?
#
# `cl.guide` hands out a trace. It records every call of the denoiser; a row is one image through the network, the
# unit in which guidance is paid. Plain guidance pays two rows for each step. Where guidance is off, one is enough,
# and cfglab runs one.

# %%
with cl.guide(pipe, "constant(5).inside(progress=(0, 0.5))") as trace:
    half = pipe(PROMPT, num_inference_steps=20, generator=noise()).images[0]
trace

# %% [markdown]
# Half of the steps cost half. [Reading a trace](https://cfglab.github.io/cfglab/notebooks/reading_a_trace/) explains
# the other lines.
#
# ## Minute 5: take it away
#
# A guidance is one line of text, one line of Python and one JSON object, all three the same value. The line goes into
# a paper, a config file, the [ComfyUI node](https://cfglab.github.io/cfglab/comfyui/), or `cfglab run --set`.

# %%
guidance = cl.Guidance("cosine(max=7, min=1, k=0.7) | rescale(strength=0.5)")
print(guidance)
print(repr(guidance))
print(guidance.to_json())
print(guidance == cl.parse_guidance(str(guidance)) == cl.Guidance.from_json(guidance.to_json()))

# %% [markdown]
# To keep a guidance on a pipeline, attach it. Code that calls the pipeline, a web page for example, need not know.

# %% alt="An astronaut on a horse under the attached guidance"
cl.attach(pipe, guidance)
image = pipe(PROMPT, num_inference_steps=20, generator=noise()).images[0]
cl.detach(pipe)  # exactly the pipeline from above
image.resize((192, 192))

# %% [markdown]
# Where next?
#
# - [Your own method in thirty lines](https://cfglab.github.io/cfglab/notebooks/own_method/), if you have an idea.
# - [An experiment you can believe](https://cfglab.github.io/cfglab/notebooks/believable_experiment/), if you want to
#   know whether it helps.
# - [The gallery](https://cfglab.github.io/cfglab/gallery/), if you want to see every method at once.
