"""to_guider on tiny Modular pipelines: against diffusers' own guider, the classic pipelines and formulas."""

from typing import Any

import pytest
import torch
from diffusers import ClassifierFreeGuidance
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Guidance, PredictionNorm
from cfglab.pipelines.guider.guider import Guider, to_guider
from cfglab.schedules import Cosine
from tests.pipelines.modular import MODULAR, Modular
from tests.pipelines.modular.oracles import Listed, NormOfX0

NAMES = sorted(MODULAR)


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return {}


@pytest.fixture
def made(request: pytest.FixtureRequest, built: dict[str, Any]) -> tuple[Modular, Any, Any]:
    """A Modular pipeline and the classic one of the same parts, built once."""
    modular = MODULAR[request.param]
    if request.param not in built:
        classic = modular.case.build()
        built[request.param] = classic, modular.build(classic)
    return modular, *built[request.param]


def denoiser_of(pipe: Any) -> Any:
    return getattr(pipe, "unet", None) or pipe.transformer


def away(left: Tensor, right: Tensor) -> float:
    """The largest difference in units of the largest value."""
    return float((left - right).abs().max() / right.abs().max())


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_a_constant_scale_is_diffusers_own_bit_for_bit_and_the_classic_pipeline(made: Any) -> None:
    modular, classic, pipe = made
    own = modular.run(modular.use(pipe, ClassifierFreeGuidance(guidance_scale=4.0)))
    ours = modular.run(modular.use(pipe, to_guider(4)))
    assert len(ours) == len(own) == 3
    assert all(map(torch.equal, ours, own))
    untouched = modular.run_classic(classic, 4.0)
    assert away(ours[-1], untouched[-1].reshape(ours[-1].shape)) < 1e-5  # one call of 2 rows and two calls round apart
    other = modular.run(modular.use(pipe, to_guider(3)))
    assert away(other[-1], own[-1]) > 2e-3  # the test can see


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_a_schedule_with_rows_left_out_is_the_scale_set_call_by_call(made: Any) -> None:
    modular, _, pipe = made
    schedule = Cosine(max=7, min=2).inside(progress=(0.2, 0.7))
    values = [1.0, *Cosine(max=7, min=2).values(4)[1:3], 1.0]
    calls: list[int] = []
    networks = {id(one): one for one in (denoiser_of(pipe), getattr(pipe, "transformer_2", None)) if one is not None}

    def count(*_: Any) -> None:
        calls.append(1)

    count.row_independent = True  # type: ignore[attr-defined]
    handles = [one.register_forward_hook(count) for one in networks.values()]
    oracle = modular.run(modular.use(pipe, Listed([None, *values[1:3], None])), steps=4)
    guider = to_guider(schedule)
    calls.clear()
    ours = modular.run(modular.use(pipe, guider), steps=4)
    for handle in handles:
        handle.remove()
    assert all(map(torch.equal, ours, oracle))
    assert [record.w[0] for record in guider.trace.steps] == pytest.approx(values)
    assert (len(calls), guider.trace.rows_run, guider.trace.rows_saved) == (6, 6, 2)


@pytest.mark.parametrize("made", NAMES, indirect=True)
def test_a_transform_that_needs_sigma_and_latents_gets_them(made: Any) -> None:
    modular, _, pipe = made
    seen: list[Any] = []

    def note(_: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs.get("hidden_states", kwargs.get("x")))

    networks = {id(one): one for one in (denoiser_of(pipe), getattr(pipe, "transformer_2", None)) if one is not None}
    handles = [one.register_forward_pre_hook(note, with_kwargs=True) for one in networks.values()]
    kinds = {id(one): type(one) for one in networks.values()}
    oracle = modular.run(modular.use(pipe, NormOfX0(4.0, pipe.scheduler, seen, modular.case.prediction == "flow")))
    for handle in handles:
        handle.remove()
    guider = to_guider(Guidance(4, [PredictionNorm(space="x0")]))
    ours = modular.run(modular.use(pipe, guider))
    for left, right in zip(ours, oracle, strict=True):
        torch.testing.assert_close(left, right, rtol=2e-4, atol=2e-4 * float(right.abs().max()))
    plain = modular.run(modular.use(pipe, to_guider(4)))
    assert away(ours[-1], plain[-1]) > 5e-4
    assert {id(one): type(one) for one in networks.values()} == kinds
    assert isinstance(pipe.guider, Guider)


@pytest.mark.parametrize("name", ["SD3", "Wan"])
def test_half_precision_is_diffusers_own_too(name: str) -> None:
    modular = MODULAR[name]
    pipe = modular.build().to(torch.bfloat16)
    own = modular.run(modular.use(pipe, ClassifierFreeGuidance(guidance_scale=4.0)))
    assert all(map(torch.equal, modular.run(modular.use(pipe, to_guider(4))), own))
    normed = modular.run(modular.use(pipe, to_guider(Guidance(4, [PredictionNorm(space="x0")]))))
    assert normed[-1].dtype == own[-1].dtype
    assert torch.isfinite(normed[-1]).all()
    assert not torch.equal(normed[-1], own[-1])


def test_a_network_that_may_keep_what_it_saw_is_called_for_every_prediction() -> None:
    modular = MODULAR["SDXL"]
    pipe = modular.build()
    calls: list[int] = []
    schedule = Cosine(max=7, min=2).inside(progress=(0.2, 0.7))
    handle = denoiser_of(pipe).register_forward_hook(lambda *_: calls.append(1))
    try:
        guider = to_guider(schedule)
        with pytest.warns(UserWarning, match=r"every call of a step is made: in unet the hook .*share_rows=True"):
            all_made = modular.run(modular.use(pipe, guider), steps=4)
        assert (len(calls), guider.trace.rows_run, guider.trace.rows_saved) == (8, 8, 0)
        calls.clear()
        guider = to_guider(schedule, share_rows=True)
        assert all(map(torch.equal, modular.run(modular.use(pipe, guider), steps=4), all_made))
        assert (len(calls), guider.trace.rows_saved) == (6, 2)
    finally:
        handle.remove()


def test_sd3_needs_a_negative_prompt_which_may_be_empty() -> None:
    """Its text encoder makes negative embeddings only where it is given a text for them, whatever its guider says."""
    modular = MODULAR["SD3"]
    pipe = modular.use(modular.build(), to_guider(4))
    with pytest.raises(InputError, match=r"no negative .* pass a negative_prompt, which may be \"\""):
        modular.run(pipe, negative_prompt=None)
    empty, own = (
        modular.run(modular.use(pipe, guider), negative_prompt="")
        for guider in (to_guider(4), ClassifierFreeGuidance(4))
    )
    assert all(map(torch.equal, empty, own))
