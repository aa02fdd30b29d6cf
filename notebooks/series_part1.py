# %% [markdown]
# # The series anew, Part 1: one change at a time
#
# The cosine has seven parameters. Which of them matter? Part 1 answered with a minimum-pair sweep, an idea from
# linguistics: change one parameter, leave all others alone, and look. Nine runs, one image each, judged by eye.

# %%
from functools import partial

import torch

import cfglab as cl
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import GuidanceTfm
from min_diffusion.core import MinimalDiffusion
from min_diffusion.utils import image_grid, plot_grid

STEPS = 30
DEFAULTS = {
    "num_steps": STEPS,
    "max_val": 7.5,
    "min_val": 1.0,
    "num_cycles": 0.5,
    "k_decay": 1.0,
    "num_warmup_steps": 0,
}
CHANGES = {
    "k_decay": [0.8, 0.6],
    "max_val": [10],
    "min_val": [3],
    "num_cycles": [1, 1.5],
    "num_warmup_steps": [5, 10, 15],
}


def cos_harness(new_params, default_params):
    return get_cos_sched(**{**default_params, **new_params})


def create_expts(params, schedule_func):
    return [
        {"title": f"{name} = {value}", "schedule": schedule_func({name: value})}
        for name in sorted(params)
        for value in params[name]
    ]


expts = create_expts(CHANGES, partial(cos_harness, default_params=DEFAULTS))

# %% alt="Nine curves, each with one parameter of the cosine changed"
plot_grid([expt["schedule"] for expt in expts], rows=3, width=300, height=190, titles=[expt["title"] for expt in expts])

# %% [markdown]
# ## Nine images
#
# All start from the same noise; `MinimalDiffusion` keeps it in `init_latents`.

# %% alt="Ten images: the constant 7.5 and nine changed cosines"
pipeline = MinimalDiffusion("scenes", "cpu", torch.float32, generator=torch.manual_seed(8))
pipeline.load()
pipeline.pipe.set_progress_bar_config(disable=True)
PROMPT = "a photograph of an astronaut riding a horse"


def run(expts, guide_tfm=GuidanceTfm):
    return [pipeline.generate(PROMPT, guide_tfm({"g": expt["schedule"]}), steps=STEPS) for expt in expts]


baseline = {"title": "constant 7.5", "schedule": [7.5] * STEPS}
image_grid(run([baseline, *expts]), rows=2, width=190, height=190, title=[expt["title"] for expt in [baseline, *expts]])

# %% [markdown]
# The original saw what you may see, too: most changes keep the composition and move details; the warm-ups change more,
# here the background. It concluded that warm-ups are lovely, that a maximum of 10 hurts, and, further down, that a
# higher maximum is promising. One image can carry all three conclusions, because one image carries none.
#
# ## What the eye cannot subtract
#
# These nine schedules differ in *how much* guidance they give, not only in when. The mean scale, cfglab calls it the
# dose, says how much:

# %%
for expt in [baseline, *expts]:
    print(f"{expt['title']:24} mean {cl.Table(expt['schedule']).dose(STEPS):.2f}")

# %% [markdown]
# These schedules have 45 to 75 % of the guidance of the baseline, and a longer warm-up has a little less. A fair
# comparison gives both sides the same dose. In cfglab that is one word, `matched_to`, and a comparison of the warm-up
# with a constant of the same mean looks like this:

# %%
cl.curves(
    ["constant(4)", "constant(4).warmed_up(fraction=0.2).matched_to(4)", "cosine(max=7.5, min=1).matched_to(4)"],
    steps=STEPS,
)

# %% [markdown]
# With 64 prompts and 8 noises each on the first edition of `scenes`, at the same dose, warm-ups *lost*: 3.5 points of
# alignment after a tenth of the run, 17 points over the whole run
# ([k-decay](https://cfglab.github.io/cfglab/findings/first-edition/)). The lovely image did not survive the count.
# `cfglab run part1` is this sweep with sixteen seeds and intervals.
#
# Next: [Part 2, normalizations](https://cfglab.github.io/cfglab/notebooks/series_part2/).
