"""docs/pipelines.md: every guided pipeline class of diffusers, from the cases that the tests run and the profiles.

python -m tests.pipelines.page      writes it
"""

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers

from cfglab.pipelines.profiles.profile import Profile
from cfglab.pipelines.profiles.source_check import Source, read_source
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import REFUSED
from tests.pipelines.families import Case, cases, families
from tests.pipelines.families.cosmos import TRANSFER
from tests.pipelines.refused import outcomes
from tests.pipelines.results import ROUNDS, TIMES, cause

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"

HEAD = """# Pipelines

`with guide(pipe, guidance): pipe(...)` on diffusers {version}. This page is written by the tests (`make docs`): every
class of the first table is built tiny, run untouched and under `guide()`, at one scale, on a schedule that leaves rows
out, with a guidance an image, and untouched again.

The generic rule: the denoiser is called once a step with rows `[uncond; cond]`, the arguments that diffusers' denoisers
have for rows hold them on their first dimension, and what the pipeline makes of two equal predictions is that
prediction. `guide()` runs the rows that somebody needs, combines them itself, and hands the pipeline the guided
prediction in every row; where there are two calls a step, it writes it into both. What the tables say beyond that is in
a class's `Profile`. A class that is not here is refused, unless you say how it is laid out:

```python
with cfglab.guide(pipe, guidance, profile=cfglab.Profile(layout="two calls", parts=("cond", "uncond"))):
    ...
```

diffusers' own pipeline tests run under `guide()` too: `make pipelines DIFFUSERS_TESTS=/path/to/diffusers`, a checkout.

## Prompts of a method's own

`perp_neg`, `composed`, `dng`, `snf`, `and_salt`, `and_topk`, `contrastive_cfg`, `dual_cfg`, `nag` and `vsf` have a
prompt beside that of the pipeline. The pipeline's `encode_prompt` encodes it as its own, and its row is the one that a
run with this prompt would have. That needs a condition which is one text: with a pooled text or without, and with or
without a mask of the tokens that are read, which is then that of the further prompt (PixArt, Sana, Lumina, Allegro,
PRX, Kandinsky 3, Krea 2, HunyuanVideo, LTX, Mochi, Qwen-Image, Chroma). Refused with the reason are several texts
(HunyuanDiT, AudioLDM 2, LTX-2), and a text that is not the encoding alone: the duration stands behind it (Stable
Audio), or its tokens are told from those of images (Qwen-Image 2.1). `vsf` runs on Stable Audio 1: it puts the tokens
of its prompt, and no duration, behind the text and the duration of the conditional row.

In the attention of `nag` and `vsf` each text is read with its own mask; the shorter one is filled up with tokens that
nothing reads. They are refused where the network puts a mean of the text into the embedding of its timestep as well
(Lumina, Kandinsky 3); where text and image are one sequence, `cfglab advise` says for which networks they are known.

With a ControlNet, or with an image that is put into the sample of the conditional rows alone (Cosmos 1), the row of a
further prompt has all but its text from the unconditional row, and with `nag` and `vsf` from the conditional one.

## When rows are left out and shared

A row is left out where nobody needs its prediction (w = 1, outside of an interval), and rows that are equal bit for
bit are run once. That changes nothing (but roundings of another batch size) as long as the network treats every row
alone, so it is done only where this is known of the denoiser, of every ControlNet and of both networks of a pipeline
that has two. **Else every row of the pipeline's own batch is run at every call**, in further predictions of transforms
as well: the result is the untouched pipeline's at a constant scale, bit for bit, and a warning says once, with the
reason, that no row was saved. `trace.rows_run` and `trace.rows_saved` count what was really run.

`nag`, `vsf`, `pladis` and `cads` put a prediction of their own in the place of the conditional one, whose row is then
left out. It is run all the same, as one row more than [methods.md](methods.md) states, where the pipeline itself reads
the conditional prediction: for a norm after its combine (Qwen-Image, Nucleus and JoyImage-Edit; LongCat-Image and
Lumina 2 unless `enable_cfg_renorm` or `cfg_normalization` is off; Z-Image where `cfg_normalization` is on), for
`guidance_rescale`, for the further terms of LTX-2, and for channels that follow it (in the table below). Where there
are two calls a step, the first output of a run shows the shape of a prediction: where neither the conditional row nor
such a method runs at the first step (w = 0, or a prediction that is zero), one row is run for that.

Known are layers of torch, diffusers, transformers, peft, accelerate and the usual quantisers, diffusers' own attention
processors (IP-Adapters too), LoRA, FreeU, attention slicing, `torch.compile`, hooks of offloading and of layerwise
casting. Not known, and so every row is run:

- attention processors of your own, a subclass of diffusers' too, and those of diffusers that share, store or cut the
  batch (perturbed attention, `CrossFrameAttnProcessor`, Attend-and-Excite, Pix2Pix-Zero, LEDITS++);
- forward hooks of your own, on the network, on any layer, or on all modules; modules of your own inside it;
- a `forward`, another method or torch's attention that was replaced, on an instance or on a class (DeepCache, T-GATE,
  token merging);
- caches over the steps, diffusers' own among them;
- training mode with dropout (also of a LoRA), batch normalisation with the statistics of the batch;
- quantised layers that scale activations by the whole batch (LLM.int8, `quantize_dynamic`, dynamic activations).

The network is read at the first call of a run and compared at every call, so a hook or a processor that a callback sets
during the run is seen at the next step. From there on all rows are run to the end of that run.

`share_rows=` of `guide`, `attach` and `to_guider` says it instead: `True`, the rows are independent all the same (your
word; a cache of diffusers runs all rows even so); `False`, all rows are to be run, without a warning. A hook's function
or a processor's class can say it for itself with an attribute, `row_independent = True`.

**What an argument is decides whether it is cut, not its length.** The arguments of diffusers' denoisers are known by
name; of `cross_attention_kwargs`, `joint_attention_kwargs`, `attention_kwargs` and `added_cond_kwargs` the keys that
diffusers itself reads. A tensor or list under another name (weights of regions, say) could hold rows or not: it is
handed over whole, and all rows are run. `Profile(rows=("name",))` or `Profile(whole=("name",))` says which it is, keys
of dicts included.

## The pipeline's own switches

What guidance replaces is honoured or refused by name, never dropped: `guidance_rescale`, `cfg_normalization`,
`image_guidance_scale` (`img_guidance_scale` of OmniGen) and `pag_scale` are done here as the pipeline does them, or by
`image_guidance(s=...)` of the guidance, which may follow a schedule; `use_dynamic_cfg`, `min_guidance_scale` (of Stable
Video Diffusion, where it is not the same as the other scale: `per_frame`), `guidance_scale_2`, `guidance_schedule`,
`cfg_truncation`, `cfg_trunc_ratio`, `cfg_interval_start` and `cfg_interval_end` (of ACE-Step), `skip_guidance_layers`
and `normalize` are refused, with what to write instead. A callback that sets `pipe._guidance_scale` or
`pipe._guidance_rescale` during a run is refused at the next step: a schedule says the same,
`constant(7.5).inside(progress=(0.0, 0.6))` or `table([7, 6, 5, 1])`.

With guidance off in the call (`guidance_scale=1`, or no negative prompt where the class asks for one), as distilled
models are run, there is one prediction a step. There `1` is the untouched pipeline, bit for bit, and methods that read
no unconditional prediction act on it, in one list as well: `["1", "1 | nag(s=5)"]`. Other scales are refused.

**LTX-2** is guided in every call, also with `guidance_scale=1`: make a call without guidance outside of `guide()`. It
has a scale for the sound and further terms. The sound keeps `audio_guidance_scale`, unless the guidance says
`audio_guidance(w=...)`; `modality_guidance(s=..., audio=...)` takes the place of `modality_scale` and
`audio_modality_scale`; all of them may follow a schedule. `stg_scale` and `guidance_rescale`, and those of the sound,
are the pipeline's own, one number for all steps. **ACE-Step** guides by an APG of its own: here it is
`7 | apg(as_in=ace_step)`, and a scale alone is plain guidance.
"""

CALLS = """
## Whose calls are guided

`guide()` guides the denoiser calls that the pipeline's own code makes. Every other call of the same network passes
through unchanged: from a callback, a hook, a scheduler, another thread, or another pipeline that shares the network.
Pipelines that share a network can be guided at the same time, each with its own guidance.

- **Classes stay visible.** `type(pipe)` and `type(pipe.unet)` are what they were. While a pipeline is guided, three
  methods are replaced on classes: `__call__` and `__setattr__` of the pipeline's class and `cache_context` of the
  network's class; each checks whether the object is guided. The network has one more attribute, `_compiled_call_impl`,
  which is also where `module.compile()` stores its result. Copies and pickles do not have it. All of this is removed
  when the context ends, or when an attached pipeline is garbage collected.
- **Networks can be exchanged** inside the context, also by a callback in the middle of a run: `pipe.unet = other`,
  `pipe.unet = torch.compile(pipe.unet)`, `pipe.unet.compile()`. The new one is guided and the old one is not. A network
  inside `DataParallel`, DDP, FSDP, a peft model or another module with `forward(*args, **kwargs)` is recognized.
- **Two runs of one pipeline at the same time** (threads, `asyncio.to_thread`, a callback that calls the pipeline) are
  separate where the scheduler keeps nothing from step to step (DDIM, DDPM) and both calls have the same steps. In every
  other case the second call is refused in one line before it starts, and the first one goes on. While a guidance with
  transforms is on, calls of the network from several threads wait for each other, because further predictions
  change the network for the duration of a call.
- **Callbacks that switch guidance off** for the rest of a run (`SDCFGCutoffCallback` and the other cutoff callbacks of
  diffusers) work: from there on w = 1 and only the conditional rows run.

## Two passes

A schedule covers the steps of one call of the pipeline. With `denoising_end` and `denoising_start` (SDXL base and
refiner), or with the `strength` of an image-to-image call, it therefore starts again in the second call. With
`span="trajectory"` schedules count over all `num_inference_steps`, of which each call runs its part:

```python
with cfglab.guide(base, guidance, span="trajectory"), cfglab.guide(refiner, guidance, span="trajectory"):
    latents = base(prompt, num_inference_steps=40, denoising_end=0.8, output_type="latent").images
    image = refiner(prompt, num_inference_steps=40, denoising_start=0.8, image=latents).images[0]
```

The scales of the two calls are then those of one run of 40 steps, if both have the same `num_inference_steps` and
scheduler. Memories of transforms (momentum, for instance) begin anew in each call.
"""

RUN = """
## Run by the tests: {count} classes of {families} model families

"same" compares with the untouched pipeline at the same scale, where every row runs (equal rows that are run once
round as another size of batch does): **bit** for bit, or, for the cause given, within {rounds:g} of its size after
three steps at the scale 3. Larger scales and more steps make a last bit grow, up to 1e-4 in ten steps at the scale
15; whatever they are, the difference is at most {times} times what the untouched pipeline changes by when each of its
predictions changes by one last bit. A schedule that leaves rows out is within 1e-5 of the pipeline's own formula with
a moving scale (other sizes of batch round differently). Rows of ControlNets are left out with those of the denoiser,
except AnimateDiff's: these have a row for each frame, and all are run.
The attention of `ControlNetUnionModel` reads the rows of its batch as a sequence, so with it all rows are run.

| class | family | layout | beyond the generic rule | same |
|---|---|---|---|---|
"""

APART = """
## Run by a test of its own

A call of this class runs its steps once for each chunk of a long video, with a ControlNet: too slow for all the tests
of the first table. One test compares it with the untouched pipeline, at one scale and on a schedule, in every chunk. A
guidance a video was not tried: with two videos for a prompt the untouched pipeline fails in its ControlNet, whose
masks are repeated and whose controls are not.

| class | family | layout | beyond the generic rule | same |
|---|---|---|---|---|
"""

READ = """
## Not run: profiles read from the source

Guided by these profiles, which the first call of a run checks against the tensors. Compare once with the untouched
pipeline before you rely on one. diffusers 0.42.1 itself cannot run `EasyAnimateControlPipeline`: it calls its
`encode_prompt` with an argument that does not exist.

| class | layout | beyond the generic rule |
|---|---|---|
"""

REFUSED_HEAD = """
## Refused: why

The last column is a try on diffusers 0.42.1, of a tiny pipeline of the class: the rows of each call of its network, and
what became of a call under `guide()` with the profile that its source suggests: **refused** in one line, another result
than the untouched pipeline's, or an error of the pipeline. Of pipelines made of two one inside was guided (VisualCloze:
both), with the same result as the untouched one; so were those with a guider component, given `to_guider`, beside
diffusers' own guider of that scale. `HeliosPyramidPipeline` has the same result at one scale, which no schedule could
follow. `python -m tests.pipelines.refused` tries them again. Of every class a test reads the fact that its reason
states in the installed source. Where the last column needs more words:

- **LTX-2's diffusion decoder** has no rows because its pipeline calls `decode` of the network, which takes its steps
  inside (three in the try), and never reads its scheduler.
- **RFD4-Proteina** and **unCLIP** have samplers under other names than `scheduler`, one for each quantity or network.
- The attention of **Kandinsky 6 SR** and of LTX-2's diffusion decoder is torch's flex attention. At their true size it
  has to be compiled, or keeps the whole attention matrix in memory; at the size of the try it runs as it is.

| class | why, or how it is guided otherwise | tried |
|---|---|---|
"""

UNKNOWN_HEAD = """
## Refused: not known

Classes of a diffusers that is newer than these tables: nobody has run them. The last column is what the generic rule
would make of what was read in the source: the `profile=` to begin with, or why there is none. Compare with the
untouched pipeline at one scale before you believe it.

| class | its source has | the generic rule |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    run: dict[str, list[Case]] = {}
    for case in cases():
        run.setdefault(case.cls, []).append(case)
    parts = [HEAD.format(version=diffusers.__version__), CALLS]
    parts.append(
        RUN.format(count=len(run), families=len({case.family for case in cases()}), rounds=ROUNDS, times=TIMES)
    )
    parts += [_row(*_ran(cls, several)) for cls, several in sorted(run.items())]
    parts += [APART, _row(*_ran(TRANSFER.cls, [TRANSFER]))]
    others = {name: kind for name, kind in classes() if name not in run and name != TRANSFER.cls}
    parts.append(READ)
    parts += [_row(f"`{name}`", *_layout(profiles()[name])) for name in sorted(others) if name in profiles()]
    parts.append(REFUSED_HEAD)
    found = outcomes()
    parts += [_row(f"`{name}`", REFUSED[name], found[name]) for name in sorted(others) if name in REFUSED]
    unknown = {name: read_source(kind) for name, kind in others.items() if name not in profiles() | REFUSED}
    if not unknown:
        return "".join(parts)
    parts.append(UNKNOWN_HEAD)
    parts += [
        _row(f"`{name}`", source.description.removeprefix("its source has "), rule(source))
        for name, source in sorted(unknown.items())
        if _guided(source)
    ]
    rest = [f"`{name}`" for name, source in sorted(unknown.items()) if not _guided(source)]
    if rest:
        parts.append(f"\nNo combine of two predictions was found in the source of {', '.join(rest)}.\n")
    return "".join(parts)


def classes() -> Iterator[tuple[str, Any]]:
    """Every pipeline class that diffusers exports and that can be imported here."""
    for name in sorted(dir(diffusers)):
        if "Pipeline" not in name or "Modular" in name or name.startswith(("AutoPipeline", "Flax", "Onnx")):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                kind = getattr(diffusers, name)
            except (ImportError, RuntimeError):
                continue
        if not inspect.isclass(kind) or not issubclass(kind, diffusers.DiffusionPipeline) or kind.__name__ != name:
            continue
        if kind is not diffusers.DiffusionPipeline and "__call__" in {key for one in kind.__mro__ for key in vars(one)}:
            yield name, kind


def _ran(cls: str, several: list[Case]) -> tuple[str, ...]:
    layout, beyond = _layout(profiles()[cls])
    ways = {case.style for case in several}
    if len(ways) > 1 or ("embedded" in ways and profiles()[cls].layout != "embedded"):
        layout = layout if len(ways) > 1 else f"{layout} (run as {', '.join(ways)})"
    causes = list(dict.fromkeys(found for case in several if (found := cause(case))))
    return f"`{cls}`", several[0].family, layout, beyond, "; ".join(causes) or "bit"


def _layout(profile: Profile) -> tuple[str, str]:
    """How the batch is laid out, and what the profile says beyond the generic rule."""
    if profile.layout == "two calls":
        layout = f"two calls, {profile.parts[0]} first"
    elif profile.layout == "embedded":
        layout = f"the input `{profile.embedded}`"
    elif profile.layout == "with sound":
        layout = f"[{'; '.join(profile.parts)}], a video and its sound"
    else:
        layout = f"[{'; '.join(profile.parts)}]" + (", python lists" if profile.lists else "")
    if profile.layout != "embedded" and profile.embedded:
        layout += f", or the input `{profile.embedded}`"
    return layout, "; ".join(_beyond(profile))


def _beyond(profile: Profile) -> Iterator[str]:
    half = "half of the channels follow c"
    variance = {"half": half, "last half": half, "twice": "a learned variance follows c", "": ""}
    if profile.variance:
        yield variance.get(str(profile.variance), f"guides {profile.variance} channels, the rest follow c")
    if profile.image_ids:
        yield "guides the tokens of the new image only"
    if profile.sample:
        yield f"its sample is `{profile.sample}`"
    if profile.wide:
        yield "combined in float32"
    if profile.negated:
        yield "the sign is flipped"
    after = {
        "rescale": "`guidance_rescale` is kept",
        "token norm": "its norm of every token is kept",
        "row norm": f"`{next(iter(dict(profile.fixed)), '')}` is kept",
        "item norm": "its norm of every token is kept",
        "token ceiling": "`enable_cfg_renorm` is kept",
        "ceiling": "`cfg_normalization` is kept",
    }
    if profile.post_combine:
        yield after[profile.post_combine]
    if profile.dims:
        yield ", ".join(f"rows of `{name}` on dimension {dim}" for name, dim in profile.dims)
    if profile.blocks:
        names = ", ".join(f"`{name}`" for name in profile.blocks)
        yield f"{names} {'repeats' if len(profile.blocks) == 1 else 'repeat'} every row"
    if profile.networks:
        yield "two networks"
    if "perturbed" in profile.parts or "neither" in profile.parts:
        given = ", ".join(f"`{name}`" for name in profile.third_from if "neither" in profile.parts)
        yield f"{f'with {given} ' if given else ''}the third part is kept, every row is run"
    if profile.layout == "with sound":
        yield "its further passes and `guidance_rescale` are kept"
    if refused := (*profile.refused, *profile.excluded):
        yield "; ".join(f"`{name}` is refused" for name, *_ in refused)


def rule(source: Source) -> str:
    """What the generic rule would make of a class that nobody has run."""
    if source.parts and (source.calls > 1 or sorted(source.parts) != ["cond", "uncond"]):
        return f"does not fit: {len(source.parts)} parts, {max(source.calls, 1)} calls a step"
    if not source.layout:
        return "not clear: its source has another form"
    names = [f'"{name}",' for name in source.networks if name != "current_model"] or ["...,"]
    said = [] if source.networks == ("unet",) else [f"denoisers=({' '.join(names)})"]
    if source.layout == "two calls":
        said += ['layout="two calls"', 'parts=("cond", "uncond")']
    elif source.parts != ("uncond", "cond"):
        said.append('parts=("cond", "uncond")')
    lost = {"rescale": "its guidance_rescale", "norm": "its norm"}
    losses = " and ".join(lost[name] for name in source.post_combine)
    return f"`Profile({', '.join(said)})`" + (f"; {losses} would be lost" if losses else "")


def _guided(source: Source) -> bool:
    return bool(source.formula or source.parts)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(families())} modules of cases")
