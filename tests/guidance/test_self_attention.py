"""SAG against diffusers' own pipeline of it, step by step, and against its formula."""

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import (
    CrossAttnStoreProcessor,
    StableDiffusionSAGPipeline,
)
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import SAG, Guidance, Space, parse_guidance
from cfglab.guidance.perturbations.blurred_sample import BlurredSample
from cfglab.step import Step
from tests.guidance.examples import STEP, batch, needs, passes
from tests.guidance.test_perturbed import MID, processor, rows, run, sd3, unet

__all__ = ["sd3", "unet"]  # fixtures
TIMESTEP = 500


class Theirs:
    """What diffusers' pipeline needs of itself in `sag_masking`, `pred_x0` and `pred_epsilon`."""

    sag_masking = StableDiffusionSAGPipeline.sag_masking
    pred_x0 = StableDiffusionSAGPipeline.pred_x0
    pred_epsilon = StableDiffusionSAGPipeline.pred_epsilon

    def __init__(self, unet: Any, prediction: str) -> None:
        self.unet, self.scheduler = unet, DDIMScheduler(prediction_type=prediction)

    def degraded(self, sample: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The prediction, that for the degraded sample, and that sample, as in its loop."""
        store = CrossAttnStoreProcessor()
        with processor(self.unet, MID, store), torch.no_grad():
            own = self.unet(sample, TIMESTEP, encoder_hidden_states=text).sample
        attention = store.attention_probs
        side = math.isqrt(attention.shape[1])
        clean, noise = self.pred_x0(sample, own, TIMESTEP), self.pred_epsilon(sample, own, TIMESTEP)
        bad = self.sag_masking(clean, attention, (side, side), torch.tensor(TIMESTEP), noise)
        with torch.no_grad():
            return own, self.unet(bad, TIMESTEP, encoder_hidden_states=text).sample, bad

    def step(self) -> Step:
        alpha = float(self.scheduler.alphas_cumprod[TIMESTEP].double().sqrt())
        return Step(5, 10, timestep=TIMESTEP, sigma=math.sqrt(1 - alpha**2) / alpha, alpha=alpha)


def ours(unet: Any, variation: BlurredSample, shape: tuple[int, ...] = (2, 4, 16, 16)) -> Tensor:
    sample, text = rows(shape=shape)
    with torch.no_grad(), variation.applied(unet) as module:
        return module(sample, TIMESTEP, encoder_hidden_states=text)[0]


def test_the_degraded_prediction_is_diffusers(unet: Any) -> None:
    theirs = Theirs(unet, "epsilon")
    own, bad, _ = theirs.degraded(*rows())
    got = ours(unet, BlurredSample("uncond", theirs.step(), 1.0, "epsilon"))
    torch.testing.assert_close(got, bad, rtol=1e-4, atol=1e-5)
    assert (got - own).abs().max() > 1e-3
    sample, text = rows()
    with torch.no_grad():
        torch.testing.assert_close(unet(sample, TIMESTEP, encoder_hidden_states=text).sample, own)  # as it was


def test_of_a_v_model_epsilon_is_what_is_compared(unet: Any) -> None:
    """diffusers subtracts the v of two samples; equation 16 is on epsilon."""
    theirs = Theirs(unet, "v_prediction")
    step, (sample, text) = theirs.step(), rows()
    _, v, degraded = theirs.degraded(sample, text)
    a = float(step.alpha or 0)
    n = a * float(step.sigma or 0)
    got = ours(unet, BlurredSample("uncond", step, 1.0, "v"))
    torch.testing.assert_close(n * sample + a * got, n * degraded + a * v, rtol=1e-4, atol=1e-5)
    assert (got - v).abs().max() > 1e-3


def test_a_wider_blur_and_other_proportions(unet: Any) -> None:
    step, narrow = Theirs(unet, "epsilon").step(), (2, 4, 8, 32)
    sharp, soft = (ours(unet, BlurredSample("cond", step, sigma, "epsilon"), narrow) for sigma in (1e-3, 3.0))
    torch.testing.assert_close(sharp, run(unet, shape=narrow), rtol=1e-6, atol=1e-6)  # nothing is blurred
    assert (soft - sharp).abs().max() > 1e-3


def test_pure_noise_has_no_picture_to_blur(unet: Any) -> None:
    noise = Step(0, 10, sigma=math.inf, alpha=0.0)
    torch.testing.assert_close(ours(unet, BlurredSample("cond", noise, 1.0, "epsilon")), run(unet))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_sag_is_equations_16_and_25(prediction: Space) -> None:
    u, c, x = (one.double() for one in batch())
    worse = 0.7 * u + 0.2 * x
    guide = Guidance(5, [SAG(s=0.8, space="model")]).start(prediction)
    assert guide.plan(STEP).passes == (BlurredSample("uncond", STEP, 1.0, prediction),)
    torch.testing.assert_close(
        guide.combine(u, c, STEP, x, passes(guide, STEP, worse)), u + 5 * (c - u) + 0.8 * (u - worse)
    )
    alone = Guidance(1, [SAG(s=0.8, space="model", of="cond")]).start(prediction)
    assert needs(alone, STEP) == (False, True)
    torch.testing.assert_close(alone.combine(None, c, STEP, x, passes(alone, STEP, worse)), c + 0.8 * (c - worse))
    assert needs(Guidance(1, [SAG()]).start(prediction), STEP) == (True, True)


def test_comfyuis_form_on_the_clean_picture_is_the_same() -> None:
    """nodes_sag.py: guided + s (D' - D~), D~ the clean image of the blurred sample x + D' - D_u."""
    u, c, x = (one.double() for one in batch())
    sigma = float(STEP.sigma or 0)
    d_u, d_c, soft, worse = x - sigma * u, x - sigma * c, 0.9 * x, 0.7 * u + 0.2 * x
    theirs = d_u + 5 * (d_c - d_u) + 0.5 * (soft - ((x + soft - d_u) - sigma * worse))
    ours = u + 5 * (c - u) + 0.5 * (u - worse)
    torch.testing.assert_close(x - sigma * ours, theirs)


def test_where_it_acts_and_what_it_costs(unet: Any) -> None:
    late = Guidance(2, [SAG(stop=0.4)]).start()
    assert late.plan(STEP).passes == ()
    with pytest.raises(InputError, match="what this model predicts is not known"):
        ours(unet, BlurredSample("cond", Theirs(unet, "epsilon").step(), 1.0))


def test_attention_shared_with_the_text_is_refused(sd3: Any) -> None:
    with pytest.raises(InputError, match="sag: in SD3Transformer2DModel text and image share one attention"):
        BlurredSample("cond", STEP, 1.0, "flow").applied(sd3).__enter__()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2 | sag(of=both)", "sag(of='both'): input should be 'uncond' or 'cond'"),
        ("2 | sag(sigma=0)", "sag(sigma=0): it must be above 0"),
        ("2 | sag(s=-1)", "sag(s=-1): it must be 0 or more"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
