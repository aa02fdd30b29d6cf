"""The JSON files of a model's folder: whatever stands in them is refused in one line, or is a model; nothing is built
from it first, and nothing that it names is imported or asked for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cfglab.cli import call
from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.experiments.spec.models import model_facts
from cfglab.pipelines import load

CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "index": "model_index.json",
}
INFINITY = "1e999"  # as it may stand in a JSON file
ODD: list[object] = [
    *(20_000, 10**6, 10**12, 10**40, 0, -1, -20_000, 1.5, True, None, "4", "", "a" * 200, "\x1b[2J"),
    *([], {}, [[]], [1, 2], [None], ["4"], [10**6] * 4, [4] * 1_000, {"a": {"a": {}}}, [-1, 4]),
    *(float("inf"), float("-inf"), float("nan"), [float("inf")]),
]


@pytest.fixture
def spoil(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`spoil("unet", sample_size=20_000)`: the tiny model with other values in that configuration."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_folder, copy)

    def changed(part: str, **values: Any) -> Path:
        content = json.loads((tiny_folder / CONFIGS[part]).read_text())
        (copy / CONFIGS[part]).write_text(json.dumps({**content, **values}))
        return copy

    return changed


def fields() -> list[tuple[str, str]]:
    """Every field that is bounded, and some that are not known."""
    from cfglab.pipelines.loading import configuration as c

    parts = {"unet": c.UNet, "vae": c.Autoencoder, "text_encoder": c.TextEncoder, "scheduler": c.Scheduler}
    found = [(part, name) for part, model in parts.items() for name in model.model_fields]  # type: ignore[attr-defined]
    return [*found, ("index", "unet"), ("index", "scheduler"), ("index", "_class_name"), ("unet", "unknown")]


def test_any_value_of_any_field_is_a_model_or_one_line(spoil: Callable[..., Path], tiny_folder: Path) -> None:
    """Facts are read without building anything, so that thousands of values can be tried."""
    from cfglab.pipelines.loading.configuration import read_configuration, read_parts

    bad = []
    names = fields()
    for part, name in names:
        for value in ODD:
            folder = spoil(part, **{name: value})
            try:
                read_parts(folder)
                facts = read_configuration(folder)
            except CfglabError as error:
                line = str(error)
                if "\n" in line or "\x1b" in line or str(folder) not in line or len(line) > 1_000:
                    bad.append((part, name, value, line))
            except Exception as error:
                bad.append((part, name, value, repr(error)))
            else:
                if not 1 <= facts.width <= 1024 * facts.factor or not 1 <= facts.factor <= 128:
                    bad.append((part, name, value, str(facts)))
        shutil.copy(tiny_folder / CONFIGS[part], folder / CONFIGS[part])
    assert bad == []
    assert len(names) > 40


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("unet", {"sample_size": 20_000}, "sample_size 20000: input should be less than or equal to 1024"),
        ("unet", {"layers_per_block": 1_000_000}, "layers_per_block 1000000"),
        ("unet", {"transformer_layers_per_block": 64}, "its blocks have 128 layers"),
        ("unet", {"block_out_channels": 32}, "block_out_channels 32"),
        ("unet", {"block_out_channels": [-16, 32]}, "block_out_channels [-16, 32]"),
        ("unet", {"block_out_channels": [16]}, "down_block_types has 2 entries and block_out_channels 1"),
        ("unet", {"block_out_channels": [8192, 16384]}, "describes a network of"),
        ("unet", {"num_class_embeds": 16_384, "time_embedding_dim": 16_384}, "describes a network of"),
        ("unet", {"norm_num_groups": 7}, "cannot be read as a Stable Diffusion pipeline"),
        ("unet", {"act_fn": "nope"}, "cannot be read as a Stable Diffusion pipeline"),
        ("unet", {"act_fn": {"a": [1]}}, "cannot be read as a Stable Diffusion pipeline"),
        ("unet", {"down_block_types": ["os", "system"]}, "cannot be read as a Stable Diffusion pipeline"),
        ("unet", {"in_channels": 9}, "the UNet reads 9 channels and the VAE makes 4"),
        ("unet", {"cross_attention_dim": 768}, "the UNet reads texts of 768 numbers a token"),
        ("vae", {"block_out_channels": 4}, "block_out_channels 4"),
        ("vae", {"layers_per_block": 64}, "its blocks have 256 layers"),
        ("vae", {"scaling_factor": 0}, "scaling_factor 0"),
        ("text_encoder", {"num_hidden_layers": 1_000_000}, "num_hidden_layers 1000000"),
        ("text_encoder", {"num_hidden_layers": 64, "intermediate_size": 131_072}, "describes a network of"),
        ("text_encoder", {"vocab_size": 1_000_000}, "describes a network of"),
        ("scheduler", {"num_train_timesteps": 10**9}, "num_train_timesteps 1000000000"),
        ("scheduler", {"beta_schedule": "nope"}, "scheduler"),
        ("scheduler", {"prediction_type": "nope"}, "prediction_type 'nope'"),
        ("scheduler", {"timestep_spacing": "nope"}, "timestep_spacing 'nope'"),
        ("index", {"scheduler": ["antigravity", "Scheduler"]}, "a scheduler of diffusers is read"),
        ("index", {"scheduler": ["diffusers", "pipelines"]}, "a scheduler of diffusers is read"),
        ("index", {"scheduler": ["diffusers", "NopeScheduler"]}, "scheduler is diffusers 'NopeScheduler'"),
        ("index", {"tokenizer": ["os", "system"]}, "transformers CLIPTokenizer"),
        ("index", {"unet": ["tests.oracles", "UNet2DConditionModel"]}, "diffusers UNet2DConditionModel"),
        ("index", {"vae": [None, None]}, "vae [None, None]"),
        ("index", {"_class_name": ["custom", "StableDiffusionPipeline"]}, "which is not yet supported"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_configuration_that_is_none_is_refused_before_it_costs_anything(
    part: str, values: dict[str, Any], words: str, spoil: Callable[..., Path]
) -> None:
    folder = spoil(part, **values)
    with pytest.raises(InputError) as error:
        load(folder, device="cpu", sampler="euler")
    assert words in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("part", CONFIGS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "5",
        '"a"',
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 5_000 + "}",
        "\ufeff{}",
        "\0",
    ],
    ids=lambda text: text[:8] or "empty",
)
def test_a_file_that_is_no_configuration_is_named(part: str, text: str, spoil: Callable[..., Path]) -> None:
    folder = spoil(part)
    (folder / CONFIGS[part]).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(folder, device="cpu")
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_in_a_configuration_is_no_part_of_it(spoil: Callable[..., Path]) -> None:
    folder = spoil("unet")
    file = folder / CONFIGS["unet"]
    expected = model_facts(str(folder))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert model_facts(str(folder)) == expected


def test_usual_configurations_are_within_the_bounds(spoil: Callable[..., Path]) -> None:
    """Those of Stable Diffusion 1.5, 2.1 and Openjourney, as their folders have them."""
    from cfglab.pipelines.loading import configuration as c

    c.UNet.model_validate(
        {
            **{"sample_size": 96, "in_channels": 4, "block_out_channels": [320, 640, 1280, 1280]},
            **{"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True},
            **{"num_class_embeds": None, "layers_per_block": 2, "mid_block_type": "UNetMidBlock2DCrossAttn"},
        }
    )
    c.Autoencoder.model_validate({"sample_size": 768, "block_out_channels": [128, 256, 512, 512], "force_upcast": 1})
    c.TextEncoder.model_validate({"vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096})
    c.Scheduler.model_validate({"beta_start": 0.00085, "beta_end": 0.012, "trained_betas": None, "steps_offset": 1})
    rectangular = spoil("unet", sample_size=[16, 24])
    assert (model_facts(str(rectangular)).width, model_facts(str(rectangular)).height) == (192, 128)


# -- memory ----------------------------------------------------------------------------------------------------------

NO_MEMORY: list[Exception] = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried …"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("std::bad_alloc"),
]


def failing(fault: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise fault

    return fail


@pytest.mark.parametrize("fault", NO_MEMORY, ids=lambda fault: f"{type(fault).__name__} {fault}"[:30])
@pytest.mark.parametrize(
    "where",
    [
        "diffusers.UNet2DConditionModel.from_pretrained",
        "transformers.CLIPTextModel.from_pretrained",
        "safetensors.safe_open",
        "cfglab.pipelines.loading.quiet.StableDiffusionPipeline.to",
    ],
)
def test_too_little_memory_is_said_as_such(
    fault: Exception, where: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, failing(fault))
    with pytest.raises(MachineError, match=r"memory|does not fit on"):
        load(tiny_folder, device="cpu")


@pytest.mark.parametrize(
    "fault", [*NO_MEMORY, ImportError("libtorch.so: failed to map segment: Cannot allocate memory")], ids=str
)
def test_too_little_memory_anywhere_is_no_fault_of_cfglab(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cfglab.experiments.Run.compare", failing(fault))
    assert call(["compare", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("cfglab: out of memory (")
