"""A guidance in the options of stable-diffusion.cpp, against its own `guidance.cpp` where a build of it is named."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cfglab as cl
from cfglab.errors import InputError
from cfglab.guidance.sd_cpp import to_sd_cpp_arguments, to_sd_cpp_request

STEPS = 4


def predictions() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    pairs = torch.randn(STEPS, 2, 1, 2, 3, 3, generator=generator, dtype=torch.float64)
    return [(pair[0], pair[1]) for pair in pairs]


def theirs(extra: str, scale: float) -> list[Tensor]:
    """What stable-diffusion.cpp's own schedule, CFG and APG make of these predictions.

    SD_CPP_DRIVER is a program of a few lines around its guidance.cpp: arguments, scale, steps and size on the command
    line, then the conditional and the unconditional prediction of each step on standard input.
    """
    driver = os.environ.get("SD_CPP_DRIVER")
    if not driver:
        pytest.skip("SD_CPP_DRIVER=/path/to/driver runs this against its own source")
    numbers = "\n".join(" ".join(map(str, tensor.flatten().tolist())) for pair in predictions() for tensor in pair)
    command = [str(Path(driver)), extra, str(scale), str(STEPS), "18"]
    output = subprocess.run(command, input=numbers, capture_output=True, text=True, check=True).stdout
    return [torch.tensor([float(n) for n in line.split()]).reshape(1, 2, 3, 3) for line in output.splitlines()]


def formula(extra: str, scale: float) -> list[Tensor]:
    """The same, written out: schedule from the last step backwards; APG in what the network predicts."""
    fields = dict(part.split("=", 1) for part in extra.split(",")) if extra else {}
    scales = [scale] * STEPS
    if text := fields.get("guidance_schedule"):
        scales = [float(w) for part in text.split("+") for w, n in [part.split("x")] for _ in range(int(n))][::-1]
    buffer, outputs = torch.zeros(1, 2, 3, 3, dtype=torch.float64), []
    for (cond, uncond), w in zip(predictions(), scales, strict=True):
        if "apg_eta" not in fields:
            outputs.append(uncond + w * (cond - uncond))
            continue
        buffer = cond - uncond + float(fields["apg_momentum"]) * buffer
        step, limit = buffer, float(fields.get("apg_norm_threshold", 0))
        if limit:
            share, soft = (
                limit / (float(step.norm()) * 256 / 18**0.5),
                float(fields.get("apg_norm_threshold_smoothing", 0)),
            )
            step = step * (min(1.0, share) if soft <= 0 else share / (1 + share ** (1 / soft)) ** soft)
        along = cond * ((step * cond).sum() / (cond * cond).sum())
        outputs.append(cond + (scale - 1) * (step + (float(fields["apg_eta"]) - 1) * along))
    return outputs


@pytest.mark.parametrize("source", [theirs, formula])
@pytest.mark.parametrize(
    "text",
    [
        "6",
        "linear(max=8, min=2)",
        "constant(5).inside(steps=(1, 3))",
        "6 | apg(space=model)",
        "6 | apg(space=model, eta=0.3, momentum=-0.7, norm_threshold=2)",
        "6 | apg(space=model, eta=1, momentum=0.5)",
        "6 | apg(space=model, eta=0.3, momentum=0, norm_threshold=2, smoothing=0.4)",
    ],
)
def test_its_options_mean_the_same_guidance(text: str, source: object) -> None:
    assert callable(source)
    words = to_sd_cpp_arguments(text, STEPS, latents=(2, 3, 3))
    options = dict(zip(words[::2], words[1::2], strict=True))
    outputs = source(options.get("--extra-sample-args", ""), float(options["--cfg-scale"]))
    guide = cl.Guidance(text).start("model")
    for step, (cond, uncond), output in zip(cl.steps(STEPS), predictions(), outputs, strict=True):
        torch.testing.assert_close(guide.combine(uncond, cond, step), output.double(), rtol=2e-5, atol=2e-5)


def test_a_schedule_that_starts_without_guidance_still_encodes_the_negative_prompt() -> None:
    words = to_sd_cpp_arguments("constant(5).inside(steps=(2, 4))", STEPS)
    assert words[:2] == ["--cfg-scale", "5"]
    assert words[-1] == "guidance_schedule=5x2+1x2"


def test_two_experts_have_the_parts_of_one_schedule() -> None:
    request = to_sd_cpp_request([5, 5, 4, 3, 2], 5, high_noise_steps=2)
    assert request == {
        "sample_params": {
            "sample_steps": 3,
            "guidance": {"txt_cfg": 4.0},
            "extra_sample_args": "guidance_schedule=2x1+3x1+4x1",
        },
        "high_noise_sample_params": {"sample_steps": 2, "guidance": {"txt_cfg": 5.0}},
    }
    both = to_sd_cpp_request("5 | apg(space=model, momentum=0)", 8, high_noise_steps=3)
    assert both["high_noise_sample_params"]["extra_sample_args"] == both["sample_params"]["extra_sample_args"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linear(max=8, min=2) | apg(space=model)", "ignores its guidance_schedule"),
        ("6 | apg()", r"write apg\(space=model\)"),
        ("6 | apg(space=model, as_in=diffusers)", "projects what the network predicts"),
        ("6 | rescale(strength=0.7)", "has APG alone"),
        ("6 | apg(space=model, strength=0.5)", "at full strength"),
        ("6 | apg(space=model, norm_threshold=15)", "give latents"),
    ],
)
def test_what_it_cannot_do_is_one_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        to_sd_cpp_arguments(text, STEPS)
    assert "\n" not in str(caught.value)


def test_experts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="one step at least"):
        to_sd_cpp_request(5, 4, high_noise_steps=4)
    with pytest.raises(InputError, match="begin anew"):
        to_sd_cpp_request("5 | apg(space=model)", 4, high_noise_steps=2)
