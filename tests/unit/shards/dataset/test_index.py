"""Indexing foreign shards, restoring own ones, and verification."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save

from shards.base.errors import UserError
from shards.base.progress import ProgressLine
from shards.dataset.dataset import Dataset
from shards.images.codecs import decode
from shards.images.contents import split_of_name
from shards.index import index, main, verify
from shards.loading.reader import Reader
from shards.packing.options import PackOptions
from shards.packing.pack import pack_source
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource


def image_bytes(color: tuple[int, int, int] | int, extension: str = "jpg", size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    mode = "L" if isinstance(color, int) else "RGB"
    formats = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}
    Image.new(mode, size, color).save(buffer, formats[extension], **({"quality": 95} if extension != "png" else {}))
    return buffer.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def foreign_shard(path: Path, num: int = 4, start: int = 0, extension: str = "jpg") -> None:
    members = []
    for number in range(start, start + num):
        labels: dict[str, Any] = {
            "smile": number % 2 == 0,
            "age": number + 0.5,
            "name": f"p{number % 3}",
            "box": [1, 2],
        }
        members += [
            (f"./faces/{number:04d}.{extension}", image_bytes((number * 20, 100, 50), extension)),
            (f"./faces/{number:04d}.json", json.dumps(labels).encode()),
            (f"./faces/{number:04d}.cls", str(number % 2).encode()),
        ]
    write_tar(path, members)


def test_foreign_shards(tmp_path: Path) -> None:
    foreign_shard(tmp_path / "faces-train-000.tar", 4)
    foreign_shard(tmp_path / "faces-train-001.tar", 3, start=4, extension="jpeg")
    foreign_shard(tmp_path / "a-validation.tar", 2, start=7)
    dataset = index(tmp_path)
    assert {split: dataset.num_samples(split) for split in dataset.splits} == {"train": 7, "val": 2}
    assert (dataset.image.width, dataset.image.height, dataset.image.channels) == (24, 16, 3)
    assert dataset.keys("train") == [f"faces/{number:04d}" for number in range(7)]
    assert {name: field.kind for name, field in dataset.fields.items()} == {
        "smile": "bool",
        "age": "float",
        "name": "class",
        "cls": "class",
    }
    assert dataset.labels("age", "val").tolist() == [7.5, 8.5]
    assert dataset.labels("smile", "train").tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert "Label 'box' holds lists or objects and was left out." in dataset.manifest.provenance["notes"]
    for number, data in enumerate(Reader(dataset, "train").read(np.arange(7))):
        assert abs(int(decode(data, dataset.image)[8, 8, 0]) - number * 20) <= 3
    assert verify(dataset) == []


def test_shards_written_by_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "shard-0.tar")) as writer:
        for number in range(3):
            pixels = np.full((16, 16, 3), number * 50, np.uint8)
            writer.write({"__key__": f"sample{number}", "png": pixels, "cls": number, "txt": f"word{number}"})
    dataset = index(tmp_path, split="test")
    assert dataset.num_samples("test") == 3 and dataset.image.extension == "png"
    assert dataset.fields["cls"].classes == ("0", "1", "2") and dataset.fields["txt"].kind == "class"
    pixels = [decode(data, dataset.image)[0, 0, 0] for data in Reader(dataset, "test").read(np.arange(3))]
    assert pixels == [0, 50, 100]


def test_gray_and_rgb_together_are_rgb(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [("a.png", image_bytes(9, "png")), ("b.png", image_bytes((1, 2, 3), "png"))])
    dataset = index(tmp_path)
    pixels = [decode(data, dataset.image)[0, 0].tolist() for data in Reader(dataset, "train").read(np.arange(2))]
    assert pixels == [[9, 9, 9], [1, 2, 3]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("a.jpg", image_bytes(1)), ("b.jpg", image_bytes(1, size=(8, 8)))],
            r"'b' has size \(8, 8\) .*shards.pack webdataset",
        ),
        ([("a.jpg", image_bytes(1)), ("b.png", image_bytes(1, "png"))], "'b' has codec png where others have jpg"),
        ([("a.npy", b"123"), ("a.json", b"{}")], "'a' holds no image .npy, json only"),
        ([("a.jpg", b"no image at all")], "'a' is not a readable JPEG"),
        ([("a.png", image_bytes(1))], "'a' is not a readable PNG"),
        ([("a.jpg", image_bytes(1)), ("a.json", b"{broken")], "a.json is not valid; fix or remove it"),
        ([("README", b"x")], "holds no samples"),
    ],
)
def test_unfit_shards_are_one_sentence(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "train.tar", members)
    with pytest.raises(UserError, match=message) as refused:
        index(tmp_path)
    assert not (tmp_path / "dataset.json").exists()
    # Whoever keeps the error keeps no progress line.
    with ProgressLine("next", 2, "images") as progress:
        assert progress.line().startswith("next"), refused


def test_compressed_truncated_and_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no .*tar shards"):
        index(tmp_path)
    path = tmp_path / "train.tar"
    write_tar(path, [("a.jpg", image_bytes(1))], "w:gz")
    with pytest.raises(UserError, match="is compressed .gzip."):
        index(tmp_path)
    foreign_shard(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="is truncated or not a tar file"):
        index(tmp_path)
    path.write_bytes(b"no tar" * 500)
    with pytest.raises(UserError, match="is truncated or not a tar file"):
        index(tmp_path)


def test_compressed_shards_beside_others_are_named(tmp_path: Path) -> None:
    foreign_shard(tmp_path / "train-0.tar")
    write_tar(tmp_path / "train-1.tar.gz", [("a.jpg", image_bytes(1))], "w:gz")
    notes = index(tmp_path).manifest.provenance["notes"]
    assert "Compressed shards are left out (train-1.tar.gz); unpack them to use them." in notes


def test_splits_come_from_names_or_the_option(tmp_path: Path) -> None:
    names = {
        "train-0.tar": "train",
        "faces_valid_3.tar": "val",
        "TEST.tar": "test",
        "000-val.tar": "val",
        "0001.tar": None,
    }
    assert {name: split_of_name(name) for name in names} == names
    foreign_shard(tmp_path / "0001.tar")
    with pytest.raises(UserError, match="pass --split train"):
        index(tmp_path)
    assert index(tmp_path, split="val").num_samples("val") == 4


@pytest.fixture
def own(tmp_path: Path) -> Dataset:
    config = SyntheticConfig(num=20, num_identities=20)
    options = PackOptions(output=tmp_path / "own", size=32, workers=1, codec="raw", samples_per_shard=5)
    return pack_source(SyntheticSource(config, 32), options)


def test_a_lost_index_of_own_shards_is_restored_exactly(own: Dataset) -> None:
    before = {path.name: path.read_bytes() for path in own.root.iterdir()}
    (own.root / "index.safetensors").unlink()
    index(own.root)
    assert {path.name: path.read_bytes() for path in own.root.iterdir()} == before


def as_version_1(root: Path) -> None:
    """Makes the manifest of a data set one of the first format, without checksums of the index."""
    content = json.loads((root / "dataset.json").read_text()) | {"format_version": 1}
    del content["index"]
    (root / "dataset.json").write_text(json.dumps(content))


def test_an_index_without_checksums_is_read_and_gets_them(own: Dataset) -> None:
    path = own.root / "index.safetensors"
    whole, columns = path.read_bytes(), load(path.read_bytes())
    del columns["crc32"]
    path.write_bytes(save(columns))
    as_version_1(own.root)
    older = Dataset(own.root)
    assert older.places("train", np.array([0])).crc32 is None
    assert next(Reader(older, "train").read(np.array([0])))
    assert index(own.root).places("train", np.array([0])).crc32 is not None
    assert path.read_bytes() == whole


def test_changed_shards_need_replace(tmp_path: Path) -> None:
    foreign_shard(tmp_path / "train.tar", 4)
    first = index(tmp_path)
    foreign_shard(tmp_path / "train.tar", 6)
    with pytest.raises(UserError, match="train.tar has .* bytes instead of .*--replace"):
        index(tmp_path)
    second = index(tmp_path, replace=True)
    assert second.num_samples("train") == 6 and second.fingerprint != first.fingerprint
    foreign_shard(tmp_path / "test.tar", 1)
    with pytest.raises(UserError, match="test.tar is not in dataset.json; .*--replace"):
        index(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"format_version": 1, "na', "[]", '{"name": "faces"}', '{"format_version": 1}', '"format_version"']
)
def test_damaged_manifest_is_made_again(tmp_path: Path, text: str) -> None:
    foreign_shard(tmp_path / "train.tar", 4)
    fingerprint = index(tmp_path).fingerprint
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="dataset.json.*; make it again with: python -m shards.index"):
        Dataset(tmp_path)
    assert index(tmp_path).fingerprint == fingerprint


def test_the_manifest_of_a_newer_release_is_refused_in_one_sentence(tmp_path: Path) -> None:
    foreign_shard(tmp_path / "train.tar", 4)
    index(tmp_path)
    path = tmp_path / "dataset.json"
    newer = path.read_text().replace('"format_version": 2', '"format_version": 3')
    path.write_text(newer)
    for read in (Dataset, index):
        with pytest.raises(UserError, match="has format version 3 of a data set.*up to 2; install a newer facegen"):
            read(tmp_path)
    assert path.read_text() == newer


def test_unfinished_packing_is_not_indexed(tmp_path: Path) -> None:
    foreign_shard(tmp_path / "train.tar")
    (tmp_path / ".packing").mkdir()
    with pytest.raises(UserError, match="unfinished packing"):
        index(tmp_path)


def test_verify_names_the_damaged_shards(own: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(own.root), "--verify"])
    assert f"all {len(own.manifest.shards)} shards are intact" in capsys.readouterr().out
    flipped, short, gone = (own.root / shard.name for shard in own.manifest.shards[:3])
    data = bytearray(flipped.read_bytes())
    data[700] ^= 1
    flipped.write_bytes(bytes(data))
    short.write_bytes(short.read_bytes()[:-1])
    gone.unlink()
    with pytest.raises(SystemExit) as stop:
        main([str(own.root), "--verify"])
    printed = capsys.readouterr().out
    assert stop.value.code == 1 and printed.count("\n") == 3
    assert f"{flipped} is damaged" in printed and f"{short} has" in printed and f"{gone} is missing" in printed
