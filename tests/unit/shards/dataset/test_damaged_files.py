"""A ``dataset.json`` or an index that was damaged or comes from somebody else: one sentence, never other labels."""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from shards.base.errors import DamagedFile, UserError
from shards.dataset import index_file, tensor_file
from shards.dataset.dataset import Dataset
from shards.index import index, verify

Columns = dict[str, np.ndarray]


@pytest.fixture
def root(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "data"))


@pytest.fixture(params=[None, 24], ids=["at once", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(tensor_file, "_PIECE_BYTES", request.param)
        monkeypatch.setattr(index_file, "_KEYS_AT_ONCE", 3)


def edit_manifest(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((root / "dataset.json").read_text())
    edit(content)
    (root / "dataset.json").write_text(json.dumps(content))


def edit_index(root: Path, edit: Callable[[Columns], object], has_checksums: bool) -> None:
    """Changes the columns of the index; without checksums, in a data set of format version 1."""
    columns = {name: column.copy() for name, column in load((root / "index.safetensors").read_bytes()).items()}
    edit(columns)
    (root / "index.safetensors").write_bytes(save(columns))
    if not has_checksums:
        edit_manifest(root, lambda content: (content.update(format_version=1), content.pop("index")))


def read_all(root: Path) -> None:
    dataset = Dataset(root)
    for name in dataset.fields:
        dataset.labels(name, "train")
    for name in ("offset", "size"):
        dataset.column(name, "train")
    dataset.places("train", np.array([0]))
    dataset.keys("train")
    dataset.key("train", 3)


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda m: m["shards"][0].update(num_samples="many"), r"shards\[0\].num_samples should be .*, not 'many'"),
        (lambda m: m["shards"][0].update(num_samples=-3), r"shards\[0\].num_samples should be .*, not -3"),
        (lambda m: m["shards"][0].update(num_bytes=10**400), r"shards\[0\].num_bytes should be .*, not 10"),
        (lambda m: m["shards"][0].update(num_samples=10**9), r"the shard .*train.* too few for 1,000,000,000 samples"),
        (lambda m: m["shards"][0].pop("sha256"), r"shards\[0\].sha256 is missing"),
        (lambda m: m["shards"][0].update(split="practice"), "has the split 'practice', not one of train"),
        (lambda m: m["shards"].reverse(), "not in the order of their splits"),
        (lambda m: m["image"].update(height=3.5), "image.height should be .*, not 3.5"),
        (lambda m: m["image"].update(width=0), "image.width should be .*, not 0"),
        (lambda m: m["image"].update(colour=1), "image.colour is not a field of this file"),
        (lambda m: m["fields"]["skin"].update(kind="bool"), "has the fingerprint .*, not '"),
        (lambda m: m["fields"]["identity"].update(classes=["a", "a"]), "names a class twice"),
        (lambda m: m.pop("identity_field"), "identity_field is missing"),
        (lambda m: m.pop("index"), "index is missing"),
        (lambda m: m.update(fields=[]), "fields should be an object, not"),
        (lambda m: m.update(identity_field="nobody"), "identity_field is 'nobody', which is not a field"),
        (lambda m: m.update(fingerprint="0123456789abcdef"), "has the fingerprint .*, not '0123456789abcdef'"),
        (lambda m: m.update(provenance={"skipped": 3}), "provenance.skipped should be an object"),
        (lambda m: m["provenance"].update(notes=[3]), r"provenance.notes\[0\] should be a valid string, not 3"),
        (lambda m: m["index"].popitem(), "index does not name the columns"),
    ],
)
def test_a_damaged_manifest_is_named_with_field_and_value(
    root: Path, edit: Callable[[dict[str, Any]], object], finding: str
) -> None:
    edit_manifest(root, edit)
    with pytest.raises(DamagedFile, match=rf"dataset.json: .*{finding}.*; make it again with: python -m shards.index"):
        Dataset(root)


@pytest.mark.parametrize("text", [b"\xff", b"[" * 100_000, b"9" * 5000, b"\x00"])
def test_a_manifest_that_is_not_json(root: Path, text: bytes) -> None:
    (root / "dataset.json").write_bytes(text)
    with pytest.raises(DamagedFile, match=r"dataset.json is not (JSON|UTF-8).*; make it again"):
        Dataset(root)


def swap(columns: Columns) -> None:
    columns["label.skin"], columns["label.age"] = columns["label.age"], columns["label.skin"]


def flip_a_bit(columns: Columns) -> None:
    columns["label.identity"][5] ^= 1


def test_labels_that_changed_are_noticed_by_their_checksum(root: Path, pieces: None) -> None:
    assert verify(Dataset(root)) == []
    for edit, column in ((swap, "label.skin"), (flip_a_bit, "label.identity")):
        edit_index(root, edit, has_checksums=True)
        with pytest.raises(DamagedFile, match=f"its column {column} .* checksum differs; make it again with: python"):
            read_all(root)
        [finding] = verify(Dataset(root))
        assert column in finding
        index(root)
        read_all(root)


def set_value(name: str, row: int, value: object) -> Callable[[Columns], None]:
    def edit(columns: Columns) -> None:
        columns[name][row] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (lambda c: c.pop("label.skin"), "label.skin cannot be read"),
        (lambda c: c.pop("offset"), "offset cannot be read"),
        (lambda c: c.update(offset=c["offset"].astype(np.int32)), "offset is int32"),
        (lambda c: c.update(size=c["size"][:-1]), "size has 255 rows for 256 samples"),
        (lambda c: c.update(size=c["size"][:, None]), "size is int32 with 2 dims"),
        (set_value("offset", 3, -1), "offset leads outside the shard"),
        (set_value("size", 3, 2**31 - 1), "size leads outside the shard"),
        (set_value("label.lipstick", 3, 2), "label.lipstick holds .* to 2"),
        (set_value("label.identity", 3, 1_000_000), "label.identity holds .* to 1000000"),
        (set_value("label.identity", 3, -2), "label.identity holds -2"),
        (set_value("key_end", 3, 0), "key_end does not rise"),
        (set_value("key_end", -1, 10**9), "its keys are not whole"),
        (set_value("key_bytes", 3, 0xFF), "its keys are not whole"),
    ],
)
def test_columns_without_checksums_are_checked(
    root: Path, pieces: None, edit: Callable[[Columns], object], finding: str
) -> None:
    edit_index(root, edit, has_checksums=False)
    with pytest.raises(DamagedFile, match=f"index.safetensors .*{finding}.*; make it again with: python -m shards.in"):
        read_all(root)


def test_columns_stay_in_the_file_and_nobody_can_change_them(root: Path) -> None:
    dataset = Dataset(root)
    dataset.check_index()
    columns = [dataset.column("offset", "train"), *(dataset.labels(name, "train") for name in dataset.fields)]
    assert not any(column.flags.owndata or column.flags.writeable for column in columns)
    assert all(isinstance(root_of(column), mmap.mmap) for column in columns)
    whole = load((root / "index.safetensors").read_bytes())
    (root / "index.safetensors").unlink()  # Another file may take its name: what is open stays.
    for name in dataset.fields:
        np.testing.assert_array_equal(dataset.labels(name, "train"), whole[f"label.{name}"][dataset.rows("train")])


def root_of(array: np.ndarray) -> object:
    while isinstance(array, np.ndarray):
        array = array.base  # type: ignore[assignment]
    return array


def test_an_index_that_is_not_one(root: Path) -> None:
    whole = (root / "index.safetensors").read_bytes()
    for content in (b"", whole[:-1], whole[:100], (2**60).to_bytes(8, "little") + whole[8:]):
        (root / "index.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="index.safetensors .*cannot be read"):
            read_all(root)


def test_a_restored_index_gets_checksums(root: Path) -> None:
    edit_index(root, lambda columns: None, has_checksums=False)
    assert not Dataset(root).manifest.index
    assert index(root).manifest.index == Dataset(root).manifest.index != {}


def test_labels_of_shards_that_the_manifest_does_not_know(root: Path) -> None:
    def forget(content: dict[str, Any]) -> None:
        content["fields"]["eye_color"]["classes"][0] = "other"
        content["fingerprint"] = None

    edit_manifest(root, forget)
    content = json.loads((root / "dataset.json").read_text())
    with pytest.raises(DamagedFile, match="has the fingerprint ") as error:
        Dataset(root)
    content["fingerprint"] = str(error.value).split("has the fingerprint ")[1][:16]
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="label 'eye_color': class labels .* are not among .*--replace"):
        index(root)
