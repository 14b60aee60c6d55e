"""The share of samples with a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval
from eval.reports.parts import detection
from shards.base.errors import UserError


def is_bright(image: Image.Image) -> list[int]:
    assert image.mode == "RGB"
    return [1] if np.asarray(image).mean() > 127 else []


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes bright images for faces."""
    monkeypatch.setattr(detection, "require_detector", lambda: None)
    monkeypatch.setattr(detection, "find_faces", is_bright)


def test_gray_images_are_searched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    images = np.zeros((4, 8, 8, 1), np.uint8)
    images[0] = 255
    assert detection.share_found(images) == 0.25


def test_samples_are_searched(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setattr(detection, "version", lambda package: "1")
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[:15] = 255
    np.savez(tmp_path / "images.npz", images)
    options = {"only": ["detection"], "baselines": [], "num_samples": 20, "device": "cpu"}
    report = eval.report(f"npz:{tmp_path / 'images.npz'}", tiny_dataset, tmp_path / "out", **options)
    measure = report.runs[0].measures["faces_found_samples"]
    assert measure.value == 0.75 and measure.note.startswith("of 20 samples; ")

    def missing() -> None:
        raise UserError("no detector")

    monkeypatch.setattr(detection, "require_detector", missing)
    report = eval.report(f"npz:{tmp_path / 'images.npz'}", tiny_dataset, tmp_path / "without", **options)
    assert "pip install 'facegen[align]'" in report.runs[0].measures["faces_found_samples"].reason
