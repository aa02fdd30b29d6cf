"""Real layouts of transformers at a small size: Flux, SD 3, Qwen-Image and Wan."""

from typing import Any

import pytest
import torch

from cfglab.errors import InputError

from .figures import note
from .models import sample, transformer
from .test_acceptance import CLOSE, difference, guided, node, rows_counted

NETWORKS = ("Flux", "SD3", "Qwen-Image", "Wan")
SHAPES = {"Wan": (4, 3, 16, 16), "Qwen-Image": (4, 1, 16, 16)}


def drawn(name: str, model: Any, cfg: float = 1.0, sampler: str = "euler") -> torch.Tensor:
    return sample(model, cfg, sampler, shape=SHAPES.get(name, (4, 16, 16)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_transformer_with_a_plain_scale_gives_the_bits_of_an_untouched_sampler(name: str) -> None:
    model = transformer(name)
    for sampler in ("euler", "heun", "dpmpp_2m"):
        untouched = drawn(name, model, 5.0, sampler)
        assert torch.isfinite(untouched).all()
        assert torch.equal(drawn(name, guided(model, "5"), 1.0, sampler), untouched)
        note("a", f"{name}, {sampler}", 0.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_b_skipped_blocks_are_those_of_comfyuis_node(name: str) -> None:
    model = transformer(name)
    settings = {"scale": 3.0, "start_percent": 0.0, "end_percent": 1.0, "double_layers": "1", "single_layers": ""}
    oracle = drawn(name, node("nodes_slg", "SkipLayerGuidanceDiT")(model, **settings), 5.0)
    plain = drawn(name, model, 5.0)
    ours = guided(model, "5 | skip_layers(s=3, layers=1, start=0, stop=1)")
    with rows_counted(ours) as rows:
        apart = difference(drawn(name, ours), oracle)
    note("b", f"SkipLayerGuidanceDiT, {name}", apart, f"the node moves the sample by {difference(plain, oracle):.2g}")
    assert apart < CLOSE < 1e-3 < difference(plain, oracle)
    assert sum(rows) == 3 * 6


@pytest.mark.parametrize("name", ["Flux", "Wan"])
def test_b_methods_on_the_predictions_agree_on_transformers(name: str) -> None:
    model = transformer(name)
    oracle = drawn(name, node("nodes_apg", "APG")(model, eta=0.5, norm_threshold=5.0, momentum=-0.5), 5.0)
    if name == "Wan":  # the node's norm is over frames apart
        assert torch.isfinite(drawn(name, guided(model, "5 | apg()"))).all()
        return
    ours = drawn(name, guided(model, "5 | apg(as_in=comfyui, eta=0.5, norm_threshold=5, momentum=-0.5)"))
    note("b", f"APG, {name}", difference(ours, oracle))
    assert difference(ours, oracle) < CLOSE


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("Flux", "5 | sag()", r"sag\(\) in ComfyUI: it needs a perturbed pass \(BlurredSample\)"),
        ("SD3", "1 | tsg(w=2, s=1)", r"tsg\(w=2, s=1\) in ComfyUI: it needs a perturbed pass \(NoisedTimestep\)"),
        ("Flux", "5 | autoguidance(w=2, model=small)", r"it needs a perturbed pass \(WeakModelPass\)"),
    ],
)
def test_what_a_transformer_cannot_run_is_refused_by_name_before_anything_runs(
    name: str, text: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        guided(transformer(name), text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("window", ["start=0, stop=1", "start=0.99, stop=1"])
def test_a_block_that_the_network_does_not_have_is_refused_and_not_ignored(window: str) -> None:
    with pytest.raises(
        InputError, match=r"no layer 'transformer_blocks\.7' in Flux; it has 0 to 1, single.0 to single.1"
    ):
        drawn("Flux", guided(transformer("Flux"), f"5 | skip_layers(layers=7, {window})"))
