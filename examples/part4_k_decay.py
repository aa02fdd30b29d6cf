# ruff: noqa: E402  (a notebook imports in its cells)
# %% [markdown]
# # Guidance schedules with k-decay: the whole notebook
#
# How should the guidance scale move over an image's steps? Here it falls along a cosine that is bent by an exponent k:
# below 1 it falls early, above 1 late. Ten k and their ten mirror images are compared with a scale that stays at 7.5.
# One prompt, the same starting noise for all 21 images.
#
#     python examples/part4_k_decay.py                                            # the bundled model, on a CPU
#     python examples/part4_k_decay.py prompthero/openjourney cuda float16        # the original's model, on a GPU
#
# Arguments, all optional: model, device, dtype, and the folder for the figures.

# %%
# 1. What is needed
import os
import random
import sys
from functools import partial
from pathlib import Path

import matplotlib.colors as mcolors
import matplotlib.pyplot as plt
import numpy as np
import torch

given = sys.argv[1:5] if "__file__" in globals() else []  # a notebook has no arguments
MODEL, DEVICE, DTYPE, FIGURES = [*given, *["scenes", "cpu", "float32", "runs/part4"][len(given) :]]
Path(FIGURES).mkdir(parents=True, exist_ok=True)


def save(name):
    plt.savefig(Path(FIGURES) / f"{name}.png", bbox_inches="tight")


# %%
# 2. One seed for every source of chance
SEED = 1024


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.manual_seed(seed)


generator = seed_everything(SEED)

# %%
# 3. Schedules, and the transform that follows them
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import GuidanceTfm

# %%
# 4. The cosine that every schedule starts from
DEFAULT_COS_PARAMS = {
    "num_steps": 50,
    "max_val": 7.5,
    "min_val": 1.0,
    "num_cycles": 0.5,
    "k_decay": 1.0,
    "num_warmup_steps": 0,
    "warmup_init_val": 0.0,
}


# %%
# 5. A schedule from the defaults and what differs from them
def cos_harness(new_params, default_params):
    return get_cos_sched(**{**default_params, **new_params})


# %%
# 6. One experiment for each value of each parameter
def create_expts(params, schedule_func):
    return [
        {"param_name": name, "val": value, "schedule": schedule_func({name: value}), "title": f"{name} = {value}"}
        for name in sorted(params)
        for value in params[name]
    ]


# %%
# 7. Ten k
cos_func = partial(cos_harness, default_params=DEFAULT_COS_PARAMS)
k_expts = create_expts({"k_decay": [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]}, cos_func)


# %%
# 8. Their curves in one image; k = 1, the plain cosine, is marked
def plot_curves(expts, title):
    shade = mcolors.LogNorm(min(expt["val"] for expt in expts), max(expt["val"] for expt in expts))
    colours = plt.get_cmap("viridis")
    plt.figure(figsize=(9, 5))
    for expt in expts:
        plain = expt["val"] == 1
        plt.plot(
            expt["schedule"],
            color="black" if plain else colours(shade(expt["val"])),
            linestyle="--" if plain else "-",
            label=f"k = {expt['val']}",
        )
    plt.xlabel("Diffusion step")
    plt.ylabel("Guidance scale")
    plt.title(title)
    plt.legend(loc="center left", bbox_to_anchor=(1, 0.5))


plot_curves(k_expts, "k-decay")
save("k_curves")

# %%
# 9. The same curves upside down: guidance that rises
inv_k_expts = []
for expt in k_expts:
    low, high = DEFAULT_COS_PARAMS["min_val"], DEFAULT_COS_PARAMS["max_val"]
    inverted = [high + low - scale for scale in expt["schedule"]]
    inv_k_expts.append({**expt, "schedule": inverted, "title": f"inverse {expt['title']}"})

plot_curves(inv_k_expts, "inverse k-decay")
save("inverse_k_curves")

# %%
# 10. The model
from min_diffusion.core import MinimalDiffusion
from min_diffusion.utils import image_grid, plot_grid, show_image

pipeline = MinimalDiffusion(MODEL, DEVICE, getattr(torch, DTYPE), generator=generator)
pipeline.load()

# %%
# 11. What is drawn: steps as many as the schedules have, images in the model's own size
prompt = "a photograph of an astronaut riding a horse"
if "openjourney" in MODEL:
    prompt = f"mdjrny-v4 style {prompt}"


# %%
# 12. One image for each schedule
def run(prompt, expts, guide_tfm=GuidanceTfm, generator=None, show_each=False, test_run=False):
    images, titles = [], []
    for number, expt in enumerate(expts[:1] if test_run else expts):
        print(f"{number + 1} of {len(expts)}: {expt['title']}")
        steps = len(expt["schedule"])
        image = pipeline.generate(prompt, guide_tfm({"g": expt["schedule"]}), steps=steps, generator=generator)
        images.append(image)
        titles.append(expt["title"])
        if show_each:
            show_image(image, scale=1)
    print("Done.")
    return {"images": images, "titles": titles}


# %%
# 13. The baseline: the scale stays where it is
steps = DEFAULT_COS_PARAMS["num_steps"]
baseline_expts = create_expts({"max_val": [7.5]}, lambda params: [params["max_val"]] * steps)
baseline = run(prompt, baseline_expts, generator=generator)
show_image(baseline["images"][0], scale=1)
save("baseline")

# %%
# 14. All k, and all k inverted
k_runs = run(prompt, k_expts, generator=generator)
inv_k_runs = run(prompt, inv_k_expts, generator=generator)

# %%
# 15. The images in grids, and a falling and a rising schedule beside the baseline.
# Which of them is better is a question for many prompts and seeds: docs/findings/k-decay.md.
image_grid(k_runs["images"], rows=2, title=k_runs["titles"])
save("k_grid")
image_grid(inv_k_runs["images"], rows=2, title=inv_k_runs["titles"])
save("inverse_k_grid")
for name, expts, runs, k in (("k", k_expts, k_runs, 5), ("inverse_k", inv_k_expts, inv_k_runs, 0.3)):
    chosen = [expt["val"] for expt in expts].index(k)
    title = ["constant 7.5", runs["titles"][chosen]]
    plot_grid([baseline_expts[0]["schedule"], expts[chosen]["schedule"]], titles=title)
    plt.setp(plt.gcf().axes, ylim=(0, 8))
    save(f"{name}_and_baseline_curves")
    image_grid([baseline["images"][0], runs["images"][chosen]], title=title)
    save(f"{name}_and_baseline")
