# %% [markdown]
# # An experiment you can believe
#
# "We found that rising guidance looks better." On how many prompts? From which noise? Chosen on the same images on
# which it is reported? This notebook takes one question through the whole way, in an experiment so small that it runs
# while you read, and shows at each turn what would have fooled you.
#
# ## The question
#
# At the same mean scale, should guidance fall or rise during the run? The notebooks of 2022 advise early guidance, a
# paper advises the opposite ([arXiv:2404.13040](https://arxiv.org/abs/2404.13040)). One phrase of that question
# matters most: *at the same mean scale*. Without it, the winner is whoever gets more guidance.

# %%
import textwrap

import cfglab as cl

experiment = cl.Experiment.from_yaml("""
name: fall-or-rise
title: Falling or rising guidance
question: At a mean scale of 4, does guidance that falls or rises follow the prompt better than a constant?
model: scenes
prompts: scenes:12
seeds: 0..1
sampler: euler
steps: 12
baseline: {name: constant, guidance: "4"}
groups:
  - {name: falling, guidance: "cosine(max=7, min=1).matched_to(4)"}
  - {name: rising, guidance: "cosine(max=7, min=1).inverted().matched_to(4)"}
""")
experiment

# %% [markdown]
# The card shows the price before you pay it. Every configuration gets the same prompts and the same starting noises,
# so differences are paired: a hard prompt is hard for everybody, and drops out of the difference.

# %%
run = cl.run(experiment, "runs/fall-or-rise", quiet=True)
run

# %% [markdown]
# ## Read the interval, not the mean
#
# `alignment` is 1 where a classifier finds exactly the objects, the relation, the colours and the background that the
# prompt asks for, and every object whole; it is 0 otherwise.

# %%
comparison = run.compare("alignment")
comparison

# %% [markdown]
# Four things to read, in this order.
#
# 1. **The interval.** The bar is where the true difference may lie. It is computed over prompts, because the images
#    of one prompt succeed and fail together. Treating these images as independent would give a bar that is too narrow.
#    A row without a bar has the same difference on every prompt: its spread is unknown, not zero.
# 2. **Whether it touches zero.** If it does, this experiment does not know. That is not the same as "no difference".
# 3. **What it could have found.** The comparison states the smallest difference that it would find in 80 of 100 such
#    experiments.
# 4. **p after Holm.** Two comparisons, two chances to be lucky; with forty configurations the luckiest one always
#    looks good. Where interval and p disagree, few prompts carry the difference, and the note below the table says
#    which one to trust.

# %%
for row in comparison.rows:
    interval = "no interval" if row.low is None else f"{100 * row.low:+.0f} to {100 * row.high:+.0f}"
    print(f"{row.setting:8} {100 * row.difference:+5.1f} points ({interval}), p = {row.p_holm:.3f}")

# %% [markdown]
# ## The winner's curse
#
# The best of many configurations is partly the best and partly the luckiest. Chosen and reported on the same images,
# its advantage is too large. The cure is to choose on one half and to report on the other:

# %%
print(textwrap.fill(str(run.best_on_split("alignment")), 110))

# %% [markdown]
# ## What does "correct" mean?
#
# A metric that is happy with everything proves nothing. So ask it about the wrong prompts: each image is scored with
# the prompts of the others. What remains is chance level.

# %%
shuffled = run.compare("alignment", shuffled=True)
print(f"with their own prompts {shuffled.baseline_mean.value:.0%} are correct, with others {shuffled.chance.value:.0%}")

# %% [markdown]
# ## Look, too
#
# The numbers say how much, the images say how. `run.report()` writes one HTML file with everything on this page,
# every image, every curve and every trace. It needs no server and no network, so it can go into an e-mail.

# %%
print(run.report())

# %% [markdown]
# ## The same experiment, large enough
#
# Twelve prompts and two seeds are enough to see an effect of thirty points and hopeless for one of three. The command
# for an answer is
#
# ```sh
# cfglab run dispute --out runs/dispute
# ```
#
# and [Early or late](https://cfglab.github.io/cfglab/findings/first-edition/) is what it said on the first edition of
# `scenes`: at a mean scale of 4 rising schedules lost 9 to 27 points, and no gain of falling ones was shown. An earlier
# version of that page said it was. New prompts and new noises took the gain away, and the page says so at its top.
# That, too, is what an experiment you can believe looks like.
#
# [Statistics](https://cfglab.github.io/cfglab/statistics/) has the formulas, and how often the intervals hold in
# simulations.
