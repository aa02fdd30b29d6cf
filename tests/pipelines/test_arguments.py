"""What an argument is decides whether its rows are cut, never a length that happens to be the batch's."""

import importlib
import inspect
import pkgutil
import re
import warnings
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from cfglab.guidance.perturbations.shifted_timestep import ShiftedTimestep
from cfglab.pipelines import Profile, guide
from cfglab.pipelines.interception.arguments import kind_of, unknown_arguments
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.profiles.table import profiles
from cfglab.step import Step
from tests.pipelines.families import case
from tests.pipelines.reference_loop import moved

SCALES = (3.0, 1.0, 5.0)


def schedule(step: Step) -> float:
    return SCALES[step.index]


class Regions(AttnProcessor2_0):
    """Attention whose output is weighted by the weights of the regions of the image, two of them: no rows."""

    row_independent = True

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, regions: Any = None, **more: Any) -> Tensor:
        out = super().__call__(attn, hidden_states, *args, **more)
        if regions is None:
            return out
        weights = regions["weights"][0] if isinstance(regions, dict) else regions
        return out * (1 + torch.as_tensor(weights).sum() + 0.1 * len(weights))


@cache
def pipe_of(name: str) -> Any:
    return case(name).build()


WEIGHTS = torch.tensor([0.7, 0.2])


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    "regions",
    [WEIGHTS, WEIGHTS.repeat(2), {"weights": [WEIGHTS]}, {"weights": (WEIGHTS.repeat(2),)}, [0.7, 0.2]],
    ids=["two", "four", "nested", "nested four", "a list"],
)
def test_what_an_attention_processor_is_given_stays_whole(regions: Any, images: int) -> None:
    made, pipe = case("StableDiffusionPipeline"), pipe_of("StableDiffusionPipeline")
    before = pipe.unet.attn_processors
    pipe.unet.set_attn_processor(Regions())
    try:
        more = {"images": images, "steps": 3, "cross_attention_kwargs": {"regions": regions}}
        wanted = moved(pipe, made, SCALES, **more)
        with pytest.warns(UserWarning, match="among the arguments .*Profile"), guide(pipe, schedule) as trace:
            guided = made.call(pipe, 5.0, **more)
        assert trace.rows_saved == 0
        assert (guided - wanted).norm() <= 1e-6 * wanted.norm()
        known = Profile(whole=("regions",))
        with guide(pipe, schedule, profile=known) as trace:
            guided = made.call(pipe, 5.0, **more)
        assert trace.rows_saved == images
        assert (guided - wanted).norm() <= 1e-5 * wanted.norm()
    finally:
        pipe.unet.set_attn_processor(dict(before))


def test_two_calls_a_step_cut_nothing_that_is_not_known() -> None:
    """Two images, two weights, one prompt from one start: half of the rows would be shared."""
    made, pipe = case("FluxPipeline"), pipe_of("FluxPipeline")
    seen: list[int] = []
    own = type(pipe.transformer).forward

    def forward(self: Any, *args: Any, joint_attention_kwargs: Any = None, **more: Any) -> Any:
        seen.append(len(joint_attention_kwargs["weights"]))
        return own(self, *args, **more)

    kind = type(pipe.transformer.__class__.__name__, (type(pipe.transformer),), {"forward": forward})
    kind.row_independent = True  # type: ignore[attr-defined]
    pipe.transformer.__class__, plain = kind, type(pipe.transformer)
    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    try:
        with pytest.warns(UserWarning, match="'weights' among"), guide(pipe, schedule) as trace:
            made.call(pipe, 5.0, steps=3, images=2, generator=generators, joint_attention_kwargs={"weights": WEIGHTS})
    finally:
        pipe.transformer.__class__ = plain
    assert set(seen) == {2}
    assert (trace.rows_run, trace.rows_saved) == (12, 0)


def call(profile: Profile | None = None, **named: Any) -> DenoiserCall:
    unet = pipe_of("StableDiffusionPipeline").unet
    given = {"sample": torch.zeros(2, 4, 8, 8), "timestep": torch.tensor(1), **named}
    return DenoiserCall(unet, unet, (), given, profile or Profile())


PAIR = torch.arange(2.0)


@pytest.mark.parametrize("name", ["encoder_attention_mask", "timestep_cond", "class_labels", "attention_mask"])
def test_rows_are_cut_where_the_name_says_rows(name: str) -> None:
    assert call(**{name: PAIR}).arguments_of([1])[name].tolist() == [1.0]
    assert call(**{name: torch.arange(3.0)}).arguments_of([1])[name].tolist() == [
        0.0,
        1.0,
        2.0,
    ]  # the same for every row
    assert call(**{name: PAIR}).unknown == ""


@pytest.mark.parametrize("name", ["conditioning_scale", "control_hidden_states_scale", "visual_rope_pos", "ofs"])
def test_nothing_is_cut_where_the_name_says_none(name: str) -> None:
    assert call(**{name: PAIR}).arguments_of([1])[name] is PAIR
    assert call(**{name: [PAIR, PAIR]}).arguments_of([1])[name][0] is PAIR
    assert call(**{name: PAIR}).unknown == ""


def test_known_keys_of_dicts() -> None:
    inside = {
        "added_cond_kwargs": {"text_embeds": PAIR, "image_embeds": [PAIR], "mine": PAIR},
        "cross_attention_kwargs": {"scale": 0.5, "gligen": {"boxes": PAIR}, "ip_adapter_masks": [PAIR]},
    }
    taken = call(**inside).arguments_of([1])
    assert taken["added_cond_kwargs"]["text_embeds"].tolist() == [1.0]
    assert taken["added_cond_kwargs"]["image_embeds"][0].tolist() == [1.0]
    assert taken["added_cond_kwargs"]["mine"] is PAIR
    assert taken["cross_attention_kwargs"]["gligen"]["boxes"].tolist() == [1.0]
    assert taken["cross_attention_kwargs"]["ip_adapter_masks"][0] is PAIR
    assert call(**inside).unknown == "mine"
    assert call(cross_attention_kwargs=inside["cross_attention_kwargs"]).unknown == ""


def test_a_profile_says_what_nobody_knows() -> None:
    mine = {"mine": PAIR, "cross_attention_kwargs": {"deep": {"inner": PAIR}}}
    assert call(**mine).unknown == "mine"
    assert call(Profile(rows=("mine",)), **mine).unknown == "inner"
    known = call(Profile(rows=("mine", "inner")), **mine)
    assert known.unknown == ""
    assert known.arguments_of([1])["cross_attention_kwargs"]["deep"]["inner"].tolist() == [1.0]
    assert call(Profile(whole=("mine", "inner")), **mine).arguments_of([1])["mine"] is PAIR


@pytest.mark.parametrize("value", [None, True, 0.5, "two", torch.tensor(1.0), torch.float32, [], {}, {"scale": 2}])
def test_what_cannot_hold_rows_is_no_question(value: Any) -> None:
    assert list(unknown_arguments("mine", value, None, (), ())) == []


CONSUMING = ("StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline", "HunyuanDiTControlNetPipeline")
"""Their networks take what stands in a list out of it: of a T2I-Adapter, of a ControlNet."""


@pytest.mark.parametrize("name", CONSUMING)
def test_a_further_pass_has_what_the_first_one_took_out_of_a_list(name: str) -> None:
    """c and c(t + 0) are one prediction, so self-guidance by it changes nothing."""
    made, pipe = case(name), pipe_of(name)
    guided = []
    for text in ("4", "4 | sg(shift=0, s=10)"):
        with guide(pipe, text):
            guided.append(made.call(pipe, 5.0, steps=2))
    assert (guided[1] - guided[0]).norm() <= 1e-5 * guided[0].norm()


class Consuming(nn.Module):
    """A network that empties the list and the dict that it is given, and fills its cache."""

    def forward(self, sample: Tensor, timestep: Tensor, parts: Any, more: Any, kv_cache: Any) -> Tensor:  # noqa: ARG002
        kv_cache.append(1)
        return sample + parts.pop() + more["inner"].pop("part")


@pytest.mark.parametrize("positional", [0, 3, 5])
@pytest.mark.parametrize("rows", [None, [0]])
@pytest.mark.parametrize("variation", [None, ShiftedTimestep(0.0, 1.0)])
def test_every_run_of_a_call_is_given_all_of_its_arguments(positional: int, rows: Any, variation: Any) -> None:
    network, cache = Consuming(), [0]
    given = {
        "sample": torch.zeros(2, 1),
        "timestep": torch.tensor(1),
        "parts": [1],
        "more": {"inner": {"part": 2}},
        "kv_cache": cache,
    }
    args, kwargs = list(given.values())[:positional], dict(list(given.items())[positional:])
    made = DenoiserCall(network, network, tuple(args), kwargs, Profile())
    for _ in range(2):
        assert made.run(rows, variation).unique().tolist() == [3.0]
    assert cache == ([0, 1, 1] if variation is None else [0])  # a further pass leaves the cache as it was


UNDECIDED = (
    "return_dict",
    "return_noise",
    "eps",
    "kwargs",
    "args",
    "kv_cache",
    "kv_cache_mode",
    "input_img_latents",  # of the images of all rows, which are known by their numbers
    "patch_size",
    "f_patch_size",
)
"""Numbers without an annotation, and what is kept from call to call: with that all rows are run."""


def test_every_argument_of_the_networks_of_the_table_is_decided() -> None:
    """Of the installed diffusers: the networks that its guided pipelines name, by their annotations."""
    left: dict[str, set[str]] = {}
    stated = {name for profile in profiles().values() for name in (*profile.rows, *profile.whole, profile.sample)}
    for network in networks():
        names = list(inspect.signature(network.forward).parameters.items())[2:]
        for name, parameter in names:
            said = str(parameter.annotation)
            plain = "Tensor" not in said and ("bool" in said or "int" in said or "float" in said or "dict" in said)
            if kind_of(name) is None and not plain and name not in (*UNDECIDED, *stated):
                left.setdefault(network.__name__, set()).add(name)
    assert left == {}


def networks() -> list[Any]:
    """The denoisers and control networks that the constructors of the table's pipelines are annotated with."""
    found: set[Any] = set()
    for name, profile in profiles().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = getattr(diffusers, name, None)
        if pipeline is None or hasattr(pipeline, "_backends"):
            continue
        parameters = inspect.signature(pipeline.__init__).parameters
        for part in (*profile.denoisers, *profile.helpers):
            said = parameters[part].annotation
            found |= {one for one in getattr(said, "__args__", (said,)) if inspect.isclass(one)}
    return sorted((one for one in found if issubclass(one, nn.Module)), key=lambda one: one.__name__)


def test_the_processors_of_diffusers_are_read() -> None:
    """Every attention processor of the installed diffusers that cuts the batch in parts is known as one that does."""
    from cfglab.pipelines.interception.row_mixing import MIXING

    cutting = []
    for package in ("diffusers.models", "diffusers.models.transformers", "diffusers.models.unets"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if module.ispkg:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    members = vars(importlib.import_module(module.name))
            except (ImportError, RuntimeError):
                continue
            for name, kind in members.items():
                if "Processor" in name and inspect.isclass(kind) and not issubclass(kind, ModelMixin):
                    source = inspect.getsource(kind.__call__) if "__call__" in vars(kind) else ""
                    if re.search(r"hidden_states\.chunk\(\d\)|_org", source):
                        cutting.append(name)
    assert len(cutting) >= 8
    assert [name for name in cutting if not MIXING.search(name)] == []
