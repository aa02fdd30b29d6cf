# %% [markdown]
# # Reading a trace
#
# An image shows what guidance did in the end. A trace shows what it did on the way: four numbers for each call of the
# denoiser, kept on the device and read only when you look. With a little practice they tell you which steps matter,
# when a method acts, where you pay for nothing, and that a setting is wrong before you have seen its image.

# %%
import torch
from diffusers.utils import make_image_grid
from IPython.display import HTML

import cfglab as cl
from cfglab.svg import Axis, Line, plot

pipe = cl.load("scenes", sampler="euler")
pipe.set_progress_bar_config(disable=True)
PROMPT = "a frog next to a car"


def generate(guidance, seed=3, steps=25):
    with cl.guide(pipe, guidance) as trace:
        image = pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(seed)).images[0]
    return image, trace


# %% [markdown]
# ## Four lines
#
# One image at a constant scale. Read the card from above to below:
#
# - **w** is the scale. It is constant here, so its line is flat.
# - **‖cond − uncond‖** is how far apart the two predictions are: how much the prompt changes the prediction at this
#   noise level. Guidance moves the image by w times this.
# - **cosine** is the angle between them. At 1 they point the same way.
# - **NFE per image** is the price: 2 where both predictions are computed, 1 where one is enough.

# %%
image, trace = generate(4)
trace

# %% [markdown]
# The second line is the one to look at. At pure noise both predictions are nearly "all of this is noise", and they
# agree. Then there is a peak: this is where the layout of the image is decided, and where the prompt decides it.
# Every schedule is a bet on the place of that peak.
#
# The card is only a view. The numbers are there as Python values, and as a text table for a terminal:

# %%
print("\n".join(trace.table().splitlines()[:6]))
widest = max(trace.steps[:15], key=lambda record: record.difference[0])
print(f"\nthe peak is at step {widest.step.index + 1} of {widest.step.count}, sigma {widest.step.sigma:.2f}")

# %% [markdown]
# ## Noise units, image units
#
# Why does the second line rise again at the end? Because it counts in units of noise. This model predicts epsilon,
# and at a low noise level a small change of the image is a large change of epsilon. Times sigma it becomes a distance
# between two clean images, and that one falls after the peak: at the end, the prompt changes almost nothing.
#
# The three curves also show that guidance feeds on itself. With a larger w the image comes to the prompt sooner, so
# the peak comes earlier and is lower.


# %%
def curves_of(title, value):
    lines = [Line(y=[value(record) for record in generate(w)[1].steps], label=f"w = {w}") for w in (1.5, 4, 10)]
    return plot(title, lines=lines, x=Axis("step"), y=Axis(title), labels="legend", styled=True)


noise_units = curves_of("‖cond − uncond‖", lambda record: record.difference[0])
image_units = curves_of("sigma ‖cond − uncond‖", lambda record: record.step.sigma * record.difference[0])
figures = "".join(f'<div style="width:330px">{figure}</div>' for figure in (noise_units, image_units))
HTML(f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>')

# %% [markdown]
# ## Where a window opens
#
# A schedule can be on in one interval of noise. In the trace, w is 1 where it is off, NFE falls to 1, and the second
# line has gaps: the unconditional prediction was not computed, so there is no distance to report.

# %%
_, trace = generate("constant(6).inside(sigma=(0.5, 6))")
trace

# %% [markdown]
# ## A trace finds a wrong setting
#
# Adaptive guidance ([arXiv:2312.12487](https://arxiv.org/abs/2312.12487)) watches the cosine and stops computing the
# unconditional prediction once both point the same way. The paper's threshold belongs to the paper's model. A popular
# starting value is 0.99, so let us take it:

# %%
stopped, trace = generate("4 | adaptive(similarity=0.99)")
trace

# %% [markdown]
# NFE is 1 from the second step on: guidance was switched off before it began. The cosine line of the first card says
# why. On this model the cosine never falls below 0.99, neither at the first step, where everything is noise, nor at the
# peak: the threshold was passed at once. No error, no warning, half the price, and an image without guidance, on the
# right:

# %% alt="Left: a frog next to a car, with guidance at all steps. Right: from the same noise, without guidance"
make_image_grid([image, stopped], rows=1, cols=2, resize=192)

# %% [markdown]
# Here a window is the better way to save: guidance until the peak has passed, and not after. The image keeps its
# content at seven tenths of the price.

# %%
windowed, trace = generate("constant(4).inside(progress=(0, 0.4))")
trace

# %% alt="Left: guidance at all steps. Right: in the first four tenths of the run"
make_image_grid([image, windowed], rows=1, cols=2, resize=192)

# %% [markdown]
# ## A method that costs more
#
# Perturbed-attention guidance ([arXiv:2403.17377](https://arxiv.org/abs/2403.17377)) needs a third prediction, with a
# changed attention layer. The last line of the card has the price.

# %%
_, trace = generate("4 | pag(s=1)", steps=10)
trace

# %% [markdown]
# ## Several images, one card
#
# In a batch every image has its own line. These three are one prompt and one noise under three guidances. In the
# first call their inputs are equal, so cfglab ran two rows instead of six: see "every call". From the second step on
# they are different images.

# %%
with cl.guide(pipe, [2, 4, 8]) as trace:
    pipe([PROMPT] * 3, num_inference_steps=15, generator=[torch.Generator().manual_seed(3) for _ in range(3)])
trace

# %% [markdown]
# A run folder stores traces, too: `cfglab trace runs/NAME` prints one, and the report of a run shows them beside the
# images. [An experiment you can believe](https://cfglab.github.io/cfglab/notebooks/believable_experiment/) makes such
# a folder.
