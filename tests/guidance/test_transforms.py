"""What binds every transform, and the three norms against their formulas in float64 and the published package."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cfglab.guidance import TRANSFORMS, FullNorm, Guidance, PredictionNorm, Transform, UpdateNorm
from cfglab.step import Step
from tests.oracles import Published

SIGMA = 1.7
STEP = Step(4, 10, timestep=600.0, sigma=SIGMA, next_sigma=1.2, alpha=1 / math.sqrt(1 + SIGMA**2))
EVERY = [
    pytest.param(kind, space, prediction, id=f"{name}-{space}-{prediction}")
    for name, kind in sorted(TRANSFORMS.items())
    for space in ("epsilon", "x0", "v", "flow", "model")
    for prediction in ("epsilon", "v", "flow")
]


def batch(n: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """uncond, cond, latents (n, 4, 8, 8), images of different sizes."""
    generator = torch.Generator().manual_seed(5)
    size = torch.tensor([1.0, 0.1, 7.0])[:n].reshape(n, 1, 1, 1)
    uncond, change, latents = (torch.randn(n, 4, 8, 8, generator=generator) for _ in range(3))
    return (uncond * size).to(dtype), ((uncond + 0.4 * change) * size).to(dtype), latents.to(dtype)


@pytest.mark.parametrize(("kind", "space", "prediction"), EVERY)
def test_strength_0_is_plain_cfg(kind: type[Transform], space: str, prediction: str) -> None:
    uncond, cond, latents = batch()
    guide = Guidance(7.5, [kind(strength=0, space=space)]).start(prediction)
    assert torch.equal(guide.combine(uncond, cond, STEP, latents), uncond + 7.5 * (cond - uncond))
    assert Guidance(1, [kind(strength=0)]).start().needs(STEP) == (False, True)


@pytest.mark.parametrize(("kind", "space", "prediction"), EVERY)
def test_equal_predictions_give_cond_exactly(kind: type[Transform], space: str, prediction: str) -> None:
    _, cond, latents = batch()
    cond[1] = 0  # an image of zeros has no direction
    for strength in (0.3, 1.0):
        guide = Guidance(7.5, [kind(strength=strength, space=space)]).start(prediction)
        assert torch.equal(guide.combine(cond.clone(), cond, STEP, latents), cond)


@pytest.mark.parametrize(("kind", "space", "prediction"), EVERY)
def test_a_batch_is_its_images(kind: type[Transform], space: str, prediction: str) -> None:
    uncond, cond, latents = batch()
    guide = Guidance(3, [kind(space=space)]).start(prediction)
    together = guide.combine(uncond, cond, STEP, latents)
    for i in range(3):
        alone = guide.combine(uncond[i : i + 1], cond[i : i + 1], STEP, latents[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "space", "prediction"), [one for one in EVERY if one.values[0] is not FullNorm])
def test_strength_blends_linearly(kind: type[Transform], space: str, prediction: str) -> None:
    # a transform of one hook; FullNorm blends each of its two on its own
    uncond, cond, latents = (x.double() for x in batch())
    none, some, full = (
        Guidance(3, [kind(strength=s, space=space)]).start(prediction).combine(uncond, cond, STEP, latents)
        for s in (0, 0.25, 1)
    )
    assert not torch.allclose(none, full)
    torch.testing.assert_close(some, 0.75 * none + 0.25 * full, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", TRANSFORMS.values())
def test_half_precision_is_computed_in_float32(kind: type[Transform], dtype: torch.dtype) -> None:
    uncond, cond, _ = batch(dtype=dtype)
    uncond, cond = uncond * 40, cond * 40  # the sum of squares of the last image is far above float16's 65504
    got = Guidance(0.5, [kind()]).start().combine(uncond, cond, STEP)
    exact = Guidance(0.5, [kind()]).start().combine(uncond.double(), cond.double(), STEP)
    assert got.dtype == dtype
    torch.testing.assert_close(got, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
@pytest.mark.parametrize("kind", TRANSFORMS.values())
def test_the_space_does_not_depend_on_what_the_model_predicts(kind: type[Transform], prediction: str) -> None:
    from cfglab.guidance.spaces import convert

    uncond, cond, latents = (x.double() for x in batch())
    guidance = Guidance(2, [kind(space="x0")])
    exact = guidance.start("epsilon").combine(uncond, cond, STEP, latents)
    there = [convert(x, latents, STEP, "epsilon", prediction) for x in (uncond, cond)]  # type: ignore[arg-type]
    got = guidance.start(prediction).combine(*there, STEP, latents)  # type: ignore[arg-type]
    torch.testing.assert_close(
        convert(got, latents, STEP, prediction, "epsilon"),  # type: ignore[arg-type]
        exact,
        rtol=1e-9,
        atol=1e-9,
    )


def test_transforms_are_skipped_where_guidance_is_off() -> None:
    uncond, cond, _ = batch()
    guide = Guidance("cosine(max=7.5, min=1).inside(progress=(0.5, 1))", [PredictionNorm()]).start()
    assert guide.needs(STEP) == (False, True)
    assert guide.combine(None, cond, STEP) is cond
    assert guide.combine(uncond, cond, STEP) is cond


def test_never_nan_for_tiny_huge_and_zero_predictions() -> None:
    _, cond, _ = batch()
    for size in (0.0, 1e-30, 1e-20, 1.0, 1e15):
        for uncond in (torch.zeros_like(cond), cond * (1 + 1e-7), -cond):
            for kind in TRANSFORMS.values():
                got = Guidance(7.5, [kind()]).start().combine(uncond * size, cond * size, STEP)
                assert torch.isfinite(got).all(), (kind, size)


# -- the formulas --------------------------------------------------------------------------------------------------


def formula_update(u: np.ndarray, c: np.ndarray, w: float) -> np.ndarray:
    return u + w * (c - u) / np.sqrt(((c - u) ** 2).sum()) * np.sqrt((u**2).sum())


def formula_prediction(u: np.ndarray, c: np.ndarray, w: float) -> np.ndarray:
    p = u + w * (c - u)
    return p * np.sqrt((u**2).sum()) / np.sqrt((p**2).sum())


def formula_full(u: np.ndarray, c: np.ndarray, w: float) -> np.ndarray:
    p = formula_update(u, c, w)
    return p * np.sqrt((u**2).sum()) / np.sqrt((p**2).sum())


FORMULAS = [(PredictionNorm(), formula_prediction), (UpdateNorm(), formula_update), (FullNorm(), formula_full)]
PUBLISHED = [(PredictionNorm(), "BaseNormGuidance"), (UpdateNorm(), "TNormGuidance"), (FullNorm(), "FullNormGuidance")]


@pytest.mark.parametrize(("transform", "formula"), FORMULAS)
def test_norms_are_their_formulas_per_image(
    transform: Transform, formula: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
) -> None:
    uncond, cond, _ = (x.double() for x in batch())
    for w in (0.2, 1.0, 7.5):
        got = Guidance(w, [transform]).start().combine(uncond, cond, STEP)
        for i in range(3):
            np.testing.assert_allclose(got[i].numpy(), formula(uncond[i].numpy(), cond[i].numpy(), w), rtol=1e-12)


@pytest.mark.parametrize(("transform", "name"), PUBLISHED)
def test_norms_are_the_published_ones_for_one_image(transform: Transform, name: str, published: Published) -> None:
    uncond, cond, _ = batch(1)
    theirs = getattr(published.module("cf_guidance.transforms"), name)({"g": [0.0, 3.0]})
    ours = Guidance(3.0, [transform]).start().combine(uncond, cond, STEP)
    torch.testing.assert_close(ours, theirs(uncond, cond, 1), rtol=1e-5, atol=1e-6)
