"""Judges on small models of the same files, against the formulas written out; and what is said where one is missing."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, Dinov2Config, Dinov2Model

from cfglab.errors import InputError
from cfglab.integrations.metric_models import metric_models_of
from tests.tiny import tokenizer

SIDE = 32
SEED = 7
PROMPTS = ["a photograph of a cat", "a photograph of a dog", "a photograph of an astronaut riding a horse"]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    words = tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": len(words), "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    torch.manual_seed(SEED)
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": SIDE, "patch_size": 8})
    config.projection_dim = 3  # so that the cosines spread, and one is below 0
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8)
    Dinov2Model(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return folder


def prepared(pixels: np.ndarray) -> torch.Tensor:
    """Resized with bicubic filtering and standardised, by Pillow and hand."""
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    small = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in pixels]
    return torch.tensor(((np.stack(small) / 255 - mean) / deviation).transpose(0, 3, 1, 2), dtype=torch.float32)


@torch.no_grad()
def cosines(folder: Path, pixels: np.ndarray) -> torch.Tensor:
    model = CLIPModel.from_pretrained(folder)
    words = tokenizer()(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    seen = model.visual_projection(model.vision_model(prepared(pixels)).pooler_output)
    read = model.text_projection(model.text_model(**words).pooler_output)
    return torch.nn.functional.cosine_similarity(seen, read)


def test_clip_score_is_a_hundred_cosines_not_below_zero(clip: Path, pixels: np.ndarray) -> None:
    (judge,) = metric_models_of(["clip_score"], str(clip), "cpu")
    expected = cosines(clip, pixels)
    found = judge.scores(pixels, PROMPTS)  # type: ignore[union-attr]
    assert found == pytest.approx((100 * expected.clamp(min=0)).tolist(), abs=1e-3)
    assert min(expected) < 0 < max(expected)


def test_pick_score_is_the_scaled_cosine(clip: Path, pixels: np.ndarray) -> None:
    (judge,) = metric_models_of(["pick_score"], str(clip), "cpu")
    scale = CLIPModel.from_pretrained(clip).logit_scale.detach().exp().item()
    assert scale == pytest.approx(1 / 0.07, rel=1e-3)
    assert judge.scores(pixels, PROMPTS) == pytest.approx((scale * cosines(clip, pixels)).tolist(), abs=1e-3)  # type: ignore[union-attr]


@torch.no_grad()
def test_dinov2_gives_its_class_token(dinov2: Path, pixels: np.ndarray) -> None:
    (judge,) = metric_models_of(["fd_dinov2", "kid_dinov2"], str(dinov2), "cpu")
    expected = Dinov2Model.from_pretrained(dinov2)(prepared(pixels)).pooler_output
    found = judge.features(pixels)  # type: ignore[union-attr]
    assert found.shape == (3, 16)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def package(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A stand-in for a package that is not installed."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), ModuleType(".".join(parts[:depth])))
    for member, value in members.items():
        setattr(sys.modules[name], member, value)


def test_inception_is_torch_fidelitys_and_unpickles_nothing(
    monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray
) -> None:
    class Extractor(torch.nn.Module):
        def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str | None) -> None:
            super().__init__()
            assert (name, layers, feature_extractor_weights_path) == ("inception", ["2048"], None)
            assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean(dim=(2, 3)),)

    package(monkeypatch, "torch_fidelity.feature_extractor_inceptionv3", FeatureExtractorInceptionV3=Extractor)
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    (judge,) = metric_models_of(["fid_inception"], device="cpu")
    np.testing.assert_allclose(judge.features(pixels), pixels.mean(axis=(1, 2)), rtol=1e-5)  # type: ignore[union-attr]
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_torch_is_forced_to_refuse_is_refused(tmp_path: Path) -> None:
    from cfglab.integrations.metric_models.weights import tensors_only

    file = tmp_path / "weights.pth"
    torch.save({"function": print}, file)
    with tensors_only(), pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file, weights_only=False)


def test_image_reward_is_its_authors(monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray) -> None:
    def load(name: str, device: str) -> Any:
        assert (name, device) == ("ImageReward-v1.0", "cpu")
        return SimpleNamespace(score=lambda prompt, image: len(prompt) + np.asarray(image).mean())

    package(monkeypatch, "ImageReward", load=load)
    (judge,) = metric_models_of(["image_reward"], device="cpu")
    expected = [len(prompt) + one.mean() for prompt, one in zip(PROMPTS, pixels, strict=True)]
    assert judge.scores(pixels, PROMPTS) == pytest.approx(expected)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("fid_inception", r"^fid_inception needs torch-fidelity.*pip install 'cfglab\[metrics\]'$"),
        ("image_reward", r"^image_reward: its package cannot be imported .*pip install image-reward 'git\+.*<4.56'$"),
    ],
)
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, metric: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "ImageReward", None)
    with pytest.raises(InputError, match=said):
        metric_models_of([metric], device="cpu")


@pytest.mark.parametrize("metric", ["clip_score", "pick_score", "kid_dinov2"])
def test_weights_that_are_not_there_are_one_line(tmp_path: Path, metric: str) -> None:
    with pytest.raises(InputError, match=r"cannot be loaded \(.*hf download .*--weights FOLDER\.$") as said:
        metric_models_of([metric], str(tmp_path), "cpu")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["clip_scor"], "metric 'clip_scor': .*clip_score"),
        (["alignment"], "metric 'alignment': every run of scenes has it; score with clip_score"),
        (["clip_score", "pick_score"], "--weights x: of one metric model, and 2 are asked for"),
    ],
)
def test_what_cannot_be_asked_for_is_said(metrics: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        metric_models_of(metrics, "x", "cpu")
