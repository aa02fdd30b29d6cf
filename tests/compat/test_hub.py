"""A model by its hub id, from a stand-in of the hub."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from min_diffusion.core import MinimalDiffusion
from tests.hub import COMMIT, serve

NOTEBOOK = """
import sys
import torch
from min_diffusion.core import MinimalDiffusion

def draw(name, *style, **options):
    generator = torch.Generator().manual_seed(7)
    model = MinimalDiffusion("someone/tiny", "cpu", torch.float32, *style, generator=generator, **options)
    model.load()
    model.generate("a b", steps=2).save(f"{sys.argv[1]}/{name}.png")

draw("november")
draw("release", "v1")
draw("precision", "fp32")
draw("better", better_vae="mse")
"""


def test_a_hub_id_is_downloaded_once_and_drawn(tiny: Path, tiny_v: Path, tmp_path: Path) -> None:
    models = {"someone/tiny": tiny, "stabilityai/sd-vae-ft-mse": tiny_v / "vae"}
    with serve(models) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        subprocess.run([sys.executable, "-c", NOTEBOOK, str(tmp_path)], env=environment, check=True)
        asked = hub.asked

    downloads = [line for line in asked if line.startswith("GET /someone/tiny/resolve/")]
    assert len(downloads) == len(set(downloads))
    assert f"GET /someone/tiny/resolve/{COMMIT}/unet/diffusion_pytorch_model.safetensors" in downloads
    assert "GET /api/models/someone/tiny/revision/v1" in asked
    assert not any("fp32" in line for line in asked)

    def local(*style: str, **options: str) -> Image.Image:
        generator = torch.Generator().manual_seed(7)
        model = MinimalDiffusion(str(tiny), "cpu", torch.float32, *style, generator=generator, **options)
        return model.generate("a b", steps=2)

    wanted = {
        "november": local(),
        "release": local("v1"),
        "precision": local("fp32"),
        "better": local(better_vae=str(tiny_v / "vae")),
    }
    for name, picture in wanted.items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), np.asarray(picture)), name
