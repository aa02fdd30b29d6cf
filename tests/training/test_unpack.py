"""What ships becomes checkpoints again, and those make the models that ship."""

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from cfglab.scenes import folder, twin_folder
from cfglab.scenes.classifier import SceneClassifier
from training import classifier, generator, latents, unpack
from training.__main__ import trained
from training.common import load


def test_the_package_becomes_checkpoints_that_make_its_models_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    unpack.main()
    stages = ("autoencoder", "denoiser", "denoiser-twin", "flow", "flow-twin", "classifier1", "classifier2")
    assert all(generator.finished(stage) for stage in stages)
    for stage, place in (("denoiser", folder() / "unet"), ("denoiser-twin", twin_folder())):
        shipped = UNet2DConditionModel.from_pretrained(place, torch_dtype=torch.float32).state_dict()
        found = trained(stage).unet.state_dict()
        assert all(torch.equal(found[key], value) for key, value in shipped.items())
        assert load(tmp_path / f"{stage}.pt")["step"] > 0
    for stage, place in (("flow", folder("scenes-flow") / "transformer"), ("flow-twin", twin_folder("scenes-flow"))):
        shipped = SD3Transformer2DModel.from_pretrained(place, torch_dtype=torch.float32).state_dict()
        found = trained(stage).transformer.state_dict()
        assert all(torch.equal(found[key], value) for key, value in shipped.items())
    read = CLIPTextModelWithProjection.from_pretrained(folder("scenes-flow") / "text_encoder_2", dtype=torch.float32)
    projection = trained("flow").text_2.text_projection.weight
    assert torch.equal(projection, read.text_projection.weight)
    vae = AutoencoderKL.from_pretrained(folder() / "vae", torch_dtype=torch.float32).eval()
    noise = torch.randn((1, 8, 4, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(latents.frozen(torch.device("cpu")).decode(noise), vae.decode(noise).sample)
        pixels = torch.zeros(1, 3, 128, 128)
        for number in (1, 2):
            found = classifier.trained(number)(pixels)
            assert torch.equal(found["a"], SceneClassifier.load(number).network(pixels)["a"])


def test_nothing_that_was_trained_is_written_over(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    (tmp_path / "denoiser.pt").write_bytes(b"mine")
    unpack.main()
    assert (tmp_path / "denoiser.pt").read_bytes() == b"mine"
