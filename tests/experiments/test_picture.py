"""PNG files that carry their cell and their batch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import ModelFacts
from cfglab.experiments.storage.png import encode, read_pixels, read_record, to_bytes

FACTS = ModelFacts(weights="0" * 64, sampler_config={"beta_start": 0.00085}, width=64, height=64, factor=4)


def test_a_picture_carries_its_cell_and_its_batch(tmp_path: Path) -> None:
    experiment = Experiment.preset("k-decay", seeds=0, prompts=["a cat — “naïve” 猫"])
    batch = [cell for _, cell in experiment.cells(FACTS)]
    pixels = np.random.default_rng(0).integers(0, 256, (len(batch), 64, 64, 3), dtype=np.uint8)
    files = encode(pixels, batch, {"torch": "2"})
    (tmp_path / "a.png").write_bytes(files[5])
    record = read_record(tmp_path / "a.png")
    assert record.cell == batch[5] == record.batch[record.index]
    assert record.batch == tuple(batch)
    assert record.versions == {"torch": "2"}
    assert (read_pixels(tmp_path / "a.png") == pixels[5]).all()
    plain = tmp_path / "plain.png"
    Image.fromarray(pixels[5]).save(plain)
    assert len(files[5]) - plain.stat().st_size < 3000  # the record is small


def test_pixels_are_clamped_and_rounded() -> None:
    pixels = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0], np.float32).reshape(1, 3, 2, 1)
    assert to_bytes(pixels).shape == (1, 2, 1, 3)
    assert to_bytes(pixels).transpose(0, 3, 1, 2).ravel().tolist() == [0, 0, 128, 191, 255, 255]


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="there is no such image"):
        read_record(path)
    path.write_text("words")
    with pytest.raises(InputError, match="is no image, or a damaged one"):
        read_record(path)
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(InputError, match="carries no cell, cfglab did not draw it"):
        read_record(path)
    experiment = Experiment.preset("k-decay", seeds=0)
    batch = [cell for _, cell in experiment.cells(FACTS)][:1]
    whole = encode(np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8), batch, {})[0]
    for length in (10, 100, 900, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.png: "):
            read_pixels(path)
