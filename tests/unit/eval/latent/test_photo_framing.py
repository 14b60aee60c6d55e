"""Photos and data sets are framed as the training images are, or a sentence says that they are not."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.attributes import main
from eval.latent import photo, photo_framing
from eval.latent.attribute_vectors import save_attributes, split_attributes
from eval.latent.faces import choose_faces
from eval.latent.options import FaceOptions, open_data
from eval.latent.origin import Origin
from eval.latent.photo_framing import photo_alignment
from eval.studio.studio import Studio
from facegen.model import Model, load
from facegen.runs.snapshot import DESCRIPTION, find_snapshot, read_description
from shards.base.errors import Note, UserError
from shards.dataset.dataset import Dataset
from shards.images.alignment import Alignment
from shards.packing.framing import Framing
from shards.sources.lfw import LFWCROP_BOX
from tiny_runs import untrained_run

LFW = Framing("lfw", LFWCROP_BOX)
FACENET = Framing("folder", "center", Alignment("facenet", 0.1375))


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("runs") / "vae", tiny_dataset)


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed detector; photos are not searched by it."""
    monkeypatch.setattr(photo_framing, "require_detector", lambda: None)


def trained_on(run: Path, framing: Framing | None) -> Model:
    model = load(run)
    model.framing = framing
    return model


def test_a_run_records_how_its_data_frame_faces(run: Path, tmp_path: Path) -> None:
    assert load(run).framing == Framing("synthetic", "center")
    content = json.loads((find_snapshot(run) / DESCRIPTION).read_text())
    assert content.pop("framing") == asdict(Framing("synthetic", "center"))
    # Snapshots of older versions do not say.
    (tmp_path / DESCRIPTION).write_text(json.dumps(content | {"format_version": 3}))
    assert read_description(tmp_path).framing is None


def test_photos_are_aligned_as_the_training_images_are(run: Path) -> None:
    with warnings.catch_warnings(action="error"):
        assert photo_alignment(trained_on(run, LFW), "auto") == Alignment("lfw", 0.0, "largest", "crop")
        assert photo_alignment(trained_on(run, FACENET), "auto") == Alignment("facenet", 0.1375, "largest", "crop")
        assert photo_alignment(trained_on(run, LFW), "none") is None
        assert photo_alignment(trained_on(run, LFW), "lfw") == Alignment("lfw", 0.0, "largest")
        for without in (None, Framing("synthetic", "center")):
            assert photo_alignment(trained_on(run, without), "auto") is None


@pytest.mark.parametrize(
    ("trained", "align", "sentence"),
    [
        (LFW, "celeba", "vae was trained on lfw cropped to 83,92,167,176; photos are aligned as celeba"),
        (
            FACENET,
            "facenet",
            "trained on folder aligned as facenet with the margin 0.1375; photos are aligned as facenet",
        ),
        (
            Framing("utkface", (0.2, 0.2, 0.8, 0.8)),
            "auto",
            "utkface cropped to 0.2,0.2,0.8,0.8; frame photos alike with",
        ),
    ],
)
def test_another_framing_of_photos_is_noted(run: Path, trained: Framing, align: str, sentence: str) -> None:
    with pytest.warns(Note, match=re.escape(sentence)):
        photo_alignment(trained_on(run, trained), align)


def test_without_the_extra_photos_are_cropped(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise UserError("alignment needs more packages: pip install 'facegen[align]'")

    monkeypatch.setattr(photo_framing, "require_detector", missing)
    with pytest.warns(Note, match="photos are only cropped: .*pip install 'facegen.align.'"):
        assert photo_alignment(trained_on(run, LFW), "auto") is None
    with pytest.raises(UserError, match="pip install"):
        photo_alignment(trained_on(run, LFW), "lfw")


def test_a_command_aligns_by_default_and_can_be_told_not_to(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    image.save(tmp_path / "photo.png")
    asked: list[Alignment] = []

    def prepare_aligned(image: Image.Image, preparation: object, alignment: Alignment) -> tuple[np.ndarray, bool, bool]:
        asked.append(alignment)
        return np.zeros((16, 16, 3), np.uint8), False, len(asked) == 1

    monkeypatch.setattr(photo, "prepare_aligned", prepare_aligned)
    model, images = trained_on(run, LFW), [str(tmp_path / "photo.png")]
    choose_faces(FaceOptions(images=images), model)
    assert asked == [Alignment("lfw", 0.0, "largest", "crop")]
    with pytest.warns(Note, match="no upright face was found in photo .*photo.png; it is only cropped"):
        choose_faces(FaceOptions(images=images), model)
    for options in (FaceOptions(images=images, align="none"), FaceOptions(images=images, crop="0,0,20,20")):
        choose_faces(options, model)
    assert len(asked) == 2


def test_a_data_set_of_another_framing_is_noted(run: Path, tiny_dataset: Path) -> None:
    with warnings.catch_warnings(action="error"):
        open_data(str(tiny_dataset), load(run))
    with pytest.warns(
        Note, match="vae was trained on lfw .* holds synthetic cropped at the center, where faces lie else"
    ):
        open_data(str(tiny_dataset), trained_on(run, LFW))
    assert Framing.of(Dataset(tiny_dataset).manifest) == Framing("synthetic", "center")


def test_attributes_fitted_on_another_framing_are_noted(run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "attributes.safetensors")
    model, dataset = load(run), Dataset(tiny_dataset)
    attributes = split_attributes(model, dataset, "train")
    save_attributes(path, attributes, Origin.of(model, dataset, "train"))
    options = ["--run", str(run), "--attribute", attributes.names[0], "--data", str(tiny_dataset), "--num", "2"]
    apply = ["apply", path, *options, "--out", str(tmp_path / "grid.png")]
    with warnings.catch_warnings(action="error"):
        main(apply)
        assert not Studio([str(run)], attributes=[path]).notes
    save_attributes(path, attributes, replace(Origin.of(model, dataset, "train"), framing=LFW))
    sentence = "attributes.safetensors was fitted on lfw cropped to .*, and vae was trained on synthetic cropped"
    with pytest.warns(Note, match=sentence):
        main(apply)
    (note,) = Studio([str(run)], attributes=[path]).notes
    assert re.search(sentence, note)
