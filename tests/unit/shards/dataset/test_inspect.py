"""The description and the contact sheet of a data set whose content is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.inspect import contact_sheet, describe, describe_label, main
from shards.packing.options import PackOptions
from shards.packing.pack import pack_source
from shards.sources.folder import FolderConfig, FolderSource

RED, BLUE = (230, 20, 20), (20, 20, 230)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    images = tmp_path_factory.mktemp("images")
    for name, color in (("red", RED), ("blue", BLUE)):
        (images / name).mkdir()
        for number in range(15):
            Image.new("RGB", (32, 32), color).save(images / name / f"{number}.png")
    (images / "red" / "broken.png").write_bytes(b"no image")
    root = tmp_path_factory.mktemp("packed") / "colors"
    return pack_source(FolderSource(FolderConfig(images)), PackOptions(output=root, size=32, workers=1))


def test_the_description(dataset: Dataset) -> None:
    text = "\n".join(describe(dataset))
    assert f"folder, 30 images 32x32x3, jpg quality 95, fingerprint {dataset.fingerprint}" in text
    assert "2 classes: blue 15, red 15" in text
    assert "by sample, fractions val 0.1 test 0.1, seed 0" in text
    assert "Skipped inputs: 1" in text and "not an image: 1 (red/broken.png)" in text
    for split, count in (("train", 25), ("val", 3), ("test", 3)):
        line = next(line for line in describe(dataset) if line.startswith(split))
        assert abs(int(line.split()[1]) - count) <= 1


def test_label_statistics() -> None:
    degrees = np.array([1, -1, 0.5, np.nan], np.float32)
    assert describe_label(LabelField("float"), degrees) == "mean 0.167, min -1, max 1, 1 missing"
    assert describe_label(LabelField("bool"), np.array([1, 0, 0, -1], np.int8)) == "33.3% true, 1 missing"
    label = LabelField("class", tuple("abcdefg"))
    column = np.array([0, 1, 1, 2, 2, 2, 3, 4, 5, -1], np.int32)
    assert describe_label(label, column) == "7 classes: c 3, b 2, a 1, d 1, e 1, ..., 1 missing"
    assert describe_label(LabelField("float"), np.array([np.nan], np.float32)) == "no values, 1 missing"


def test_contact_sheet_shows_every_image_of_a_small_set(dataset: Dataset) -> None:
    pixels = np.asarray(contact_sheet(dataset)).astype(int)
    for color in (RED, BLUE):
        share = (np.abs(pixels - color).max(axis=2) < 12).sum()
        assert share == pytest.approx(15 * 64 * 64, rel=0.02)


def test_command_line(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(dataset.root), "--out", str(tmp_path / "sheet.png")])
    assert dataset.fingerprint in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width >= 560
