"""WebDataset shards of other programs as a source: images of any size, labels, splits, people, and what is damaged."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_images import BAD_FILES
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.tar import ShardWriter
from shards.images import alignment
from shards.images.codecs import decode
from shards.images.detector import DetectedFace
from shards.loading.reader import Reader
from shards.pack import main
from shards.packing.pack import pack
from shards.sources.webdataset import BAD_LABELS, WebdatasetConfig, WebdatasetSource

Sample = Mapping[str, bytes]
SIZES = ((40, 30), (24, 24), (17, 60), (100, 90))


def picture(number: int, extension: str = "jpg") -> bytes:
    """One color, with a size of its own."""
    buffer = io.BytesIO()
    formats = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "tiff": "TIFF"}
    Image.new("RGB", SIZES[number % len(SIZES)], (number * 10, 100, 50)).save(buffer, formats[extension])
    return buffer.getvalue()


def shard(path: Path, samples: Mapping[str, Sample]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with ShardWriter(path) as writer:
        for key, members in samples.items():
            for extension, content in members.items():
                writer.add(key, extension, content)


def faces(start: int, num: int, extension: str = "jpg") -> dict[str, Sample]:
    return {
        f"{number:04d}": {
            extension: picture(number, extension),
            "cls": str(number % 3).encode(),
            "txt": b"glad" if number % 2 else b"sad",
            "json": json.dumps({"age": number + 0.5, "person": f"p{number % 12}", "box": [1, 2]}).encode(),
        }
        for number in range(start, start + num)
    }


def source(path: Path, **options: str) -> WebdatasetSource:
    return WebdatasetSource(WebdatasetConfig(path, **options))


def keys(of: WebdatasetSource) -> list[str]:
    return [of[position].key for position in range(len(of))]


def test_images_of_all_sizes_and_formats_are_packed_with_their_labels(tmp_path: Path) -> None:
    shard(tmp_path / "in" / "faces-train-0.tar", faces(0, 8))
    shard(tmp_path / "in" / "faces-train-1.tar", faces(8, 4, "png") | faces(12, 3, "tiff"))
    shard(tmp_path / "in" / "faces-valid.tar", faces(15, 5, "gif"))
    main(["webdataset", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "20", "--workers", "1"])
    dataset = Dataset(tmp_path / "out")
    assert {split: dataset.num_samples(split) for split in dataset.splits} == {"train": 15, "val": 5}
    assert dataset.manifest.split["by"] == "partition" and dataset.manifest.identity_field == "person"
    kinds = {name: field.kind for name, field in dataset.fields.items()}
    assert kinds == {"cls": "class", "txt": "class", "age": "float", "person": "class"}
    for split in dataset.splits:
        ages, classes = dataset.labels("age", split), dataset.labels("cls", split)
        for row, data in enumerate(Reader(dataset, split).read(np.arange(dataset.num_samples(split)))):
            number = int(dataset.keys(split)[row])
            pixels = decode(data, dataset.image)
            assert pixels.shape == (20, 20, 3) and abs(int(pixels[10, 10, 0]) - number * 10) <= 4
            assert ages[row] == number + 0.5 and classes[row] == number % 3


def test_people_split_shards_without_names_of_splits(tmp_path: Path) -> None:
    shard(tmp_path / "in" / "0.tar", faces(0, 40))
    dataset = pack("webdataset", tmp_path / "in", tmp_path / "out", size=8, workers=1)
    assert dataset.manifest.split["by"] == "identity"
    people = [set(dataset.labels("person", split).tolist()) for split in dataset.splits]
    assert sum(map(len, people)) == len(set().union(*people)) == 12
    assert source(tmp_path / "in", identity_label="txt").identity_field == "txt"
    with pytest.raises(UserError, match="no label 'age' of people's names; class labels are cls, txt, person"):
        source(tmp_path / "in", identity_label="age")


def test_own_shards_are_packed_again_at_another_size(tmp_path: Path) -> None:
    first = pack("synthetic", tmp_path / "64", num=30, num_identities=30, size=64, workers=1)
    second = pack("webdataset", tmp_path / "64", tmp_path / "16", size=16, workers=1)
    assert second.image.width == 16 and second.splits == first.splits
    for split in first.splits:
        order = [first.keys(split).index(key) for key in second.keys(split)]
        assert sorted(order) == list(range(first.num_samples(split)))
        assert second.labels("Smiling", split).tolist() == first.labels("Smiling", split)[order].tolist()


def test_damaged_images_and_labels_are_skipped_and_counted(tmp_path: Path) -> None:
    bad = {
        name.replace(".", "_"): {name.rsplit(".", 1)[1]: content, "cls": b"1"} for name, content in BAD_FILES.items()
    }
    broken = {"broken": {"jpg": picture(1), "json": b"{broken"}, "latin": {"jpg": picture(1), "txt": b"\xff"}}
    others = {"nothing": {"npy": b"123"}, "mask": {"jpg": picture(1), "mask.png": picture(2, "png")}}
    shard(tmp_path / "in.tar", faces(0, 20) | bad | broken | others)
    dataset = pack("webdataset", tmp_path / "in.tar", tmp_path / "out", size=8, workers=1, max_skipped_fraction=0.5)
    assert sum(map(dataset.num_samples, dataset.splits)) == 21
    skipped = dataset.manifest.provenance["skipped"]
    assert skipped["num"] == len(BAD_FILES) + 2 and skipped["reasons"][BAD_LABELS]["first"] == ["broken", "latin"]
    notes = dataset.manifest.provenance["input"]["notes"]
    assert "1 samples hold no image and are left out: nothing" in notes
    assert "1 samples hold several images, of which the first is taken (see --image): mask" in notes
    assert "Label 'box' holds lists or objects and was left out." in notes


def test_one_of_several_images(tmp_path: Path) -> None:
    both = {f"{n}": {"left.png": picture(n, "png"), "right.png": picture(n + 1, "png")} for n in range(3)}
    shard(tmp_path / "in.tar", both)
    of = source(tmp_path / "in.tar", image="right.png")
    assert [of.load(of[p]).getpixel((0, 0))[0] for p in range(3)] == [10, 20, 30]
    assert of.provenance["notes"] == []
    with pytest.raises(UserError, match="no sample in .* holds an image .face.png"):
        source(tmp_path / "in.tar", image="face.png")


def test_folders_patterns_and_braces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        shard(tmp_path / "in" / f"part{number % 2}" / f"{number}.tar", faces(number, 1))
    (tmp_path / "in" / ".hidden.tar").write_bytes(b"resource fork")
    monkeypatch.chdir(tmp_path)
    everything = ["0000", "0002", "0001", "0003"]
    for given in ("in", "in/part?/*.tar", "in/**/*.tar", "in/part{0..1}", "in/part{0/{0,2},1/{1,3}}.tar"):
        assert keys(source(Path(given))) == everything, given
    assert keys(source(Path("in/part1/3.tar"))) == ["0003"]
    assert keys(source(tmp_path / "in" / "part{0..1}" / "*.tar")) == everything


def test_keys_that_shards_repeat_get_the_shards_name(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a"):
        shard(tmp_path / f"{name}.tar", faces(0, 1))
    of = source(tmp_path)
    assert keys(of) == ["test/a/0000", "train/a/0000", "train/b/0000"]
    assert [of[position].partition for position in range(3)] == ["test", "train", "train"]


def test_faces_are_aligned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "in.tar", {f"{number}": {"png": picture(number, "png")} for number in range(12)})
    points = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]])
    found = [DetectedFace(np.array([0, 0, 1, 1.0]), points * 20, 0.9)]
    # The face is missing in the tall pictures.
    monkeypatch.setattr(alignment, "find_faces", lambda image: found if image.height < 60 else [])
    monkeypatch.setattr("shards.packing.pack.require_detector", lambda: None)
    options = {"size": 16, "align": "lfw", "workers": 1, "max_skipped_fraction": 0.5}
    dataset = pack("webdataset", tmp_path / "in.tar", tmp_path / "out", **options)
    assert dataset.manifest.provenance["options"]["align"]["template"] == "lfw"
    assert sum(map(dataset.num_samples, dataset.splits)) == 6
    assert dataset.manifest.provenance["skipped"]["reasons"][alignment.NO_FACE]["num"] == 6


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file or folder .*nowhere"):
        source(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no .*tar shards at "):
        source(tmp_path)
    with pytest.raises(UserError, match="no .*tar shards at .*x-.*tar"):
        source(tmp_path / "x-*.tar")
    with pytest.raises(UserError, match="braces .* are not closed"):
        source(tmp_path / "x-{0..3.tar")
    shard(tmp_path / "x-0.tar", faces(0, 1))
    with pytest.raises(UserError, match="there is no file or folder .*x-1.tar"):
        source(tmp_path / "x-{0..9}.tar")
    with pytest.raises(UserError, match="0..99999999 in .* names too many shards; give the folder"):
        source(tmp_path / "x-{0..99999999}.tar")
    with ShardWriter(tmp_path / "apart.tar") as writer:
        for key, extension in (("a", "png"), ("b", "png"), ("a", "cls")):
            writer.add(key, extension, picture(1, "png"))
    with pytest.raises(UserError, match="the files of sample 'a' are not consecutive"):
        source(tmp_path / "apart.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "apart.tar").read_bytes()[:1000])
    with pytest.raises(UserError, match="cut.tar is truncated or not a tar file"):
        source(tmp_path / "cut.tar")
