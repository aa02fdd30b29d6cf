"""The three norms against their formulas in float64 and the published package."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cfglab.guidance import FullNorm, Guidance, PredictionNorm, Transform, UpdateNorm
from tests.guidance.examples import STEP, batch, needs
from tests.oracles import Published


def test_transforms_are_skipped_where_guidance_is_off() -> None:
    uncond, cond, _ = batch()
    guide = Guidance("cosine(max=7.5, min=1).inside(progress=(0.5, 1))", [PredictionNorm()]).start()
    assert needs(guide, STEP) == (False, True)
    assert guide.combine(None, cond, STEP) is cond
    assert guide.combine(uncond, cond, STEP) is cond


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
