"""What a host cannot run is refused by name, before anything runs."""

import pytest

from cfglab import Guidance
from cfglab.errors import InputError
from cfglab.guidance.methods.second_prompt import SecondPrompt
from cfglab.guidance.perturbations.self_attention import IdentityAttention
from cfglab.hosts import Host


def test_what_needs_nothing_more_runs_everywhere() -> None:
    assert Host("a loop").check(Guidance("cosine(max=7.5, min=1) | apg() | rescale(strength=0.7)")) == []


@pytest.mark.parametrize(
    ("host", "text", "words"),
    [
        (Host("a loop"), "5 | pag()", r"pag\(\) in a loop: it needs a perturbed pass \(IdentityAttention\)"),
        (Host("a loop"), "5 | skip_layers(layers=7)", r"it needs a perturbed pass \(SkippedLayers\)"),
        (Host("a loop"), "5 | perp_neg(prompt=blurry)", "it needs a further prompt"),
        (Host("a loop", (SecondPrompt,), 0), "5 | perp_neg(prompt=blurry)", r"has 1 further prompts \('blurry'\)"),
        (Host("a loop", (SecondPrompt,), 1), "5", r"has 0 further prompts \(none\) and a loop was given 1"),
    ],
)
def test_what_a_host_cannot_run_is_refused_in_one_line(host: Host, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        host.check(Guidance(text))
    assert "\n" not in str(caught.value)


def test_a_host_learns_the_further_prompts_each_once_and_in_order() -> None:
    text = "5 | composed(prompt='a red hat') | perp_neg(prompt=blurry) | composed(prompt=blurry)"
    assert Host("a loop", (SecondPrompt,), 2).check(Guidance(text)) == ["a red hat", "blurry"]
    assert Host("a loop", (SecondPrompt,), None).check(Guidance(text)) == ["a red hat", "blurry"]


def test_a_pass_that_is_asked_for_in_a_window_only_is_found() -> None:
    with pytest.raises(InputError, match="SkippedLayers"):
        Host("a loop", (IdentityAttention,)).check(Guidance("5 | skip_layers(layers=7, start=0.5, stop=0.55)"))


def test_a_transform_of_strength_0_asks_for_nothing() -> None:
    assert Host("a loop").check(Guidance("5 | pag(strength=0)")) == []
