"""Perturbed passes inside ComfyUI's own UNet, against the same change written into its modules by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.samplers
import pytest
import torch
from comfy.model_base import ModelType
from torch import Tensor

from cfglab import Guidance
from cfglab.errors import InputError
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.sparse_attention import entmax15

from .figures import note
from .models import NEGATIVE, POSITIVE, condition, patcher, sample, unet
from .test_acceptance import CLOSE, custom, difference, guided, rows_counted

FURTHER = condition(7)


@contextmanager
def changed(module: Any, name: str, forward: Any) -> Iterator[None]:
    """The module's function in another form, inside."""
    setattr(module, name, forward)
    try:
        yield
    finally:
        delattr(module, name)


class ByHand(comfy.samplers.CFGGuider):
    """`u + w (c - u) + s (c - c')`, c' the prediction of the conditions in `other`, inside `self.around`."""

    w = s = 0.0
    around: Any = None
    replaces = False

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None) -> Tensor:  # noqa: ARG002
        def run(name: str) -> Tensor:
            return comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, model_options)[0]

        uncond, cond = run("negative"), run("positive")
        with self.around():
            other = run("positive")
        if self.replaces:
            cond = other
        return uncond + self.w * (cond - uncond) + self.s * (cond - other)


def by_hand(model: Any, w: float, s: float, around: Any, replaces: bool = False) -> Tensor:
    guider = ByHand(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.w, guider.s, guider.around, guider.replaces = w, s, around, replaces
    return custom(guider)


def attentions(network: Any, part: str, name: str) -> list[Any]:
    return [module for path, module in network.named_modules() if path.startswith(part) and path.endswith(name)]


@pytest.mark.parametrize(
    ("layer", "part"),
    [("mid", "middle_block."), ("up_blocks.0", "output_blocks.0."), ("down_blocks.1.attentions.0", "input_blocks.3.")],
)
def test_seg_blurs_the_queries_of_the_layer_that_diffusers_names(layer: str, part: str) -> None:
    model = patcher(ModelType.EPS)
    blocks = attentions(model.model.diffusion_model, part, "attn1.to_q")
    if layer == "up_blocks.0":
        blocks += attentions(model.model.diffusion_model, "output_blocks.1.", "attn1.to_q")
    assert blocks

    @contextmanager
    def around() -> Iterator[None]:
        handles = [b.register_forward_hook(lambda _, __, q: q.mean(1, keepdim=True).expand_as(q)) for b in blocks]
        yield
        for handle in handles:
            handle.remove()

    oracle = by_hand(model, 5.0, 3.0, around)
    apart = difference(sample(guided(model, f"5 | seg(s=3, layers='{layer}')")), oracle)
    note("b", f"seg in {layer}, written by hand", apart)
    assert apart < CLOSE
    assert difference(sample(model, 5.0), oracle) > 100 * CLOSE


@pytest.mark.parametrize(("layer", "part"), [("mid", "middle_block."), ("down_blocks", "input_blocks.")])
def test_tpg_shuffles_the_tokens_of_the_blocks_that_diffusers_names(layer: str, part: str) -> None:
    model = patcher(ModelType.EPS)
    blocks = [
        module
        for path, module in model.model.diffusion_model.named_modules()
        if path.startswith(part) and path.split(".")[-2:-1] == ["transformer_blocks"]
    ]
    assert blocks
    step = iter(range(100))

    @contextmanager
    def around() -> Iterator[None]:
        variation = ShuffledTokens((layer,), 0, next(step))
        handles = [
            block.register_forward_pre_hook(
                lambda _, args, number=number: (args[0][:, variation.order(number, args[0])], *args[1:])
            )
            for number, block in enumerate(blocks)
        ]
        yield
        for handle in handles:
            handle.remove()

    oracle = by_hand(model, 5.0, 3.0, around)
    apart = difference(sample(guided(model, f"5 | tpg(layers={layer})")), oracle)
    note("b", f"tpg in {layer}, written by hand", apart)
    assert apart < CLOSE
    assert difference(sample(model, 5.0), oracle) > 100 * CLOSE
    assert not any(block._forward_pre_hooks for block in blocks)


def test_pladis_mixes_the_weights_of_cross_attention_in_both_predictions() -> None:
    model = patcher(ModelType.EPS)
    blocks = [
        module
        for path, module in model.model.diffusion_model.named_modules()
        if path.endswith("attn2") and not path.startswith("middle")
    ]

    def forward(module: Any) -> Any:
        def mixed(x: Tensor, context: Tensor, **_: Any) -> Tensor:
            q, k, v = (
                projection(states).unflatten(2, (module.heads, -1)).transpose(1, 2)
                for projection, states in ((module.to_q, x), (module.to_k, context), (module.to_v, context))
            )
            logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            weights = 2 * entmax15(logits) - logits.softmax(-1)
            return module.to_out((weights @ v).transpose(1, 2).flatten(2))

        return mixed

    for block in blocks:
        block.forward = forward(block)
    oracle = sample(model, 5.0)
    for block in blocks:
        del block.forward
    ours = sample(guided(model, "5 | pladis()"))
    note("b", "pladis, written by hand", difference(ours, oracle))
    assert difference(ours, oracle) < CLOSE
    assert difference(sample(model, 5.0), oracle) > 0


@contextmanager
def replaced(blocks: list[Any], forward: Callable[[Any], Any]) -> Iterator[None]:
    """Each of the blocks runs `forward(block)` in place of its own."""
    for block in blocks:
        block.forward = forward(block)
    yield
    for block in blocks:
        del block.forward


def test_nag_extrapolates_inside_every_cross_attention() -> None:
    model, negative = patcher(ModelType.EPS), FURTHER[0][0]
    guidance = Guidance("5 | nag(s=4, tau=2, alpha=0.5, prompt=blurry)")
    blocks = attentions(model.model.diffusion_model, "", "attn2")
    own = type(blocks[0]).forward

    def forward(module: Any) -> Any:
        def guided_attention(x: Tensor, context: Tensor, **_: Any) -> Tensor:
            kept, module.to_out = module.to_out, torch.nn.Identity()
            one, other = own(module, x, context), own(module, x, negative)
            module.to_out = kept
            away = 4 * one - 3 * other
            lengths = [each.abs().sum(-1, keepdim=True) for each in (away, one)]
            held = away * (2 * lengths[1] / lengths[0]).clamp(max=1)
            return kept(0.5 * held + 0.5 * one)

        return guided_attention

    oracle = by_hand(model, 5.0, 0.0, lambda: replaced(blocks, forward), replaces=True)
    ours = sample(guided(model, str(guidance), prompts=(FURTHER,)))
    note("b", "nag, written by hand", difference(ours, oracle))
    assert difference(ours, oracle) < CLOSE
    assert difference(sample(model, 5.0), oracle) > 100 * CLOSE


def test_vsf_flips_the_values_of_a_text_behind_the_own_one() -> None:
    model, negative = patcher(ModelType.EPS), FURTHER[0][0]
    blocks = attentions(model.model.diffusion_model, "", "attn2")

    def forward(module: Any) -> Any:
        def flipped(x: Tensor, context: Tensor, **_: Any) -> Tensor:
            both = torch.cat([context, negative.expand(len(context), -1, -1)], 1)
            q, k, v = (
                projection(states).unflatten(2, (module.heads, -1)).transpose(1, 2)
                for projection, states in ((module.to_q, x), (module.to_k, both), (module.to_v, both))
            )
            own = context.shape[1]
            logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            weights = torch.cat([logits[..., :own], logits[..., own:] - 0.2], -1).softmax(-1)
            values = torch.cat([v[:, :, :own], -1.7 * v[:, :, own:]], 2)
            return module.to_out((weights @ values).transpose(1, 2).flatten(2))

        return flipped

    oracle = by_hand(model, 5.0, 0.0, lambda: replaced(blocks, forward), replaces=True)
    ours = sample(guided(model, "5 | vsf(s=1.7, offset=0.2, prompt=blurry)", prompts=(FURTHER,)))
    note("b", "vsf, written by hand", difference(ours, oracle))
    assert difference(ours, oracle) < CLOSE
    assert difference(sample(model, 5.0), oracle) > 100 * CLOSE


def test_autoguidance_runs_the_second_model_under_the_same_condition() -> None:
    model, weak = patcher(ModelType.EPS), patcher(ModelType.EPS, unet(seed=5))

    class Auto(ByHand):
        def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None) -> Tensor:  # noqa: ARG002
            cond = self.conds["positive"]
            weak.pre_run()
            strong, worse = (
                comfy.samplers.calc_cond_batch(network, [cond], x, timestep, model_options)[0]
                for network in (self.inner_model, weak.model)
            )
            weak.cleanup()
            return worse + 2 * (strong - worse)

    guider = Auto(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    oracle = custom(guider)
    ours = guided(model, "1 | autoguidance(w=2, model=small)", weak=weak)
    with rows_counted(ours) as rows:
        apart = difference(sample(ours), oracle)
    note("b", "autoguidance with a second MODEL, written by hand", apart)
    assert apart < CLOSE
    assert sum(rows) == 6
    assert difference(sample(model, 1.0), oracle) > 100 * CLOSE


def test_the_second_model_is_prepared_for_a_run_and_released_also_after_an_error() -> None:
    from comfy.patcher_extension import CallbacksMP

    weak, calls = patcher(ModelType.EPS, unet(seed=5)), []
    for event in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
        weak.add_callback(event, lambda _, event=event: calls.append(event))
    ours = guided(patcher(ModelType.EPS), "1 | autoguidance(w=2, model=small)", weak=weak)
    sample(ours)
    assert [calls[0], calls[-1]] == [CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP]
    calls.clear()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    weak.model.apply_model = broken
    with pytest.raises(ZeroDivisionError):
        sample(ours)
    assert calls == [CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP]
    assert weak.model.current_patcher is None


def test_a_second_model_with_the_weights_of_the_first_is_refused() -> None:
    model, text = patcher(ModelType.EPS), "1 | autoguidance(w=2, model=small)"
    with pytest.raises(InputError, match=r"weak_model is made from the loaded checkpoint of the MODEL itself"):
        guided(model, text, weak=model.clone())
    behind = guided(model, text, weak=patcher(ModelType.EPS, unet(seed=5)))
    behind.set_additional_models("cfglab", [model.clone()])
    with pytest.raises(InputError, match=r"load another checkpoint, or a copy of the file"):
        sample(behind)


def test_two_further_prompts_are_told_apart_by_their_order() -> None:
    model, texts = patcher(ModelType.EPS), "5 | composed(prompt=a, weight=0.5) | composed(prompt=b, weight=-0.5)"
    both = sample(guided(model, texts, prompts=(FURTHER, condition(8))))
    swapped = sample(guided(model, texts, prompts=(condition(8), FURTHER)))
    same = sample(guided(model, texts, prompts=(FURTHER, FURTHER)))
    assert difference(both, swapped) > 100 * CLOSE
    assert difference(same, sample(model, 5.0)) < CLOSE


def test_a_layer_without_attention_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        InputError, match=r"no attention in layer 'up_blocks.7'; there are .*down_blocks.0.attentions.0.*mid"
    ):
        sample(guided(patcher(ModelType.EPS), "5 | pag(layers='up_blocks.7')"))


def test_a_layer_of_a_later_window_is_refused_at_the_first_step() -> None:
    model = patcher(ModelType.EPS)
    patched = guided(model, "5 | pag(layers='up_blocks.7', start=0.99, stop=1)")
    with pytest.raises(InputError, match=r"no attention in layer 'up_blocks\.7'"):
        sample(patched)
    assert not patched.model_options["transformer_options"]["cfglab"].trace.steps
    sample(guided(model, "5 | pag(start=0.99, stop=1)"))


@pytest.mark.parametrize("method", ["nag(s=5, prompt=blurry)", "vsf(s=1, prompt=blurry)"])
@pytest.mark.parametrize(
    ("further", "words"),
    [
        ([*FURTHER, *condition(8)], "2 conditions for the prompt 'blurry': it reads the tokens of one text"),
        (condition(8, start_percent=0.2, end_percent=1.0), "start_percent in the CONDITIONING of 'blurry'"),
        (condition(8, mask=torch.ones(1, 16, 16)), "mask in the CONDITIONING"),
        (condition(8, area=(8, 8, 0, 0), strength=1.5), "area and strength in the CONDITIONING"),
        ([], "an empty CONDITIONING for the prompt 'blurry'"),
    ],
)
def test_a_further_prompt_of_which_a_part_would_be_dropped_is_refused(method: str, further: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        guided(patcher(ModelType.EPS), f"5 | {method}", prompts=(further,))
    assert "\n" not in str(caught.value)
    whole = condition(8, strength=1.0, start_percent=0.0, end_percent=1.0)
    guided(patcher(ModelType.EPS), f"5 | {method}", prompts=(whole,))


def with_replaced_attention(model: Any, kind: str, *index: int) -> Any:
    """A MODEL whose attention of one block gives its negative, as a node of the IPAdapter kind replaces it."""
    from comfy.ldm.modules.attention import optimized_attention

    def negative(q: Tensor, k: Tensor, v: Tensor, extra: Any) -> Tensor:
        return -optimized_attention(q, k, v, heads=extra["n_heads"])

    patched = model.clone()
    patched.set_model_patch_replace(negative, kind, "middle", 0, *index)
    return patched


@pytest.mark.parametrize("index", [(), (0,)])
def test_nag_and_seg_act_on_an_attention_that_another_node_has_replaced(index: tuple[int, ...]) -> None:
    model = patcher(ModelType.EPS)
    other = with_replaced_attention(model, "attn2", *index)
    nothing = "5 | nag(s=1, alpha=0, prompt=blurry)"
    assert difference(sample(guided(other, nothing, prompts=(FURTHER,))), sample(other, 5.0)) < CLOSE
    assert difference(sample(model, 5.0), sample(other, 5.0)) > 100 * CLOSE
    other = with_replaced_attention(model, "attn1", *index)
    weak_blur = "5 | seg(s=3, layers=mid, sigma=0.001)"
    assert difference(sample(guided(other, weak_blur)), sample(other, 5.0)) < 100 * CLOSE
    assert difference(sample(guided(other, "5 | pag(layers=mid)")), sample(other, 5.0)) > 100 * CLOSE


@pytest.mark.parametrize(("text", "further"), [("5 | pladis()", ()), ("5 | vsf(s=1, prompt=blurry)", (FURTHER,))])
def test_a_method_that_needs_the_weights_of_a_replaced_attention_is_refused(text: str, further: Any) -> None:
    other = with_replaced_attention(patcher(ModelType.EPS), "attn2")
    with pytest.raises(InputError, match="beside a node that replaces the attention to the text"):
        sample(guided(other, text, prompts=further))


def test_a_second_model_and_autoguidance_need_each_other() -> None:
    with pytest.raises(InputError, match="weak_model is connected and no method of the guidance uses it"):
        guided(patcher(ModelType.EPS), "5 | apg()", weak=patcher(ModelType.EPS))
    with pytest.raises(InputError, match="is that of a second MODEL; connect it to weak_model"):
        guided(patcher(ModelType.EPS), "1 | autoguidance(w=2, model=small)")
