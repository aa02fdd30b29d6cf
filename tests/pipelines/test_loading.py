"""Loading by name, and each fault as one line that names the file and the next step."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import logging as hub_logging
from safetensors.torch import save_file

from cfglab.errors import InputError, MachineError
from cfglab.pipelines import SAMPLERS, check_prompt, load, locate, weights_hash
from cfglab.pipelines.loading.load import load_without_prefix
from cfglab.pipelines.loading.model_folder import read_json
from cfglab.pipelines.loading.quiet import StableDiffusionPipeline, quiet
from cfglab.pipelines.loading.samplers import make_sampler

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def said(folder: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as error:
        load(folder, device="cpu", **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_request_of_the_hub_that_fails_prints_nothing_while_a_model_is_loaded() -> None:
    logger = hub_logging.get_logger("huggingface_hub.utils._http")
    verbosity = hub_logging.get_verbosity()
    with quiet():
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    assert hub_logging.get_verbosity() == verbosity


@pytest.mark.parametrize("dtype", ["float32", "float16", torch.bfloat16])
def test_dtype_and_sampler(tiny_folder: Path, dtype: str | torch.dtype) -> None:
    pipe = load(tiny_folder, device="cpu", dtype=dtype, sampler="dpm++2m-sde")
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {
        getattr(torch, str(dtype).removeprefix("torch."))
    }
    assert type(pipe.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipe.scheduler.config.algorithm_type == "sde-dpmsolver++"
    assert pipe.safety_checker is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_noise_schedule_and_the_prediction(tiny_v_folder: Path, name: str) -> None:
    config = json.loads((tiny_v_folder / "scheduler" / "scheduler_config.json").read_text())
    sampler = make_sampler(name, config)
    assert type(sampler).__name__ == SAMPLERS[name]
    assert (sampler.config.beta_start, sampler.config.beta_schedule) == (0.00085, "scaled_linear")
    assert sampler.config.prediction_type == "v_prediction"


def test_a_sampler_that_would_drop_what_shapes_the_noise_levels_is_refused() -> None:
    """As Playground 2.5, whose scheduler has the preconditioning of EDM."""
    edm = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0}
    with pytest.raises(InputError, match="sampler euler: it does not read sigma_data"):
        make_sampler("euler", edm)
    with pytest.raises(InputError, match="sampler ddim: it does not read snr_shift_scale"):
        make_sampler("ddim", {"_class_name": "CogVideoXDDIMScheduler", "snr_shift_scale": 3.0})


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"dtype": "float8"}, "no dtype 'float8': there are float32, float16, bfloat16"),
        ({"sampler": "eulr"}, "no sampler 'eulr': .* did you mean euler?"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"device": "cuda:7"}, "device 'cuda:7': this machine has none; use auto or cpu"),
        ({"revision": "main"}, "only hub models have revisions"),
        ({"dtype": torch.int8}, "no dtype 'int8'"),
        ({"dtype": 16}, "no dtype '16'"),
    ],
)
def test_wrong_options_are_said(tiny_folder: Path, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(tiny_folder, **{"device": "cpu", **kwargs})


def test_a_model_known_by_name_has_no_revision() -> None:
    with pytest.raises(InputError, match="revision 'main' with the model scenes: only hub models have revisions"):
        load("scenes", revision="main")


def test_unknown_models_are_said() -> None:
    assert "no model 'scens': it is no folder here; known by name: scenes, scenes-flow; did you" in said("scens")
    assert "give one of them, a folder, or a hub id" in said("./nowhere/model")
    assert "it is a int, and a path is text" in said(5)


def test_a_folder_that_is_no_pipeline(folder: Path) -> None:
    assert "is no pipeline: it is a folder without model_index.json" in said(folder / "unet")
    assert "it is a single file, not a folder" in said(folder / "model_index.json")
    (folder / "model_index.json").write_text('{"_class_name": "LTXPipeline"}')
    assert "holds a LTXPipeline, which is not yet supported: a run loads StableDiffusionPipeline, " in said(folder)
    (folder / "model_index.json").write_text("{")
    assert "model_index.json cannot be read as JSON" in said(folder)


def test_a_missing_part(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json"):  # transformers 5, 4
        (folder / "tokenizer" / name).unlink(missing_ok=True)
    assert f"{folder / 'tokenizer'} holds no vocabulary" in said(folder)
    shutil.rmtree(folder / "tokenizer")
    assert "has no tokenizer folder" in said(folder)
    (folder / "model_index.json").unlink()
    (folder / "model_index.json").mkdir()
    assert "is no pipeline" in said(folder)


def test_a_missing_description_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_json(tmp_path / "config.json")
    assert str(error.value).startswith(f"{tmp_path}/config.json cannot be read as JSON (No such file or directory);")


def test_missing_truncated_and_corrupt_weights_name_the_file(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert f"{file} is corrupt or cut off" in said(folder)
    file.write_bytes(b"")
    assert f"{file} is corrupt or cut off" in said(folder)
    file.write_bytes(b"\xff" * 4096)
    assert f"{file} is corrupt or cut off" in said(folder)
    file.unlink()
    assert f"{folder / 'unet'} holds no weights" in said(folder)


def test_weights_of_another_model(folder: Path) -> None:
    shutil.copy(folder / "vae" / WEIGHTS, folder / "unet" / WEIGHTS)
    assert f"{folder / 'unet'} lacks " in said(folder)
    (folder / "unet" / "config.json").write_text("{")
    assert f"{folder / 'unet' / 'config.json'} cannot be read as JSON" in said(folder)


def test_a_text_encoder_of_transformers_5_is_read_where_the_names_have_a_prefix(tmp_path: Path) -> None:
    newer = torch.nn.Linear(3, 2)
    save_file(newer.state_dict(), tmp_path / "model.safetensors")
    older = torch.nn.Module()
    older.text_model = torch.nn.Linear(3, 2)
    older.config = SimpleNamespace(model_type="clip_text_model")  # type: ignore[assignment]
    assert load_without_prefix(older, tmp_path)
    assert torch.equal(older.text_model.weight, newer.weight)
    assert torch.equal(older.text_model.bias, newer.bias)
    older.text_model = torch.nn.Linear(3, 2, bias=False)
    assert not load_without_prefix(older, tmp_path), "a file with other names"


def test_pickled_weights_are_refused_and_read_only_when_asked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expected = load(folder, device="cpu").unet.state_dict()
    file = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save(expected, file)
    (folder / "unet" / WEIGHTS).unlink()
    words = said(folder)
    assert f"{file} is a pickle" in words
    assert "allow_pickle=True (--allow-pickle)" in words
    capfd.readouterr()
    read = load(folder, device="cpu", allow_pickle=True).unet.state_dict()
    assert capfd.readouterr() == ("", "")
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_a_pickle_that_runs_code_does_not_run(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (folder / "ran",)

    torch.save({"weight": Evil()}, folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "unet" / WEIGHTS).unlink()
    assert "cannot be read" in said(folder, allow_pickle=True)
    assert not (folder / "ran").exists()


def test_weights_hash_follows_the_weights_and_nothing_else(
    folder: Path, tiny_folder: Path, tiny_v_folder: Path
) -> None:
    first = weights_hash(folder)
    assert len(first) == 64
    assert first == weights_hash(tiny_folder) == weights_hash(str(tiny_v_folder))
    (folder / "README.md").write_text("a card")
    assert weights_hash(folder) == first
    data = bytearray((folder / "vae" / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / "vae" / WEIGHTS).write_bytes(data)
    assert weights_hash(folder) != first
    with pytest.raises(InputError, match="holds no weights"):
        weights_hash(folder / "scheduler")


def test_a_folder_of_the_hubs_cache_is_known_by_its_commit(folder: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = folder.parent / "models--a--b" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    assert weights_hash(snapshot) == commit


def test_a_cached_hub_model_needs_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(folder / "model_index.json"))
    assert locate("somebody/something") == folder


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (OSError("Could not find the necessary `safetensors` weights in ..."), InputError, r"--allow-pickle"),
        (OSError(28, "No space left on device"), MachineError, "does not fit on the disk: it is full"),
        (OSError("cannot reach"), MachineError, "the hub cannot be reached: check the network"),
        (
            type("ConnectError", (Exception,), {"__module__": "httpx2"})(),
            MachineError,
            "the hub cannot be reached: check the network",
        ),
        (LocalEntryNotFoundError("offline"), MachineError, "the hub cannot be reached: check the network"),
        (EntryNotFoundError("404: no model_index.json"), InputError, "the hub has none .404: no model_index.json."),
    ],
)
def test_faults_of_a_download(
    fault: Exception, kind: type[Exception], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def download(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(folder / "model_index.json"))
    monkeypatch.setattr(StableDiffusionPipeline, "download", download)
    with pytest.raises(kind, match=words):
        load("somebody/something-that-is-not-cached", device="cpu")


def test_weights_in_half_precision_alone_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the hub: `diffusion_pytorch_model.fp16.safetensors`, and no file without the fp16."""
    import huggingface_hub

    for file in folder.glob("*/*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert load(folder, device="cpu", dtype="float16").unet.dtype == torch.float16

    def download(*_: Any, variant: str | None = None, **__: Any) -> str:
        if variant != "fp16":
            raise OSError("Could not find the necessary `safetensors` weights in ...")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(folder / "model_index.json"))
    monkeypatch.setattr(StableDiffusionPipeline, "download", download)
    assert load("somebody/half", device="cpu").unet.dtype == torch.float32


def test_a_prompt_longer_than_the_text_encoder(loaded: Any) -> None:
    check_prompt(loaded, "a" * 75)
    with pytest.raises(
        InputError, match=r"has 80 tokens: the text encoder reads 75, so 'bbbbb' would be lost; shorten it"
    ):
        check_prompt(loaded, "a" * 75 + "b" * 5)
    with pytest.raises(InputError, match="negative prompt 'aaa"):
        check_prompt(loaded, "a" * 76, "negative prompt")


def test_names_come_without_torch() -> None:
    code = (
        "import sys; from cfglab.pipelines import SAMPLERS, locate, weights_hash; from cfglab.guidance import Guidance;"
        "print(Guidance('7.5 | prediction_norm()')); sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "7.5 | prediction_norm()\n"), done.stderr
