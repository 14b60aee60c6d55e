"""Sources: what they find, which labels they join, and what they say about what does not match."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from field_trees import TREES
from shards.base.errors import UserError
from shards.dataset.label_types import convert, infer_field, sorted_names
from shards.sources import SOURCES
from shards.sources.base import Source
from shards.sources.celeba import CelebaConfig, CelebaSource
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.lfw import LFWCROP_BOX, LfwConfig, open_lfw

SHARED_DATA = Path(__file__).resolve().parents[5] / "shared" / "data"


def image_file(path: Path, size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def items(source: Source) -> dict[str, dict]:
    return {source[position].key: dict(source[position].labels) for position in range(len(source))}


def lfw_tree(root: Path) -> Path:
    tree = root / "lfw-deepfunneled"
    for name in ("Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002", "Bo/Bo_0001"):
        image_file(tree / f"{name}.jpg", (250, 250))
    (tree / "Bo" / "Thumbs.db").write_text("x")
    return tree


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_lfw_is_found_at_any_level(tmp_path: Path, depth: int) -> None:
    lfw_tree(tmp_path / "data")
    given = [tmp_path / "data" / "lfw-deepfunneled", tmp_path / "data", tmp_path][depth]
    source = open_lfw(LfwConfig(given))
    assert items(source) == {
        "Ann_Lee_0001": {"identity": "Ann_Lee"},
        "Ann_Lee_0002": {"identity": "Ann_Lee"},
        "Bo_0001": {"identity": "Bo"},
    }
    assert source.fields["identity"].classes == ("Ann_Lee", "Bo")
    assert source.load(source[0]).size == (250, 250)
    left, upper, right, lower = LFWCROP_BOX
    # LFWcrop names its corner pixels, both included; the crop's right and lower edge lie one beyond.
    assert (left, upper, right - 1, lower - 1) == (83, 92, 166, 175)


def test_missing_lfw_says_what_was_looked_for(tmp_path: Path) -> None:
    image_file(tmp_path / "holiday" / "beach.jpg")
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no LFW tree at .*Aaron_Eckhart_0001.jpg"):
            open_lfw(LfwConfig(root))


def celeba_files(root: Path, csv: bool = False) -> None:
    for number in (1, 2, 3, 10):
        image_file(root / "img_align_celeba" / f"{number:06d}.jpg", (178, 218))
    if csv:
        (root / "list_attr_celeba.csv").write_text(
            "image_id,Smiling,Male\n000001.jpg,1,-1\n000002.jpg,-1,1\n000099.jpg,1,1\n"
        )
        (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,0\n000002.jpg,1\n000003.jpg,2\n")
        return
    (root / "list_attr_celeba.txt").write_text("3\nSmiling Male \n000001.jpg  1 -1\n000002.jpg -1  1\n000099.jpg 1 1\n")
    (root / "identity_CelebA.txt").write_text("000001.jpg 7\n000002.jpg 7\n000003.jpg 12\n")
    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")


@pytest.mark.parametrize("nested", [False, True])
def test_celeba_text_files(tmp_path: Path, nested: bool) -> None:
    celeba_files(tmp_path / "celeba")
    source = CelebaSource(CelebaConfig(tmp_path if nested else tmp_path / "celeba"))
    assert items(source) == {
        "000001": {"Smiling": True, "Male": False, "identity": "7"},
        "000002": {"Smiling": False, "Male": True, "identity": "7"},
        "000003": {"Smiling": None, "Male": None, "identity": "12"},
        "000010": {"Smiling": None, "Male": None, "identity": None},
    }
    assert [source[position].partition for position in range(4)] == ["train", "val", "test", None]
    assert source.fields["identity"].classes == ("7", "12") and source.identity_field == "identity"
    assert source.provenance["notes"] == [
        "2 images have no row in list_attr_celeba.txt, so they lack attributes.",
        "1 rows of list_attr_celeba.txt name images that are not there.",
        "1 images have no row in identity_CelebA.txt, so they lack an identity.",
        "1 images have no row in list_eval_partition.txt, so they lack a partition.",
    ]


def test_celeba_csv_files_and_missing_identities(tmp_path: Path) -> None:
    celeba_files(tmp_path, csv=True)
    source = CelebaSource(CelebaConfig(tmp_path))
    assert source[0].labels == {"Smiling": True, "Male": False}
    assert source[1].partition == "val"
    assert source.identity_field is None
    assert "No identity_CelebA.txt or .csv was found." in source.provenance["notes"]


def test_celeba_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CelebA images at .*000001.jpg"):
        CelebaSource(CelebaConfig(tmp_path))
    celeba_files(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("2\nSmiling Male\n000001.jpg 1 yes\n")
    with pytest.raises(UserError, match="not in CelebA's format"):
        CelebaSource(CelebaConfig(tmp_path))
    (tmp_path / "list_attr_celeba.txt").write_text("2\nSmiling Male\n000001.jpg 1 1 1\n")
    with pytest.raises(UserError, match="names 2 columns and has 3"):
        CelebaSource(CelebaConfig(tmp_path))


def test_a_celeba_table_of_other_images_is_refused(tmp_path: Path) -> None:
    celeba_files(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("1\nSmiling Male\n000077.jpg 1 -1\n")
    with pytest.raises(UserError, match="no row of list_attr_celeba.txt names one of the .* images"):
        CelebaSource(CelebaConfig(tmp_path))


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the real label files in ../shared")
def test_celeba_real_label_format(tmp_path: Path) -> None:
    names = [f"celeba/img_align_celeba/{number:06d}.jpg" for number in (1, 2, 3)]
    with tarfile.open(SHARED_DATA / "celeba10k.tar") as tar:
        tar.extractall(
            tmp_path, [tar.getmember(name) for name in (*names, "celeba/list_attr_celeba.txt")], filter="data"
        )
    source = CelebaSource(CelebaConfig(tmp_path))
    assert len(source.fields) == 40
    assert source[0].labels["Smiling"] is True and source[0].labels["Male"] is False


def folder_with_labels(root: Path) -> None:
    for name in ("a/1.jpg", "a/2.png", "b/3.JPG", "b/deep/4.webp", "5.jpg"):
        image_file(root / name)
    (root / "notes.txt").write_text("x")
    (root / "a" / "._1.jpg").write_bytes(b"resource fork")


def test_folder_of_classes(tmp_path: Path) -> None:
    folder_with_labels(tmp_path)
    source = FolderSource(FolderConfig(tmp_path))
    assert items(source) == {
        "5": {"class": None},
        "a/1": {"class": "a"},
        "a/2": {"class": "a"},
        "b/3": {"class": "b"},
        "b/deep/4": {"class": "b"},
    }
    assert source.identity_field is None
    left_out, hint = source.provenance["notes"]
    assert left_out.startswith("2 files do not have the name of an image") and left_out.endswith("a/._1.jpg, notes.txt")
    assert "--subfolders identity" in hint


def test_folder_of_persons_and_ignored_folders(tmp_path: Path) -> None:
    folder_with_labels(tmp_path)
    source = FolderSource(FolderConfig(tmp_path, subfolders="identity"))
    assert source.identity_field == "identity" and source.fields["identity"].classes == ("a", "b")
    assert FolderSource(FolderConfig(tmp_path, subfolders="ignore")).fields == {}


CSV = "file,smile,degree,mood,identity\na/1.jpg,1,0.5,glad,7\n2,-1,,sad,8\n3.JPG,1,-0.25,na,7\nlost.jpg,1,1,sad,9\n"
JSONL = "\n".join(
    json.dumps(row)
    for row in (
        {"file": "a/1.jpg", "smile": True, "degree": 0.5, "mood": "glad", "identity": 7},
        {"file": "2", "smile": False, "degree": None, "mood": "sad", "identity": 8},
        {"file": "3.JPG", "smile": True, "degree": -0.25, "identity": 7},
        {"file": "lost.jpg", "smile": True, "degree": 1, "mood": "sad", "identity": 9},
    )
)


@pytest.mark.parametrize(
    ("name", "text"), [("labels.csv", CSV), ("labels.jsonl", JSONL), ("l.tsv", CSV.replace(",", "\t"))]
)
def test_folder_labels_are_joined_and_typed(tmp_path: Path, name: str, text: str) -> None:
    folder_with_labels(tmp_path)
    (tmp_path / name).write_text(text)
    source = FolderSource(FolderConfig(tmp_path, labels=Path(name), subfolders="ignore"))
    assert {field: label.kind for field, label in source.fields.items()} == {
        "smile": "bool",
        "degree": "float",
        "mood": "class",
        "identity": "class",
    }
    found = items(source)
    assert found["a/1"] == {"smile": True, "degree": 0.5, "mood": "glad", "identity": "7"}
    assert found["a/2"] == {"smile": False, "degree": None, "mood": "sad", "identity": "8"}
    assert found["b/3"] == {"smile": True, "degree": -0.25, "mood": None, "identity": "7"}
    assert set(found["5"].values()) == {None}
    assert source.identity_field == "identity"
    assert f"1 rows of {name} match no image: lost.jpg" in source.provenance["notes"]
    assert f"2 images have no row in {name}: 5.jpg, b/deep/4.webp" in source.provenance["notes"]
    assert not any(name in note and "the name of an image" in note for note in source.provenance["notes"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x\nnobody.jpg,1\n", "no row of labels.csv names an image"),
        ("file,x\na/1.jpg,1,2\n", "row 2 has 3 cells, the header 2"),
        ("file,x\na/1.jpg,1\n1.jpg,0\n", "two rows for a/1.jpg"),
        ("file,file\na/1.jpg,1\n", "name every column"),
        ("", "holds no rows"),
    ],
)
def test_folder_label_mistakes(tmp_path: Path, text: str, message: str) -> None:
    folder_with_labels(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv")))


def test_folder_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image files below"):
        FolderSource(FolderConfig(tmp_path))
    with pytest.raises(UserError, match="is not a folder"):
        FolderSource(FolderConfig(tmp_path / "nowhere"))
    folder_with_labels(tmp_path)
    image_file(tmp_path / "b" / "1.jpg")
    with pytest.raises(UserError, match="there is no label file none.csv"):
        FolderSource(FolderConfig(tmp_path, labels=Path("none.csv")))
    (tmp_path / "labels.csv").write_text("file,x\n1.jpg,1\n")
    with pytest.raises(UserError, match="'1.jpg' in labels.csv matches 2 images, such as a/1.jpg and b/1.jpg"):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv")))
    with pytest.raises(UserError, match="no column 'name'.*it has file, x"):
        FolderSource(FolderConfig(tmp_path, labels=Path("labels.csv"), label_key="name"))


def test_folder_keys_stay_unique_beside_equal_stems(tmp_path: Path) -> None:
    image_file(tmp_path / "a.jpg")
    image_file(tmp_path / "a.png")
    assert list(items(FolderSource(FolderConfig(tmp_path)))) == ["a.jpg", "a.png"]


def test_folder_follows_links_once(tmp_path: Path) -> None:
    image_file(tmp_path / "elsewhere" / "1.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked" / "loop").symlink_to(root)
    assert list(items(FolderSource(FolderConfig(root)))) == ["linked/1"]


@pytest.mark.parametrize(
    ("values", "kind", "converted"),
    [
        (["1", "0", None], "bool", [True, False, None]),
        (["-1", "1", "1"], "bool", [False, True, True]),
        (["TRUE", "false", "True"], "bool", [True, False, True]),
        ([True, False, None], "bool", [True, False, None]),
        (["0.5", "1", "-3e2"], "float", [0.5, 1.0, -300.0]),
        ([1.0, 0.0, float("nan")], "float", [1.0, 0.0, None]),
        (["2", "1", "0"], "float", [2.0, 1.0, 0.0]),
        (["a", "1", None], "class", ["a", "1", None]),
        ([None, None, None], "class", [None, None, None]),
    ],
)
def test_label_inference(values: list, kind: str, converted: list) -> None:
    field = infer_field("x", values)
    assert field is not None and field.kind == kind
    assert convert(values, field.kind) == converted


def test_free_text_is_not_a_class_but_persons_are() -> None:
    texts = [f"caption {number}" for number in range(100)]
    assert infer_field("caption", texts) is None
    field = infer_field("person", [str(number) for number in range(100)])
    assert field is not None and field.kind == "class" and field.classes[:3] == ("0", "1", "2")
    assert sorted_names({"10", "9", "b"}) == ("10", "9", "b")


def test_every_registered_source_fits_the_protocol(tmp_path: Path) -> None:
    celeba_files(tmp_path / "celeba")
    folder_with_labels(tmp_path / "folder")
    for name, make in TREES.items():
        make(tmp_path / name)
    for name, entry in SOURCES.items():
        if name == "hf":  # Has its own test in test_hf_source.py.
            continue
        assert not entry.takes_input or (tmp_path / name).is_dir(), f"add a small tree of {name} to field_trees.TREES"
        inputs = (
            {"input": tmp_path / name} if "input" in {f.name for f in dataclasses.fields(entry.config_class)} else {}
        )
        source = pickle.loads(pickle.dumps(entry.open(entry.config_class(**inputs), 32)))
        assert source.name == name and len(source) > 0
        item = source[0]
        assert set(item.labels) == set(source.fields)
        assert np.asarray(source.load(item)).shape[2:] in ((3,), ())
        assert str(tmp_path) not in json.dumps(source.provenance)
